//! What Docker seems to have lost, for it never says so: found here, and how
//! each goes. For how long something must look lost is the agent's to decide.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    path::Path,
};

use ipnetwork::IpNetwork;

use super::{
    endpoint::plan_forget_endpoint,
    endpoints,
    ipam::{plan_release, strayed_leases},
    network::plan_docker_network_remove,
};
use crate::{
    api::docker::engine::{self, View},
    controller::{Change, Plan, Result, State},
    model::{ContainerState, Id, Owner, PoolId},
};

/// Something that Docker seems to have lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lost {
    /// An endpoint in no sandbox.
    Outside(Id),
    /// An endpoint whose sandbox is gone.
    Dead(Id),
    /// An address that no endpoint has.
    Lease(PoolId, IpAddr),
    /// An endpoint, a network or a pool that dockerd does not list.
    Endpoint(Id),
    Network(Id),
    Pool(PoolId),
}

impl Lost {
    /// Whether dockerd's own list is why it is one.
    pub fn is_unlisted(&self) -> bool {
        matches!(self, Self::Endpoint(_) | Self::Network(_) | Self::Pool(_))
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outside(id) => {
                write!(f, "endpoint {}: it has been in no sandbox for too long", id.short())
            }
            Self::Dead(id) => write!(f, "endpoint {}: its sandbox is gone", id.short()),
            Self::Lease(pool, ip) => write!(f, "address {ip} of {pool}: no endpoint has it"),
            Self::Endpoint(id) => write!(f, "endpoint {}: Docker does not know it", id.short()),
            Self::Network(id) => write!(f, "network {}: Docker does not know it", id.short()),
            Self::Pool(id) => write!(f, "address pool {id}: Docker does not know it"),
        }
    }
}

/// By what the host has: `has_link` tells of a link by its name, `is_there` of
/// a sandbox.
pub fn lost(
    state: &State,
    has_link: impl Fn(&str) -> bool,
    is_there: impl Fn(&Path) -> bool,
) -> BTreeSet<Lost> {
    let found = endpoints(state).filter_map(|(container, endpoint)| {
        let id = endpoint.id.clone();
        if container.state != ContainerState::Joined {
            return Some(Lost::Outside(id));
        }
        // While its sandbox is there Docker may still be about to move the
        // interface into it, or has it to clean up.
        let gone = !has_link(endpoint.host_link.as_str());
        let dead = || if gone { Lost::Dead(id) } else { Lost::Outside(id) };
        let inside = !gone && !has_link(endpoint.container_link.as_str());
        (!inside && !is_there(&container.netns)).then(dead)
    });
    found.chain(strayed_leases(state).map(|(pool, ip)| Lost::Lease(pool.clone(), ip))).collect()
}

/// By what dockerd lists.
pub fn unlisted(state: &State, view: &View) -> BTreeSet<Lost> {
    let known: HashSet<&str> =
        view.containers.iter().flat_map(engine::Container::endpoints).collect();
    let networks: HashSet<&str> = view.networks.iter().map(|it| it.id.as_str()).collect();
    // As networks: Docker keeps the text that a subnet was asked for with.
    let configs = view.networks.iter().flat_map(|it| it.ipam.config.iter().flatten());
    let subnets: HashSet<IpNetwork> = configs.filter_map(|it| it.subnet.parse().ok()).collect();

    let endpoints = endpoints(state).map(|(_, endpoint)| &endpoint.id);
    let endpoints = endpoints.filter(|id| !known.contains(id.as_str()));
    let own = state.networks.values().filter(|it| it.owner == Owner::Docker).map(|it| &it.id);
    let own = own.filter(|id| !networks.contains(id.as_str()));
    let pools = state.pools.values().filter(|pool| !subnets.contains(&pool.subnet));
    endpoints
        .map(|id| Lost::Endpoint(id.clone()))
        .chain(own.map(|id| Lost::Network(id.clone())))
        .chain(pools.map(|pool| Lost::Pool(pool.id.clone())))
        .collect()
}

/// What is no longer there goes without a step.
pub fn plan_collect(state: &State, lost: &Lost) -> Result<Plan> {
    match lost {
        Lost::Outside(id) | Lost::Dead(id) | Lost::Endpoint(id) => plan_forget_endpoint(state, id),
        Lost::Network(id) => plan_docker_network_remove(state, id.as_str()),
        Lost::Lease(pool, ip) => Ok(plan_release(state, pool, *ip)),
        Lost::Pool(id) => Ok(Plan { steps: vec![], changes: vec![Change::RemovePool(id.clone())] }),
    }
}

/// Leases that a boot has voided: no endpoint of before is left.
pub fn plan_release_strayed(state: &State) -> Plan {
    let released = strayed_leases(state).map(|(pool, ip)| Change::Release(pool.clone(), ip));
    Plan { steps: vec![], changes: released.collect() }
}
