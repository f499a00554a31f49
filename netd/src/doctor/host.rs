//! The files of /proc and /sys that the checks read.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnetwork::IpNetwork;
use nix::ifaddrs::getifaddrs;

use crate::kernel::names;

/// Where the host's /proc and /sys are.
#[derive(Clone, Debug)]
pub struct Host {
    proc: PathBuf,
    sys: PathBuf,
    /// Hardware addresses of this namespace's links. /sys shows the links of
    /// the namespace that it was mounted in, which may be another.
    macs: BTreeMap<String, [u8; 6]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) link: String,
    pub(super) destination: IpNetwork,
}

impl Host {
    /// The host that this process runs on.
    pub fn here() -> Self {
        Self { macs: macs(), ..Self::at("/proc", "/sys") }
    }

    pub fn at(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), sys: sys.into(), macs: BTreeMap::new() }
    }

    /// A file below /proc, trimmed. `None`: it is not there, or not for us.
    pub(super) fn proc(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.proc.join(path)).ok()?.trim().to_owned())
    }

    pub(super) fn sys(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.sys.join(path)).ok()?.trim().to_owned())
    }

    pub(super) fn sys_exists(&self, path: &str) -> bool {
        self.sys.join(path).exists()
    }

    /// Whether the kernel has nftables in it, so that asking `nft` loads
    /// nothing: as a loaded module, or without modules at all.
    pub fn has_nftables(&self) -> bool {
        self.sys_exists("module/nf_tables") || !self.proc.join("modules").exists()
    }

    /// Whether legacy iptables' filter table is loaded.
    pub fn has_iptables_filter(&self) -> bool {
        self.proc("net/ip_tables_names")
            .is_some_and(|tables| tables.lines().any(|table| table == "filter"))
    }

    /// Mount points of a file system type.
    pub(super) fn mounts(&self, kind: &str) -> Vec<String> {
        self.proc("self/mounts")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let point = fields.next()?;
                (fields.next()? == kind).then(|| point.to_owned())
            })
            .collect()
    }

    /// The main tables' routes, both families, but for those of netd's links
    /// and the kernel's own (loopback, link-local, multicast).
    pub(super) fn foreign_routes(&self) -> Vec<Route> {
        let mut routes = self.routes4();
        routes.extend(self.routes6());
        routes.retain(|route| route.link != "lo" && !self.is_ours(&route.link));
        routes
    }

    /// netd's links say so in their alias, and its bridges by their address.
    fn is_ours(&self, link: &str) -> bool {
        self.macs.get(link).is_some_and(|mac| names::is_bridge_mac(*mac))
            || self
                .sys(&format!("class/net/{link}/ifalias"))
                .is_some_and(|alias| alias.starts_with("netd "))
    }

    pub(super) fn is_bridge(&self, link: &str) -> bool {
        self.sys_exists(&format!("class/net/{link}/bridge"))
    }

    /// `/proc/net/route`: addresses as host-order hex of big-endian memory.
    fn routes4(&self) -> Vec<Route> {
        let text = self.proc("net/route").unwrap_or_default();
        text.lines()
            .skip(1)
            .filter_map(|line| {
                let fields: Vec<_> = line.split_ascii_whitespace().collect();
                let word = |index: usize| {
                    let word = u32::from_str_radix(fields.get(index)?, 16).ok()?;
                    Some(Ipv4Addr::from(word.to_ne_bytes()))
                };
                let prefix = u32::from(word(7)?).count_ones();
                Some(Route {
                    link: (*fields.first()?).to_owned(),
                    destination: IpNetwork::new(IpAddr::V4(word(1)?), u8::try_from(prefix).ok()?)
                        .ok()?,
                })
            })
            .collect()
    }

    /// `/proc/net/ipv6_route`: all tables; 32 hex digits, then the prefix.
    fn routes6(&self) -> Vec<Route> {
        let text = self.proc("net/ipv6_route").unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let fields: Vec<_> = line.split_ascii_whitespace().collect();
                let address = u128::from_str_radix(fields.first()?, 16).ok()?;
                let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
                let address = Ipv6Addr::from(address);
                if address.is_multicast() || address.is_unicast_link_local() {
                    return None;
                }
                Some(Route {
                    link: (*fields.last()?).to_owned(),
                    destination: IpNetwork::new(IpAddr::V6(address), prefix).ok()?,
                })
            })
            .collect()
    }
}

fn macs() -> BTreeMap<String, [u8; 6]> {
    let addresses = getifaddrs().into_iter().flatten();
    addresses
        .filter_map(|entry| Some((entry.interface_name, entry.address?.as_link_addr()?.addr()?)))
        .collect()
}
