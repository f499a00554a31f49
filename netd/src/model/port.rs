//! Published ports: `-p`'s grammar and what it becomes.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One `-p`: `[HOST_IP:][HOST[-END]]:CTR[-END][/tcp|udp|sctp][,from=CIDR]…`,
/// or `CTR` alone (Docker's grammar: docker/go-connections, `nat/nat.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    pub host_ip: Option<IpAddr>,
    /// `None`: any free port. A range with a single container port: any free
    /// port of the range.
    pub host: Option<RangeInclusive<u16>>,
    pub container: RangeInclusive<u16>,
    pub protocol: Protocol,
    pub from: Vec<IpNetwork>,
}

/// One published port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// `0.0.0.0` for every address of the host.
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
    pub from: Vec<IpNetwork>,
}
