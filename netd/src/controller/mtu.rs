//! Networks that were asked for without an MTU: theirs follows the host's,
//! while their containers run.

use super::{Change, Op, Plan, State};
use crate::model::{
    Config, Container, DEFAULT_NETWORK, Endpoint, Network,
    config::MTUS,
    network::options::{self, MIN_MTU6},
};

/// Brings them to the configured MTU, or else to `default_mtu`, the default
/// route's. An empty plan: they have it.
pub fn plan_mtu(state: &State, config: &Config, default_mtu: u32) -> Plan {
    let mut plan = Plan::default();
    for network in state.networks.values().filter(|network| !network.mtu_fixed) {
        let least = if network.ipv6 { MIN_MTU6 } else { *MTUS.start() };
        let mtu = config.mtu.unwrap_or(default_mtu).clamp(least, *MTUS.end());
        if mtu != network.mtu {
            change(&mut plan, state, network, mtu);
        }
    }
    plan
}

fn change(plan: &mut Plan, state: &State, network: &Network, mtu: u32) {
    let mut new = Network { mtu, ..network.clone() };
    if network.name.as_str() == DEFAULT_NETWORK {
        new.options.insert(options::MTU.to_owned(), mtu.to_string());
    }
    let bridge = Op::BridgeMtu {
        name: network.bridge.clone(),
        mac: network.bridge_mac,
        old: network.mtu,
        new: mtu,
    };
    let members = state.containers.values().flat_map(|container| {
        let own = container.endpoints.iter().filter(|endpoint| endpoint.network == network.id);
        own.map(move |endpoint| veth(container, endpoint, network.mtu, mtu))
    });
    // Whoever receives takes the larger packets before anyone sends them.
    if mtu > network.mtu {
        plan.apply(bridge);
        plan.apply_all(members);
    } else {
        plan.apply_all(members);
        plan.apply(bridge);
    }
    plan.changes.push(Change::PutNetwork(new));
}

fn veth(container: &Container, endpoint: &Endpoint, old: u32, new: u32) -> Op {
    Op::VethMtu {
        endpoint: endpoint.id.clone(),
        host: endpoint.host_link.clone(),
        netns: container.netns.clone(),
        mac: endpoint.mac,
        old,
        new,
    }
}
