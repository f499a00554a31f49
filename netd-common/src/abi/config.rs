//! `CONFIG` (one entry) and `UPLINKS`.

use super::{Address, Mac, pod};

/// An inclusive range of ports, host byte order; empty when `last < first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub const EMPTY: Self = Self { first: 1, last: 0 };

    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// The one value of `CONFIG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// [`super::ABI_VERSION`]; 0 until the agent has written it.
    pub abi: u32,
    /// Raised on each change of routes, at most eight times a second: a wrap
    /// then takes longer than any flow may idle.
    pub route_generation: u16,
    pub pad: u16,
    /// Ports for SNAT: below and above the host's `ip_local_port_range`.
    pub snat_low: PortRange,
    pub snat_high: PortRange,
    /// Seed of the hash that picks where the search for a SNAT port starts.
    pub seed: u32,
    /// `Config::*` bits.
    pub features: u32,
    /// Cookie of the agent's network namespace (`SO_NETNS_COOKIE`): sockets of
    /// other namespaces are left alone. 0: not known, all are.
    pub netns_cookie: u64,
}

impl Config {
    /// `bpf_fib_lookup` knows `BPF_FIB_LOOKUP_SRC` (Linux 6.7, commit
    /// dab4e1f06cabb).
    pub const FIB_SRC: u32 = 1;
    /// Someone reads `EVENTS`.
    pub const MONITOR: u32 = 1 << 1;
    /// A UDP port has an allow-list: XDP has to look at UDP too.
    pub const UDP_LISTED: u32 = 1 << 2;
    /// `snat_low` and `snat_high` are as they were when the first flow began:
    /// whatever has a port of SNAT's has one of these.
    pub const SNAT_PORTS_KEPT: u32 = 1 << 3;

    /// The lowest port that SNAT may use: below are the well-known ones.
    const FIRST_PORT: u16 = 1024;

    /// Leaves the ports from `first` to `last` (host byte order) to sockets, and
    /// the others to SNAT. Flows keep those that they have.
    pub fn leave_ports(&mut self, (first, last): (u16, u16)) {
        let before = (self.snat_low, self.snat_high);
        self.snat_low = PortRange { first: Self::FIRST_PORT, last: first.saturating_sub(1) };
        self.snat_high = match last.checked_add(1) {
            Some(first) => PortRange { first, last: u16::MAX },
            None => PortRange::EMPTY,
        };
        if self.abi == 0 {
            self.features |= Self::SNAT_PORTS_KEPT;
        } else if before != (self.snat_low, self.snat_high) {
            self.features &= !Self::SNAT_PORTS_KEPT;
        }
    }

    /// Whether SNAT gives `port` (host byte order) to flows.
    #[must_use]
    pub const fn is_of_snat(&self, port: u16) -> bool {
        self.snat_low.contains(port) || self.snat_high.contains(port)
    }
}

/// Value of `UPLINKS`, by ifindex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Uplink {
    /// Source of masqueraded packets where the route names none.
    pub addr4: Address,
    pub addr6: Address,
    /// `Uplink::*` bits.
    pub flags: u32,
    /// The link's own.
    pub mac: Mac,
    pub pad: u16,
}

impl Uplink {
    /// Its packets have been through `uplink_xdp`, which counts SYNs.
    pub const XDP: u32 = 1;
    /// A bridge of another's containers or virtual machines, whose gateway the
    /// host is. The host's own rules say what reaches them, and may translate
    /// it; so it goes by the stack both ways, under its own address.
    pub const GUESTS: u32 = 1 << 1;
    /// `addr6` is the source that the kernel would choose (RFC 6724 §5, rule 5:
    /// the one address of the link that it leaves by), so there is no need to
    /// have it weigh the addresses of every link for each flow.
    pub const FIXED_SOURCE6: u32 = 1 << 2;
}

pod!(PortRange: 4, Config: 32, Uplink: 44);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_snat_are_kept_until_they_change() {
        let mut config = Config::default();
        config.leave_ports((32_768, 60_999));
        config.abi = super::super::ABI_VERSION;
        config.leave_ports((32_768, 60_999));
        assert_eq!(config.features, Config::SNAT_PORTS_KEPT);
        for (port, of_snat) in
            [(1023, false), (1024, true), (32_767, true), (32_768, false), (60_999, false)]
        {
            assert_eq!(config.is_of_snat(port), of_snat, "{port}");
        }
        assert!(config.is_of_snat(61_000) && config.is_of_snat(u16::MAX));
        config.leave_ports((1024, u16::MAX));
        assert_eq!(config.features, 0);
        assert!(![0, 1023, 1024, u16::MAX].into_iter().any(|port| config.is_of_snat(port)));
        config.leave_ports((32_768, 60_999));
        assert_eq!(config.features, 0, "flows of the other time may live on");
    }
}
