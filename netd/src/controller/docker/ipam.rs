//! netd as Docker's IPAM driver: pools and addresses, with the texts of DESIGN
//! §6.1.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use netd_common::abi::Family;

use super::network::address_of;
use crate::{
    api::docker::{
        calls::{GLOBAL_SPACE, LOCAL_SPACE},
        types::{AddressRef, PoolRef, RequestPool},
    },
    controller::{
        Change, Error, Host, Plan, Result, State,
        subnets::{self, Except},
    },
    ipam::{
        AddressError, SubnetError, check_address, choose_address, encloses, first_gateway,
        parse_subnet,
    },
    model::{Endpoint, IpamPool, Network, Owner, Pool, PoolId, network::OptionError},
};

const ADDRESS_TYPE: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";
/// Docker's own among the options of a pool.
const INTERNAL_OPTIONS: &str = "com.docker.network.";

/// `RequestPool`; the pool is the answer. Two requests never get the same one
/// while the first is held: Docker asks again for another when it doesn't like
/// an answer, and gives those it didn't like back in the end.
pub fn plan_request_pool(
    state: &State,
    host: &Host,
    request: &RequestPool,
) -> Result<(Plan, IpamPool)> {
    let space = match request.address_space.as_str() {
        "" => LOCAL_SPACE,
        known @ (LOCAL_SPACE | GLOBAL_SPACE) => known,
        other => return Err(Error::AddressSpace(other.to_owned())),
    };
    if let Some(option) = request.options.keys().find(|key| !key.starts_with(INTERNAL_OPTIONS)) {
        return Err(OptionError::Unknown(option.clone()).into());
    }
    let family = if request.v6 { Family::V6 } else { Family::V4 };
    let asked = match request.pool.as_str() {
        "" => None,
        text => Some(parse_subnet("subnet", text)?),
    };
    let subnet = match asked {
        None => subnets::choose(state, host, family, None, Except::Nothing)?,
        // "Any subnet of this size", as in Docker.
        Some(any) if any.ip().is_unspecified() => {
            subnets::choose(state, host, family, Some(any.prefix()), Except::Nothing)?
        }
        Some(subnet) => subnet,
    };
    let range = match request.sub_pool.as_str() {
        "" => None,
        _ if asked.is_none() => return Err(Error::NoSubnet),
        text => Some(parse_subnet("ip-range", text)?),
    };
    if let Some(range) = range.filter(|range| !encloses(subnet, *range)) {
        return Err(SubnetError::RangeOutside { range, subnet }.into());
    }
    subnets::check(state, host, "subnet", subnet, Except::Nothing)?;
    let pool = IpamPool {
        id: PoolId::new(space, subnet, range),
        subnet,
        range,
        leases: BTreeSet::new(),
        created: host.now.clone(),
    };
    // That it is a subnet at all.
    crate::ipam::check_pool(&as_pool(&pool, first_gateway(subnet, [])?))?;
    let mut plan = Plan::default();
    plan.changes.push(Change::PutPool(pool.clone()));
    Ok((plan, pool))
}

/// `ReleasePool`. One that is unknown is free.
pub fn plan_release_pool(state: &State, request: &PoolRef) -> Plan {
    let mut plan = Plan::default();
    let id = PoolId::from(request.pool_id.clone());
    if state.pools.contains_key(&id) {
        plan.changes.push(Change::RemovePool(id));
    }
    plan
}

/// `RequestAddress`; the address and its subnet's prefix are the answer.
pub fn plan_request_address(state: &State, request: &AddressRef) -> Result<(Plan, IpNetwork)> {
    let id = PoolId::from(request.pool_id.clone());
    let pool = state.pools.get(&id).ok_or_else(|| Error::NoSuchPool(id.to_string()))?;
    let is_gateway = request.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY);
    let taken = taken(state, pool);
    let ip = match request.address.as_str() {
        "" if is_gateway => {
            let first = first_gateway(pool.subnet, &taken);
            first.map_err(|_| exhausted(state, pool))?
        }
        "" => {
            let free = choose_address(&bare(pool), &taken);
            free.ok_or_else(|| exhausted(state, pool))?
        }
        text => {
            let ip = address_of("address", text)?;
            check_address(&[bare(pool)], &taken, ip).map_err(|error| match error {
                AddressError::InUse => {
                    Error::AddressInUse { address: ip, owner: owner(state, pool, ip) }
                }
                outside @ AddressError::NotInSubnet(_) => Error::Address(outside),
            })?;
            ip
        }
    };
    let address = IpNetwork::new(ip, pool.subnet.prefix())
        .map_err(|_| Error::Internal("a subnet has a prefix that is none"))?;
    let mut plan = Plan::default();
    plan.changes.push(Change::Lease(id, ip));
    Ok((plan, address))
}

/// `ReleaseAddress`.
pub fn plan_release_address(state: &State, request: &AddressRef) -> Result<Plan> {
    let id = PoolId::from(request.pool_id.clone());
    if !state.pools.contains_key(&id) {
        return Ok(Plan::default());
    }
    Ok(plan_release(state, &id, address_of("address", &request.address)?))
}

/// One that nobody has is free. One that an endpoint still has is kept until
/// that goes: after a crash of its own Docker gives back addresses of endpoints
/// that it has not deleted.
pub(super) fn plan_release(state: &State, id: &PoolId, ip: IpAddr) -> Plan {
    let mut plan = Plan::default();
    let pool = state.pools.get(id).filter(|pool| pool.leases.contains(&ip));
    if pool.is_some_and(|pool| !endpoint_addresses(state, pool).any(|used| used == ip)) {
        plan.changes.push(Change::Release(id.clone(), ip));
    }
    plan
}

/// Leases of netd's networks that no endpoint has, and neither the gateway:
/// Docker has died between two requests, if it stays so.
pub(super) fn strayed_leases(state: &State) -> impl Iterator<Item = (&PoolId, IpAddr)> {
    state.pools.values().flat_map(move |pool| {
        // Of another driver's network netd knows no endpoint.
        let network = network_of(state, pool).into_iter();
        network.flat_map(move |network| {
            let used: BTreeSet<IpAddr> =
                set_aside(network, pool).chain(endpoint_addresses(state, pool)).collect();
            let stray = pool.leases.iter().filter(move |ip| !used.contains(ip));
            stray.map(|ip| (&pool.id, *ip))
        })
    })
}

/// Docker's network of the pool's subnet, once it is there.
fn network_of<'a>(state: &'a State, pool: &IpamPool) -> Option<&'a Network> {
    state.networks.values().find(|network| {
        network.owner == Owner::Docker && network.pools.iter().any(|it| it.subnet == pool.subnet)
    })
}

fn endpoint_addresses<'a>(
    state: &'a State,
    pool: &'a IpamPool,
) -> impl Iterator<Item = IpAddr> + 'a {
    let endpoints = state.containers.values().flat_map(|container| &container.endpoints);
    let addresses = endpoints.flat_map(Endpoint::addresses);
    addresses.map(|address| address.ip()).filter(|ip| pool.subnet.contains(*ip))
}

/// Leased; or in use all the same, by an endpoint or as what the network has
/// set aside.
fn taken(state: &State, pool: &IpamPool) -> BTreeSet<IpAddr> {
    let network = network_of(state, pool).into_iter();
    let aside = network.flat_map(|it| set_aside(it, pool));
    pool.leases.iter().copied().chain(aside).chain(endpoint_addresses(state, pool)).collect()
}

fn set_aside<'a>(network: &'a Network, pool: &'a IpamPool) -> impl Iterator<Item = IpAddr> + 'a {
    let own = network.pools.iter().filter(|it| it.subnet == pool.subnet);
    own.flat_map(|it| {
        std::iter::once(it.gateway).chain(it.default_gateway).chain(it.aux.values().copied())
    })
}

fn owner(state: &State, pool: &IpamPool, ip: IpAddr) -> String {
    let container = state
        .containers
        .values()
        .find(|it| it.endpoints.iter().flat_map(Endpoint::addresses).any(|a| a.ip() == ip));
    match container {
        Some(container) => format!("container {}", container.name),
        None => format!("another lease of {}", pool.subnet),
    }
}

fn exhausted(state: &State, pool: &IpamPool) -> Error {
    let family = if pool.subnet.is_ipv4() { "IPv4" } else { "IPv6" };
    match network_of(state, pool) {
        Some(network) => {
            Error::AddressesExhausted { family, name: network.name.clone(), id: network.id.clone() }
        }
        None => Error::PoolExhausted { family, pool: pool.id.to_string() },
    }
}

/// For IPAM's rules, which know a gateway; of these pools it is a lease.
fn bare(pool: &IpamPool) -> Pool {
    as_pool(pool, pool.subnet.network())
}

fn as_pool(pool: &IpamPool, gateway: IpAddr) -> Pool {
    Pool {
        subnet: pool.subnet,
        ip_range: pool.range,
        gateway,
        default_gateway: None,
        aux: BTreeMap::new(),
    }
}
