//! What netd knows to be true, and how it changes.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::{
    Config, Container, Id, IfName, IpamPool, Network, PoolId, Protocol, config::AddressPool,
};

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub networks: BTreeMap<Id, Network>,
    pub containers: BTreeMap<Id, Container>,
    /// Those that Docker's networks draw from, where netd is their IPAM driver.
    pub pools: BTreeMap<PoolId, IpamPool>,
}

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    PutNetwork(Network),
    RemoveNetwork(Id),
    PutContainer(Container),
    RemoveContainer(Id),
    /// A pool as it is made: its leases are changes of their own.
    PutPool(IpamPool),
    /// With its leases.
    RemovePool(PoolId),
    Lease(PoolId, IpAddr),
    Release(PoolId, IpAddr),
}

/// What the controller must know of the host, observed before each plan.
#[derive(Clone, Debug)]
pub struct Host {
    pub config: Config,
    /// Every link's name.
    pub links: Vec<IfName>,
    /// The main table's routes, netd's own excluded.
    pub routes: Vec<HostRoute>,
    /// Addresses of links that are not netd's own.
    pub addresses: Vec<(IfName, IpNetwork)>,
    /// Where IPv6 subnets are cut from, unless the configuration says: a site
    /// of this host's own.
    pub ula: AddressPool,
    /// MTU of the default route's link, 1500 without one.
    pub default_mtu: u32,
    /// `ip_local_port_range`, inclusive.
    pub ephemeral: (u16, u16),
    /// `ip_local_reserved_ports`, and ports that a bind has just refused.
    pub avoid_ports: Vec<(Protocol, u16)>,
    pub reserved_ports: Vec<std::ops::RangeInclusive<u16>>,
    /// Where namespaces are bound: `DIR/netns`.
    pub netns_dir: PathBuf,
    /// Where containers' run directories are.
    pub containers_dir: PathBuf,
    /// The agent's own namespace file.
    pub host_netns: PathBuf,
    /// RFC 3339, UTC.
    pub now: String,
    /// Fresh random bytes, as many ids as a plan may need.
    pub fresh_ids: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    pub destination: IpNetwork,
    pub gateway: Option<IpAddr>,
    pub link: String,
}

impl State {
    pub fn commit(&mut self, change: Change) {
        match change {
            Change::PutNetwork(network) => {
                self.networks.insert(network.id.clone(), network);
            }
            Change::RemoveNetwork(id) => {
                self.networks.remove(&id);
            }
            Change::PutContainer(container) => {
                self.containers.insert(container.id.clone(), container);
            }
            Change::RemoveContainer(id) => {
                self.containers.remove(&id);
            }
            Change::PutPool(pool) => {
                self.pools.insert(pool.id.clone(), pool);
            }
            Change::RemovePool(id) => {
                self.pools.remove(&id);
            }
            Change::Lease(id, ip) => {
                self.pools.get_mut(&id).map(|pool| pool.leases.insert(ip));
            }
            Change::Release(id, ip) => {
                self.pools.get_mut(&id).map(|pool| pool.leases.remove(&ip));
            }
        }
    }
}
