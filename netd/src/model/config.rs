//! `netd.json` (DESIGN §5.1): every key, its default and its check.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// The agent's configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The default bridge's own address and prefix.
    pub bip: Option<Bip>,
    pub fixed_cidr: Option<IpNetwork>,
    pub default_gateway: Option<IpAddr>,
    /// `None`: the default route's.
    pub mtu: Option<u32>,
    pub icc: bool,
    pub ip_masq: bool,
    pub ipv6: bool,
    pub default_address_pools: Vec<AddressPool>,
    /// Default host address of `-p`.
    pub ip: IpAddr,
    /// `None`: every interface that is not netd's own.
    pub uplinks: Option<Vec<String>>,
    pub xdp: Xdp,
    pub flow_table_size: u32,
    pub metrics_address: Option<std::net::SocketAddr>,
    /// `None`: off; the path otherwise.
    pub docker_plugin: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bip {
    /// A host address of its subnet.
    Address(IpNetwork),
    /// 172.C.D.1/24 of the host's own A.B.C.D.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    pub base: IpNetwork,
    /// Prefix length of the subnets cut from it.
    pub size: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    Auto,
    Native,
    Generic,
    Off,
}
