//! What must exist, by the state: the agent's start makes it so.

use std::collections::BTreeSet;

use super::{
    Op, State,
    endpoint::{annex_op, lease_op, programs_op, veth_op},
    network, port,
};

/// Everything of the networks, then of the containers that live, in order.
///
/// Sandboxes and what is in them are left out: they can't be made again under
/// a process that runs in them.
pub fn desired_ops(state: &State) -> Vec<Op> {
    let mut ops: Vec<Op> = state.networks.values().flat_map(network::ops).collect();
    // A container that has ended has no endpoints.
    let endpoints = state.containers.values().flat_map(|c| c.endpoints.iter().map(move |e| (c, e)));
    let mut annexes = BTreeSet::new();
    for (container, endpoint) in endpoints {
        if let Some(network) = state.networks.get(&endpoint.network) {
            if annexes.insert((&network.id, endpoint.annex)) {
                ops.extend(annex_op(network, endpoint.annex));
            }
            ops.extend([
                veth_op(network, endpoint, container.own_netns()),
                programs_op(endpoint),
                lease_op(network, endpoint),
            ]);
            ops.extend(port::ops(network, endpoint));
        }
    }
    ops
}
