//! The network called `bridge`, from the configuration.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use netd_common::abi::Family;

use super::{
    Change, Error, Host, Plan, Result, State, network,
    subnets::{self, Except},
};
use crate::{
    ipam::{check_pool, encloses, first_gateway, network_of},
    model::{
        DEFAULT_BRIDGE, DEFAULT_NETWORK, Id, Network, Owner, Pool,
        config::check_default_bridge,
        network::{
            Border,
            options::{HOST_BINDING, ICC, MASQUERADE, MTU},
        },
    },
};

/// Brings the default network to what the configuration says: nothing to do
/// when it is so, a new one when there is none, another in its place when it
/// differs and nobody uses it.
pub fn plan_default_network(state: &State, host: &Host) -> Result<Plan> {
    let existing = state.networks.values().find(|network| network.name.as_str() == DEFAULT_NETWORK);
    let wanted = wanted(state, host, existing)?;
    if existing == Some(&wanted) {
        return Ok(Plan::default());
    }
    if let Some(existing) = existing
        && let Some(endpoints) = network::active_endpoints(state, &existing.id)
    {
        return Err(Error::DefaultNetworkInUse(endpoints));
    }
    let except = existing.map_or(Except::Nothing, |existing| Except::Network(&existing.id));
    let setting = match host.config.bip {
        Some(_) => "bip",
        None => "subnet",
    };
    for pool in &wanted.pools {
        subnets::check(state, host, setting, pool.subnet, except)?;
    }

    let mut plan = Plan::default();
    match existing {
        Some(existing) => plan.revert_all(network::ops(existing)),
        None if host.links.contains(&wanted.bridge) => {
            return Err(Error::LinkExists(wanted.bridge));
        }
        None => {}
    }
    plan.apply_all(network::ops(&wanted));
    plan.changes.push(Change::PutNetwork(wanted));
    Ok(plan)
}

/// What the configuration leaves open stays as it is.
fn wanted(state: &State, host: &Host, existing: Option<&Network>) -> Result<Network> {
    let config = &host.config;
    let id = match existing {
        Some(existing) => existing.id.clone(),
        None => network::fresh_id(state, host, 0)?,
    };
    // One that is there is brought to another by `plan_mtu`, in use or not.
    let mtu = existing.map(|existing| existing.mtu).or(config.mtu).unwrap_or(host.default_mtu);
    let options = [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.name", DEFAULT_BRIDGE.to_owned()),
        (ICC, config.icc.to_string()),
        (MASQUERADE, config.ip_masq.to_string()),
        (HOST_BINDING, config.ip.to_string()),
        (MTU, mtu.to_string()),
    ];
    let mut pools = vec![pool(state, host, &id, existing)?];
    if config.ipv6 {
        pools.push(pool6(state, host, &id, existing)?);
    }
    pools.iter().try_for_each(check_pool)?;
    network::check_mtu(mtu, &pools)?;
    Ok(Network {
        name: DEFAULT_NETWORK.parse()?,
        owner: Owner::Netd,
        index: existing.map_or_else(|| network::free_index(state), |existing| existing.index),
        bridge: DEFAULT_BRIDGE
            .parse()
            .map_err(|_| Error::Internal("the default bridge has no valid name"))?,
        bridge_mac: network::bridge_mac(&id),
        mtu,
        mtu_fixed: false,
        pools,
        internal: false,
        ipv6: config.ipv6,
        icc: config.icc,
        masquerade: config.ip_masq,
        border4: Border::default(),
        border6: Border::default(),
        inhibit_ipv4: false,
        trusted: vec![],
        syn_rate: 0,
        max_flows: 0,
        host_binding: config.ip,
        container_prefix: "eth".into(),
        options: options.map(|(key, value)| (key.to_owned(), value)).into(),
        labels: BTreeMap::new(),
        created: existing.map_or(&host.now, |existing| &existing.created).clone(),
        id,
    })
}

fn pool(state: &State, host: &Host, id: &Id, existing: Option<&Network>) -> Result<Pool> {
    let config = &host.config;
    let kept = existing.and_then(|existing| existing.pools.first());
    let (subnet, gateway) = match (config.bip, config.fixed_cidr, kept) {
        (Some(bip), _, _) => {
            let own = own_address(host).ok_or(Error::NoHostAddress);
            let bip = match bip {
                crate::model::config::Bip::Address(bip) => bip,
                crate::model::config::Bip::Host => bip.resolve(own?),
            };
            (network_of(bip), bip.ip())
        }
        (None, Some(fixed_cidr), _) => (fixed_cidr, first_gateway(fixed_cidr, [])?),
        (None, None, Some(kept)) => (kept.subnet, kept.gateway),
        (None, None, None) => {
            let subnet = subnets::choose(state, host, Family::V4, None, Except::Network(id))?;
            (subnet, first_gateway(subnet, [])?)
        }
    };
    check_default_bridge(subnet, config.fixed_cidr, config.default_gateway)?;
    Ok(Pool {
        subnet,
        ip_range: config.fixed_cidr.filter(|range| *range != subnet && encloses(subnet, *range)),
        gateway,
        default_gateway: config.default_gateway,
        aux: BTreeMap::new(),
    })
}

/// As it was, or a free one.
fn pool6(state: &State, host: &Host, id: &Id, existing: Option<&Network>) -> Result<Pool> {
    if let Some(kept) = existing.and_then(Network::pool6) {
        return Ok(kept.clone());
    }
    let subnet = subnets::choose(state, host, Family::V6, None, Except::Network(id))?;
    Ok(Pool {
        subnet,
        ip_range: None,
        gateway: first_gateway(subnet, [])?,
        default_gateway: None,
        aux: BTreeMap::new(),
    })
}

/// The host's own IPv4 address: of the default route's link, or else the
/// first that is not loopback.
fn own_address(host: &Host) -> Option<Ipv4Addr> {
    let uplink = host
        .routes
        .iter()
        .find(|route| route.destination.prefix() == 0 && route.destination.is_ipv4())
        .map(|route| route.link.as_str());
    let own = |on: Option<&str>| {
        host.addresses.iter().filter(|(link, _)| on.is_none_or(|on| link.as_str() == on)).find_map(
            |(_, address)| match address.ip() {
                IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
                _ => None,
            },
        )
    };
    uplink.and_then(|uplink| own(Some(uplink))).or_else(|| own(None))
}
