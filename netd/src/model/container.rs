//! Containers and their endpoints, as stored.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Id, IfName, Mac, Name, PortMapping};

/// How a container is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A sandbox with `lo` only.
    None,
    /// The host's own namespace.
    Host,
    /// The sandbox of another container.
    Container(Id),
    /// A sandbox with an endpoint on each of `Container::endpoints`' networks.
    Networks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// The sandbox is ready, no process yet.
    Created,
    Running(Process),
    /// Alive, in a sandbox that another program made and minds ([`Owner`]).
    Joined,
    /// 128 + N: ended by signal N. `None`: nobody saw how it ended.
    Exited {
        code: Option<i32>,
    },
}

/// A process that a reused pid can't be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The supervising shim.
    pub shim: u32,
    /// The container's own command.
    pub pid: u32,
    /// The shim's start time, field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// Who made a network or a container, and alone removes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    #[default]
    Netd,
    /// dockerd, by its plugin protocol.
    Docker,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Of a container that is another's: its own id and name where they are
    /// known, and else those of an endpoint.
    pub id: Id,
    pub name: Name,
    #[serde(default)]
    pub owner: Owner,
    pub mode: Mode,
    pub state: ContainerState,
    pub command: Vec<String>,
    /// Removed when its process ends (`--rm`).
    pub auto_remove: bool,
    /// Namespace file: a bind mount of its own, another container's, the
    /// host's, or another program's; empty where that one has made none yet.
    pub netns: PathBuf,
    pub endpoints: Vec<Endpoint>,
    /// RFC 3339, UTC.
    pub created: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: Id,
    pub network: Id,
    /// Address and the subnet's prefix.
    pub address: IpNetwork,
    pub address6: Option<IpNetwork>,
    pub mac: Mac,
    /// Host-side veth.
    pub host_link: IfName,
    /// Name inside the container; outside of it, until its runtime has moved and
    /// renamed it, where the container is another program's.
    pub container_link: IfName,
    /// This endpoint carries the container's default route of IPv4.
    pub default_route: bool,
    /// And of IPv6: another endpoint may, where the first has none.
    #[serde(default)]
    pub default_route6: bool,
    /// The annex that its host side is in; 0: the network's own bridge.
    #[serde(default)]
    pub annex: u8,
    pub ports: Vec<PortMapping>,
}

impl Container {
    /// Where netd itself makes and furnishes interfaces; `None`: another
    /// program moves them from the host's namespace to the container's.
    pub fn own_netns(&self) -> Option<&Path> {
        (self.owner == Owner::Netd).then_some(&self.netns)
    }
}

impl Endpoint {
    /// IPv4's, then IPv6's.
    pub fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        std::iter::once(self.address).chain(self.address6)
    }

    /// What the datapath knows it by: its addresses, and with IPv6 the
    /// link-local one that is made of its MAC.
    pub fn known_as(&self) -> impl Iterator<Item = IpAddr> {
        let link_local = self.address6.map(|_| self.mac.link_local().into());
        self.addresses().map(|address| address.ip()).chain(link_local)
    }

    /// The address that a mapping leads to, of the same family.
    pub fn target(&self, mapping: &PortMapping) -> IpAddr {
        self.addresses()
            .map(|address| address.ip())
            .find(|ip| ip.is_ipv4() == mapping.host_ip.is_ipv4())
            .unwrap_or_else(|| self.address.ip())
    }
}
