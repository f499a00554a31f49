//! Networks: created, removed, pruned.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use netd_common::abi::{self, Family};

use super::{
    Change, Error, Host, Op, Plan, Result, State, find_network, ownership,
    subnets::{self, Except, family_of},
};
use crate::{
    api::types::NetworkCreate,
    ipam::{check_pool, first_gateway, parse_subnet},
    model::{
        Border, DEFAULT_NETWORK, GatewayMode, Id, IfName, Mac, Name, Network, NetworkOptions,
        Owner, Pool, network::options::MIN_MTU6,
    },
};

/// Names that mean something else after `--network`.
pub(super) const PREDEFINED: [&str; 4] = [DEFAULT_NETWORK, "host", "none", "default"];

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
    let id = fresh_id(state, host, 0)?;
    let blueprint = Blueprint {
        id: id.clone(),
        name,
        owner: Owner::Netd,
        options: &request.options,
        pools: pools(state, host, request)?,
        internal: request.internal,
        ipv6: request.ipv6,
        labels: request.labels.clone(),
    };
    Ok((create(state, host, blueprint)?, id))
}

/// A network as it was asked for, its subnets chosen and checked.
pub(super) struct Blueprint<'a> {
    pub(super) id: Id,
    pub(super) name: Name,
    pub(super) owner: Owner,
    /// `-o`.
    pub(super) options: &'a BTreeMap<String, String>,
    pub(super) pools: Vec<Pool>,
    pub(super) internal: bool,
    pub(super) ipv6: bool,
    pub(super) labels: BTreeMap<String, String>,
}

pub(super) fn create(state: &State, host: &Host, blueprint: Blueprint<'_>) -> Result<Plan> {
    let Blueprint { id, name, owner, options: given, pools, internal, ipv6, labels } = blueprint;
    let options = NetworkOptions::parse(given)?;
    let bridge = options.bridge.unwrap_or_else(|| IfName::from_id("br-", &id, 12));
    if host.links.contains(&bridge) {
        return Err(Error::LinkExists(bridge));
    }

    let config = &host.config;
    let mtu = options.mtu.or(config.mtu).unwrap_or(host.default_mtu);
    check_mtu(mtu, &pools)?;
    let network = Network {
        index: free_index(state),
        bridge,
        bridge_mac: bridge_mac(&id),
        mtu,
        mtu_fixed: options.mtu.is_some(),
        pools,
        internal,
        ipv6,
        icc: options.icc.unwrap_or(true),
        masquerade: options.masquerade.unwrap_or(true),
        border4: Border {
            mode: options.gateway_mode4.unwrap_or_default(),
            source: options.host_ipv4,
        },
        border6: Border {
            mode: options.gateway_mode6.unwrap_or_default(),
            source: options.host_ipv6,
        },
        inhibit_ipv4: options.inhibit_ipv4.unwrap_or(false),
        trusted: options.trusted,
        syn_rate: options.syn_rate.unwrap_or(0),
        max_flows: options.max_flows.unwrap_or(0),
        host_binding: options.host_binding.unwrap_or(config.ip),
        container_prefix: options.container_prefix.unwrap_or_else(|| "eth".into()),
        options: given.clone(),
        labels,
        created: host.now.clone(),
        id,
        name,
        owner,
    };
    check_modes(&network)?;
    let mut plan = Plan::default();
    plan.apply_all(ops(&network));
    plan.changes.push(Change::PutNetwork(network));
    Ok(plan)
}

pub fn plan_network_remove(state: &State, name: &str) -> Result<Plan> {
    if PREDEFINED.contains(&name) {
        return Err(Error::Predefined(name.to_owned()));
    }
    let network = find_network(state, name)?;
    ownership::check_network(network, || format!("docker network rm {}", network.name))?;
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
        if !predefined
            && network.owner == Owner::Netd
            && active_endpoints(state, &network.id).is_none()
        {
            remove(&mut plan, network);
            names.push(network.name.clone());
        }
    }
    (plan, names)
}

pub(super) fn remove(plan: &mut Plan, network: &Network) {
    plan.revert_all(ops(network));
    plan.changes.push(Change::RemoveNetwork(network.id.clone()));
}

fn check_modes(network: &Network) -> Result<()> {
    let isolated = network
        .pools
        .iter()
        .any(|pool| network.border(family_of(pool.subnet.ip())).mode == GatewayMode::Isolated);
    if isolated && !network.internal { Err(Error::IsolatedNotInternal) } else { Ok(()) }
}

/// What a network is made of, in the order of its making.
pub(super) fn ops(network: &Network) -> Vec<Op> {
    let addresses = network.pools.iter().filter_map(|pool| bridge_address(network, pool)).collect();
    let bridge = Op::Bridge {
        name: network.bridge.clone(),
        mac: network.bridge_mac,
        mtu: network.mtu,
        addresses,
    };
    let families = network.pools.iter().map(|pool| Op::Network {
        index: network.index,
        bridge: network.bridge.clone(),
        subnet: pool.subnet,
        gateway: pool.gateway,
        flags: flags(network, family_of(pool.subnet.ip())),
        source: network.border(family_of(pool.subnet.ip())).source,
    });
    std::iter::once(bridge).chain(families).collect()
}

/// `abi::Network`'s flags of one family.
fn flags(network: &Network, family: Family) -> u32 {
    use abi::Network as Flags;

    let mode = network.border(family).mode;
    let translated = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
    [
        (network.masquerade && translated && !network.internal, Flags::MASQUERADE),
        (network.internal, Flags::INTERNAL),
        (network.icc, Flags::ICC),
        (mode == GatewayMode::NatUnprotected, Flags::UNPROTECTED),
        (mode == GatewayMode::Routed, Flags::ROUTED),
        (mode == GatewayMode::Isolated, Flags::ISOLATED),
        (network.inhibit_ipv4 && family == Family::V4, Flags::INHIBITED),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

/// The gateway's, where the host is it.
fn bridge_address(network: &Network, pool: &Pool) -> Option<IpNetwork> {
    let family = family_of(pool.subnet.ip());
    let isolated = network.border(family).mode == GatewayMode::Isolated;
    if isolated || network.inhibit_ipv4 && family == Family::V4 {
        return None;
    }
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

/// IPv4's pool, and IPv6's where it was asked for.
fn pools(state: &State, host: &Host, request: &NetworkCreate) -> Result<Vec<Pool>> {
    let asked = Asked::parse(request)?;
    if let (false, Some(subnet)) = (request.ipv6, asked.of(Family::V6).subnet()?) {
        return Err(Error::Ipv6NotEnabled(subnet));
    }
    let families: &[Family] = if request.ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] };
    let pools: Vec<Pool> = families
        .iter()
        .map(|family| pool(state, host, *family, &asked.of(*family)))
        .collect::<Result<_>>()?;
    // What is of a family that has no pool belongs to no subnet.
    if !request.ipv6 && asked.of(Family::V6).is_any() {
        return Err(Error::NoSubnet);
    }
    Ok(pools)
}

/// What a request says of subnets, read; still in the order of the request.
struct Asked {
    subnets: Vec<IpNetwork>,
    ranges: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
    aux: BTreeMap<String, IpAddr>,
}

impl Asked {
    fn parse(request: &NetworkCreate) -> Result<Self> {
        let networks = |what, texts: &[String]| {
            texts.iter().map(|text| Ok(parse_subnet(what, text)?)).collect::<Result<Vec<_>>>()
        };
        let gateways = request.gateways.iter().map(|text| parse_address("gateway", text));
        let aux = request
            .aux_addresses
            .iter()
            .map(|(name, text)| Ok((name.clone(), parse_address("auxiliary address", text)?)));
        Ok(Self {
            subnets: networks("subnet", &request.subnets)?,
            ranges: networks("ip-range", &request.ip_ranges)?,
            gateways: gateways.collect::<Result<_>>()?,
            aux: aux.collect::<Result<_>>()?,
        })
    }

    /// What is of one family.
    fn of(&self, family: Family) -> Self {
        let networks = |all: &[IpNetwork]| -> Vec<IpNetwork> {
            all.iter().filter(|network| family_of(network.ip()) == family).copied().collect()
        };
        let is = |ip: &IpAddr| family_of(*ip) == family;
        let aux = self.aux.iter().filter(|(_, ip)| is(ip));
        Self {
            subnets: networks(&self.subnets),
            ranges: networks(&self.ranges),
            gateways: self.gateways.iter().copied().filter(is).collect(),
            aux: aux.map(|(name, ip)| (name.clone(), *ip)).collect(),
        }
    }

    fn subnet(&self) -> Result<Option<IpNetwork>> {
        at_most_one("--subnet", &self.subnets)
    }

    /// Anything but a subnet.
    fn is_any(&self) -> bool {
        !self.ranges.is_empty() || !self.gateways.is_empty() || !self.aux.is_empty()
    }
}

fn pool(state: &State, host: &Host, family: Family, asked: &Asked) -> Result<Pool> {
    let subnet = match asked.subnet()? {
        // "Any subnet of this size", as in Docker.
        Some(subnet) if subnet.ip().is_unspecified() => {
            subnets::choose(state, host, family, Some(subnet.prefix()), Except::Nothing)?
        }
        Some(subnet) => subnet,
        None if asked.is_any() => return Err(Error::NoSubnet),
        None => subnets::choose(state, host, family, None, Except::Nothing)?,
    };
    let gateway = match at_most_one("--gateway", &asked.gateways)? {
        Some(gateway) => gateway,
        None => first_gateway(subnet, asked.aux.values())?,
    };
    let pool = Pool {
        subnet,
        ip_range: at_most_one("--ip-range", &asked.ranges)?,
        gateway,
        default_gateway: None,
        aux: asked.aux.clone(),
    };
    check_pool(&pool)?;
    subnets::check(state, host, "subnet", subnet, Except::Nothing)?;
    Ok(pool)
}

/// A link with a smaller one has no IPv6 (RFC 8200 §5).
pub(super) fn check_mtu(mtu: u32, pools: &[Pool]) -> Result<()> {
    let has_ipv6 = pools.iter().any(|pool| pool.subnet.is_ipv6());
    if has_ipv6 && mtu < MIN_MTU6 { Err(Error::MtuTooSmall(mtu)) } else { Ok(()) }
}

fn at_most_one<T: Copy + ToString>(key: &'static str, values: &[T]) -> Result<Option<T>> {
    match values {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        [first, second, ..] => {
            Err(Error::Twice { key, first: first.to_string(), second: second.to_string() })
        }
    }
}

fn parse_address(what: &'static str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::NotAddress { what, value: text.to_owned() })
}
