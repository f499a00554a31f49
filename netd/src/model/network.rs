//! Networks as they are stored, and how a request becomes one.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Id, IfName, Mac, Name};

/// The default network's name and device.
pub const DEFAULT_NETWORK: &str = "bridge";
pub const DEFAULT_BRIDGE: &str = "netd0";

/// A network: valid, complete, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: Id,
    pub name: Name,
    /// The datapath's key of this network; never 0, never used twice at a time.
    pub index: u32,
    pub bridge: IfName,
    pub bridge_mac: Mac,
    pub mtu: u32,
    /// One per family, IPv4 first.
    pub pools: Vec<Pool>,
    pub internal: bool,
    pub ipv6: bool,
    pub icc: bool,
    pub masquerade: bool,
    /// Host address of a published port that names none.
    pub host_binding: IpAddr,
    /// Prefix of the interface's name inside a container.
    pub container_prefix: String,
    /// As the user gave them, for `inspect`.
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub created: String,
}

/// A subnet and what is set aside in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network address and prefix.
    pub subnet: IpNetwork,
    /// Where automatic addresses come from; within `subnet`.
    pub ip_range: Option<IpNetwork>,
    /// The bridge's address; the container's default route, unless
    /// `default_gateway` says otherwise.
    pub gateway: IpAddr,
    /// Containers' default route, if not `gateway` (`default-gateway`).
    pub default_gateway: Option<IpAddr>,
    /// Addresses that are not netd's to give.
    pub aux: BTreeMap<String, IpAddr>,
}
