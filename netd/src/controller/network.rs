//! Networks: created, removed, pruned.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use netd_common::abi;

use super::{Change, Error, Host, Op, Plan, Result, State, find_network, subnets};
use crate::{
    api::types::NetworkCreate,
    ipam::{check_pool, first_gateway, parse_subnet},
    model::{DEFAULT_NETWORK, Id, IfName, Mac, Name, Network, NetworkOptions, Pool},
};

/// Names that mean something else after `--network`.
const PREDEFINED: [&str; 4] = [DEFAULT_NETWORK, "host", "none", "default"];

/// A new network; its id is the answer.
pub fn plan_network_create(
    state: &State,
    host: &Host,
    request: &NetworkCreate,
) -> Result<(Plan, Id)> {
    let name: Name = request.name.parse()?;
    if PREDEFINED.contains(&name.as_str()) {
        return Err(Error::PredefinedName(request.name.clone()));
    }
    if state.networks.values().any(|other| other.name == name) {
        return Err(Error::NetworkExists(name));
    }
    if request.ipv6 {
        return Err(Error::NotYet("IPv6 (`--ipv6`)".into()));
    }
    let options = NetworkOptions::parse(&request.options)?;
    let pool = pool(state, host, request)?;
    let id = fresh_id(state, host, 0)?;
    let bridge = options.bridge.unwrap_or_else(|| IfName::from_id("br-", &id, 12));
    if host.links.contains(&bridge) {
        return Err(Error::LinkExists(bridge));
    }

    let config = &host.config;
    let network = Network {
        index: free_index(state),
        bridge,
        bridge_mac: bridge_mac(&id),
        mtu: options.mtu.or(config.mtu).unwrap_or(host.default_mtu),
        pools: vec![pool],
        internal: request.internal,
        ipv6: false,
        icc: options.icc.unwrap_or(true),
        masquerade: options.masquerade.unwrap_or(true),
        host_binding: options.host_binding.unwrap_or(config.ip),
        container_prefix: options.container_prefix.unwrap_or_else(|| "eth".into()),
        options: request.options.clone(),
        labels: request.labels.clone(),
        created: host.now.clone(),
        id: id.clone(),
        name,
    };
    let mut plan = Plan::default();
    plan.apply_all(ops(&network));
    plan.changes.push(Change::PutNetwork(network));
    Ok((plan, id))
}

pub fn plan_network_remove(state: &State, name: &str) -> Result<Plan> {
    if PREDEFINED.contains(&name) {
        return Err(Error::Predefined(name.to_owned()));
    }
    let network = find_network(state, name)?;
    if network.name.as_str() == DEFAULT_NETWORK {
        return Err(Error::Predefined(DEFAULT_NETWORK.to_owned()));
    }
    if let Some(endpoints) = active_endpoints(state, &network.id) {
        return Err(Error::NetworkInUse { name: network.name.clone(), endpoints });
    }
    let mut plan = Plan::default();
    remove(&mut plan, network);
    Ok(plan)
}

/// Removes every network that no container uses; their names are the answer.
pub fn plan_prune(state: &State) -> (Plan, Vec<Name>) {
    let mut plan = Plan::default();
    let mut names = vec![];
    for network in state.networks.values() {
        let predefined = network.name.as_str() == DEFAULT_NETWORK;
        if !predefined && active_endpoints(state, &network.id).is_none() {
            remove(&mut plan, network);
            names.push(network.name.clone());
        }
    }
    (plan, names)
}

fn remove(plan: &mut Plan, network: &Network) {
    plan.revert_all(ops(network));
    plan.changes.push(Change::RemoveNetwork(network.id.clone()));
}

/// What a network is made of, in the order of its making.
pub(super) fn ops(network: &Network) -> Vec<Op> {
    use abi::Network as Flags;

    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let masquerade = network.masquerade && !network.internal;
    let addresses = network.pools.iter().filter_map(bridge_address).collect();
    let bridge = Op::Bridge {
        name: network.bridge.clone(),
        mac: network.bridge_mac,
        mtu: network.mtu,
        addresses,
    };
    let datapath = network.pools.first().map(|pool| Op::Network {
        index: network.index,
        bridge: network.bridge.clone(),
        subnets: network.pools.iter().map(|pool| pool.subnet).collect(),
        gateway: pool.gateway,
        flags: flag(masquerade, Flags::MASQUERADE)
            | flag(network.internal, Flags::INTERNAL)
            | flag(network.icc, Flags::ICC),
    });
    std::iter::once(bridge).chain(datapath).collect()
}

fn bridge_address(pool: &Pool) -> Option<IpNetwork> {
    IpNetwork::new(pool.gateway, pool.subnet.prefix()).ok()
}

/// `name:"web" id:"0123456789ab"` of every endpoint, or `None`.
pub(super) fn active_endpoints(state: &State, network: &Id) -> Option<String> {
    let endpoints: Vec<String> = state
        .containers
        .values()
        .flat_map(|container| container.endpoints.iter().map(move |e| (container, e)))
        .filter(|(_, endpoint)| endpoint.network == *network)
        .map(|(container, endpoint)| {
            format!("name:\"{}\" id:\"{}\"", container.name, endpoint.id.short())
        })
        .collect();
    (!endpoints.is_empty()).then(|| endpoints.join(", "))
}

/// The `nth` of the fresh ids. They are random: one that is in use is no id
/// to go on with.
pub(super) fn fresh_id(state: &State, host: &Host, nth: usize) -> Result<Id> {
    host.fresh_ids
        .get(nth)
        .filter(|id| !state.networks.contains_key(id) && !state.containers.contains_key(id))
        .cloned()
        .ok_or(Error::Internal("no fresh id is left"))
}

pub(super) fn free_index(state: &State) -> u32 {
    let mut used: Vec<u32> = state.networks.values().map(|network| network.index).collect();
    used.sort_unstable();
    used.into_iter().fold(1, |free, index| if index == free { free + 1 } else { free })
}

/// 02:6e:64 and the id's first three bytes: the datapath knows the prefix.
pub(super) fn bridge_mac(id: &Id) -> Mac {
    let [a, b, c, _] = id.seed().to_be_bytes();
    Mac([0x02, 0x6e, 0x64, a, b, c])
}

fn pool(state: &State, host: &Host, request: &NetworkCreate) -> Result<Pool> {
    let given = at_most_one("--subnet", &request.subnets)?;
    let range = at_most_one("--ip-range", &request.ip_ranges)?
        .map(|text| parse_subnet("ip-range", text))
        .transpose()?;
    let gateway = at_most_one("--gateway", &request.gateways)?
        .map(|text| parse_address("gateway", text))
        .transpose()?;
    let aux = request
        .aux_addresses
        .iter()
        .map(|(name, text)| Ok((name.clone(), parse_address("auxiliary address", text)?)))
        .collect::<Result<BTreeMap<String, IpAddr>>>()?;

    let given = given.map(|text| parse_subnet("subnet", text)).transpose()?;
    let subnet = match given {
        Some(subnet) if subnet.is_ipv6() => {
            return Err(Error::NotYet(format!("IPv6 (subnet {subnet})")));
        }
        // "Any subnet of this size", as in Docker.
        Some(subnet) if subnet.ip().is_unspecified() => {
            subnets::choose(state, host, Some(subnet.prefix()), None)?
        }
        Some(subnet) => subnet,
        None if range.is_some() || gateway.is_some() || !aux.is_empty() => {
            return Err(Error::NoSubnet);
        }
        None => subnets::choose(state, host, None, None)?,
    };
    let gateway = match gateway {
        Some(gateway) => gateway,
        None => first_gateway(subnet, aux.values())?,
    };
    let pool = Pool { subnet, ip_range: range, gateway, default_gateway: None, aux };
    check_pool(&pool)?;
    subnets::check(state, host, "subnet", subnet, None)?;
    Ok(pool)
}

fn at_most_one<'a>(key: &'static str, values: &'a [String]) -> Result<Option<&'a str>> {
    match values {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [first, second, ..] => {
            Err(Error::Twice { key, first: first.clone(), second: second.clone() })
        }
    }
}

pub(super) fn parse_address(what: &str, text: &str) -> Result<IpAddr> {
    match text.parse() {
        Ok(ip @ IpAddr::V4(_)) => Ok(ip),
        Ok(ip) => Err(Error::NotYet(format!("IPv6 ({what} {ip})"))),
        Err(_) => Err(Error::NotAddress { what: what.to_owned(), value: text.to_owned() }),
    }
}
