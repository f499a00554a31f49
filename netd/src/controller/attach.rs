//! `network connect` and `disconnect`: endpoints of a container that lives.

use super::{
    Change, Error, Host, Plan, Result, State, endpoint, find_container, find_network,
    network::{fresh_id, parse_address},
    port::{check_alive, network_of},
};
use crate::{
    api::types::Connect,
    model::{Container, DEFAULT_NETWORK, Mode, Network},
};

pub fn plan_connect(state: &State, host: &Host, network: &str, request: &Connect) -> Result<Plan> {
    let network = find_network(state, network)?;
    let mut container = find_container(state, &request.container)?.clone();
    check_connectable(&container)?;
    if container.endpoints.iter().any(|endpoint| endpoint.network == network.id) {
        return Err(Error::Connected { container: container.name, network: network.name.clone() });
    }
    let ip = fixed_address(network, request.ip.as_deref())?;
    let id = fresh_id(state, host, 0)?;
    let endpoint = endpoint::create(state, network, id, ip, &container.endpoints)?;

    let mut plan = Plan::default();
    plan.apply_all(endpoint::ops(network, &endpoint, &container.netns));
    container.endpoints.push(endpoint);
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

pub fn plan_disconnect(state: &State, network: &str, request: &Connect) -> Result<Plan> {
    let network = find_network(state, network)?;
    let mut container = find_container(state, &request.container)?.clone();
    let Some(place) =
        container.endpoints.iter().position(|endpoint| endpoint.network == network.id)
    else {
        return Err(Error::NotConnected { container: container.id, network: network.name.clone() });
    };
    let removed = container.endpoints.remove(place);
    let mut plan = Plan::default();
    plan.revert_all(endpoint::ops(network, &removed, &container.netns));
    if removed.default_route {
        hand_over_default_route(state, &mut container, &mut plan)?;
    }
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

/// The oldest endpoint that leads outside gets the default route. Its op is
/// the plan's last: undoing an update would take the interface itself.
fn hand_over_default_route(
    state: &State,
    container: &mut Container,
    plan: &mut Plan,
) -> Result<()> {
    for endpoint in &mut container.endpoints {
        let network = network_of(state, endpoint)?;
        if !network.internal {
            endpoint.default_route = true;
            plan.apply(endpoint::interface_op(network, endpoint, &container.netns));
            break;
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

/// `--ip`, which the default network doesn't take.
pub(super) fn fixed_address(
    network: &Network,
    ip: Option<&str>,
) -> Result<Option<std::net::IpAddr>> {
    let ip = ip.map(|text| parse_address("IP address", text)).transpose()?;
    if ip.is_some() && network.name.as_str() == DEFAULT_NETWORK {
        return Err(Error::FixedAddressOnDefault);
    }
    Ok(ip)
}
