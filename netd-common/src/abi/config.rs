//! `CONFIG` (one entry) and `UPLINKS`.

use super::{Address, Mac, pod};

/// An inclusive range of ports, host byte order; empty when `last < first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
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
