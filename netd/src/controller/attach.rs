//! `network connect` and `disconnect`: endpoints of a container that lives.

use std::net::IpAddr;

use netd_common::abi::Family;

use super::{
    Change, Error, Host, Plan, Result, State,
    endpoint::{self, Fixed},
    find_container, find_network,
    network::fresh_id,
    ownership,
    port::{check_alive, network_of},
    subnets::family_of,
};
use crate::{
    api::types::Connect,
    model::{Container, DEFAULT_NETWORK, Endpoint, Mode, Network},
};

pub fn plan_connect(state: &State, host: &Host, network: &str, request: &Connect) -> Result<Plan> {
    let network = find_network(state, network)?;
    let mut container = find_container(state, &request.container)?.clone();
    check_connectable(&container)?;
    ownership::check(network, &container, "connect")?;
    if container.endpoints.iter().any(|endpoint| endpoint.network == network.id) {
        return Err(Error::Connected { container: container.name, network: network.name.clone() });
    }
    let fixed = fixed_addresses(network, request.ip.as_deref(), request.ip6.as_deref())?;
    let id = fresh_id(state, host, 0)?;
    let endpoint = endpoint::create(state, network, id, fixed, &container.endpoints)?;

    let mut plan = Plan::default();
    plan.apply_all(endpoint::ops(state, network, &endpoint, container.own_netns()));
    container.endpoints.push(endpoint);
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

pub fn plan_disconnect(state: &State, network: &str, request: &Connect) -> Result<Plan> {
    let network = find_network(state, network)?;
    let mut container = find_container(state, &request.container)?.clone();
    ownership::check(network, &container, "disconnect")?;
    let Some(place) =
        container.endpoints.iter().position(|endpoint| endpoint.network == network.id)
    else {
        return Err(Error::NotConnected { container: container.id, network: network.name.clone() });
    };
    let removed = container.endpoints.remove(place);
    let mut plan = Plan::default();
    plan.revert_all(endpoint::ops(state, network, &removed, container.own_netns()));
    hand_over_default_routes(state, &removed, &mut container, &mut plan)?;
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

/// The oldest endpoints that lead outside get the default routes of the one
/// that was removed. Their ops are the plan's last: undoing an update would
/// take the interface itself.
fn hand_over_default_routes(
    state: &State,
    removed: &Endpoint,
    container: &mut Container,
    plan: &mut Plan,
) -> Result<()> {
    let (mut open, mut open6) = (removed.default_route, removed.default_route6);
    for endpoint in &mut container.endpoints {
        let network = network_of(state, endpoint)?;
        if network.internal {
            continue;
        }
        let takes = std::mem::take(&mut open);
        let takes6 = endpoint.address6.is_some() && std::mem::take(&mut open6);
        endpoint.default_route |= takes;
        endpoint.default_route6 |= takes6;
        if takes || takes6 {
            plan.apply(endpoint::interface_op(network, endpoint, &container.netns));
        }
    }
    Ok(())
}

fn check_connectable(container: &Container) -> Result<()> {
    check_alive(container)?;
    match container.mode {
        Mode::Networks => Ok(()),
        Mode::None => Err(Error::PrivateNamespace),
        Mode::Host | Mode::Container(_) => Err(Error::SharedNamespace),
    }
}

/// `--ip` and `--ip6`, which the default network doesn't take.
pub(super) fn fixed_addresses(
    network: &Network,
    ip: Option<&str>,
    ip6: Option<&str>,
) -> Result<Fixed> {
    let fixed = Fixed {
        v4: ip.map(|text| address_of(Family::V4, text)).transpose()?,
        v6: ip6.map(|text| address_of(Family::V6, text)).transpose()?,
    };
    let asked = fixed.v4.is_some() || fixed.v6.is_some();
    if asked && network.name.as_str() == DEFAULT_NETWORK {
        return Err(Error::FixedAddressOnDefault);
    }
    Ok(fixed)
}

fn address_of(family: Family, text: &str) -> Result<IpAddr> {
    let ip = text.parse().ok().filter(|ip| family_of(*ip) == family);
    ip.ok_or_else(|| Error::NotAddress {
        what: match family {
            Family::V4 => "IPv4 address",
            Family::V6 => "IPv6 address",
        },
        value: text.to_owned(),
    })
}
