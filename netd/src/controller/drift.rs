//! What the host no longer has of what netd made there: a bridge, a veth pair,
//! an address, a route that somebody removed, and what brings each back. Pure.

use std::{collections::BTreeMap, fmt};

use ipnetwork::IpNetwork;

use super::{
    Op, State,
    endpoint::{annexes, interface_op, lease_op, programs_op, veth_op},
    network,
};
use crate::{
    kernel::names,
    model::{Container, Endpoint, IfName, Network},
};

/// A link of the host, with what concerns netd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLink {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    /// Index of the bridge that it is in.
    pub master: Option<u32>,
    pub mtu: u32,
    pub mac: Option<crate::model::Mac>,
    pub up: bool,
    pub addresses: Vec<IpNetwork>,
    /// Destinations of the main table's routes over it.
    pub routes: Vec<IpNetwork>,
    /// It forwards IPv4, and IPv6.
    pub forwards: (bool, bool),
}

/// Something that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub what: What,
    /// In their order.
    pub repairs: Vec<Repair>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    Op(Op),
    /// The route to a link's own network, as the kernel adds it with the
    /// address.
    Route {
        link: IfName,
        address: IpNetwork,
    },
    Rename {
        index: u32,
        name: IfName,
    },
}

/// What has changed, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    BridgeGone(IfName),
    VethGone { link: IfName, container: String },
    Renamed { from: String, to: IfName },
    Down(IfName),
    Mtu { link: IfName, mtu: u32 },
    Mac(IfName),
    Alias(IfName),
    Master { link: IfName, bridge: IfName },
    Address { link: IfName, address: IpNetwork },
    Route { link: IfName, network: IpNetwork },
    Forwarding(IfName),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BridgeGone(name) => write!(f, "bridge `{name}` was deleted"),
            Self::VethGone { link, container } => {
                write!(f, "veth `{link}` of container {container} was deleted")
            }
            Self::Renamed { from, to } => write!(f, "link `{to}` was renamed to `{from}`"),
            Self::Down(name) => write!(f, "link `{name}` was set down"),
            Self::Mtu { link, mtu } => write!(f, "the MTU of `{link}` was set to {mtu}"),
            Self::Mac(name) => write!(f, "the hardware address of `{name}` was changed"),
            Self::Alias(name) => write!(f, "the alias of `{name}` was removed"),
            Self::Master { link, bridge } => write!(f, "`{link}` was taken out of `{bridge}`"),
            Self::Address { link, address } => {
                write!(f, "the address {address} of `{link}` was removed")
            }
            Self::Route { link, network } => {
                write!(f, "the route to {network} over `{link}` was removed")
            }
            Self::Forwarding(name) => write!(f, "forwarding of `{name}` was switched off"),
        }
    }
}

/// All that is amiss with the links of `state`. A veth pair counts only where
/// `has_sandbox` says that its container's namespace is there.
pub fn drift(
    state: &State,
    links: &[SeenLink],
    has_sandbox: impl Fn(&Container) -> bool,
) -> Vec<Drift> {
    let by_name: BTreeMap<&str, &SeenLink> =
        links.iter().map(|link| (link.name.as_str(), link)).collect();
    let aliased = |alias: &str| links.iter().find(|link| link.alias.as_deref() == Some(alias));
    // Under another name, maybe.
    let bridge = |network: &Network| match by_name.get(network.bridge.as_str()) {
        Some(link) => Some(*link),
        None => aliased(&names::bridge_alias(network.bridge_mac)),
    };
    let there = |link: &IfName| by_name.contains_key(link.as_str());
    let mut found = Vec::new();
    for network in state.networks.values() {
        if let Some(link) = by_name.get(network.bridge.as_str()) {
            of_bridge(network, link, &mut found);
        } else if let Some(link) = bridge(network) {
            found.push(renamed(link, &network.bridge));
        } else {
            let what = What::BridgeGone(network.bridge.clone());
            let ops = network::ops(network).into_iter();
            let ops = ops.chain(annexes(state, network)).chain(veths_of(state, network, there));
            found.push(Drift { what, repairs: ops.map(Repair::Op).collect() });
            continue;
        }
        let within = bridge(network).map(|bridge| bridge.index);
        for op in annexes(state, network) {
            let Op::Annex { name, near, far, .. } = &op else { continue };
            let master = by_name.get(near.as_str()).and_then(|near| near.master);
            if there(name) && there(far) && master == within {
                continue;
            }
            let what = What::BridgeGone(name.clone());
            let ops = std::iter::once(op).chain(veths_of(state, network, there));
            found.push(Drift { what, repairs: ops.map(Repair::Op).collect() });
        }
    }
    for container in state.containers.values() {
        for endpoint in &container.endpoints {
            let Some(network) = state.networks.get(&endpoint.network) else { continue };
            let bridge = match endpoint.annex {
                0 => bridge(network).map(|bridge| bridge.index),
                annex => by_name.get(network.bridge_of(annex).as_str()).map(|it| it.index),
            };
            match by_name.get(endpoint.host_link.as_str()) {
                Some(link) => of_veth(container, network, endpoint, (link, bridge), &mut found),
                None => match aliased(&names::veth_alias(&endpoint.id)) {
                    Some(link) => found.push(renamed(link, &endpoint.host_link)),
                    None if has_sandbox(container) => {
                        found.extend(veth_gone(container, network, endpoint));
                    }
                    None => {}
                },
            }
        }
    }
    found
}

/// The veth pairs of a network that are there.
fn veths_of(
    state: &State,
    network: &Network,
    there: impl Fn(&IfName) -> bool,
) -> impl Iterator<Item = Op> {
    let endpoints = state.containers.values().flat_map(|c| c.endpoints.iter().map(move |e| (c, e)));
    endpoints
        .filter(move |(_, it)| it.network == network.id && there(&it.host_link))
        .map(move |(container, it)| veth_op(network, it, container.own_netns()))
}

fn renamed(link: &SeenLink, name: &IfName) -> Drift {
    Drift {
        what: What::Renamed { from: link.name.clone(), to: name.clone() },
        repairs: vec![Repair::Rename { index: link.index, name: name.clone() }],
    }
}

fn of_bridge(network: &Network, link: &SeenLink, found: &mut Vec<Drift>) {
    let Some(Op::Bridge { name, mac, mtu, addresses }) = network::ops(network).into_iter().next()
    else {
        return;
    };
    let op = Op::Bridge { name: name.clone(), mac, mtu, addresses: addresses.clone() };
    let mut amiss = |what| found.push(Drift { what, repairs: vec![Repair::Op(op.clone())] });
    let link_name = || name.clone();
    if link.alias.is_none() {
        amiss(What::Alias(link_name()));
    }
    if link.mac != Some(mac) {
        amiss(What::Mac(link_name()));
    }
    if link.mtu != mtu {
        amiss(What::Mtu { link: link_name(), mtu: link.mtu });
    }
    if !link.up {
        amiss(What::Down(link_name()));
    }
    let (forwards, forwards6) = link.forwards;
    if !forwards || !forwards6 && addresses.iter().any(IpNetwork::is_ipv6) {
        amiss(What::Forwarding(link_name()));
    }
    for address in addresses {
        if !link.addresses.contains(&address) {
            amiss(What::Address { link: link_name(), address });
        } else if let Some(to) = own_network(address)
            && link.up
            && !link.routes.contains(&to)
        {
            let repair = Repair::Route { link: link_name(), address };
            let what = What::Route { link: link_name(), network: to };
            found.push(Drift { what, repairs: vec![repair] });
            return;
        }
    }
}

/// Where an address leads by itself.
pub fn own_network(address: IpNetwork) -> Option<IpNetwork> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let network = IpNetwork::new(address.network(), address.prefix()).ok()?;
    (address.prefix() < bits).then_some(network)
}

fn of_veth(
    container: &Container,
    network: &Network,
    endpoint: &Endpoint,
    (link, bridge): (&SeenLink, Option<u32>),
    found: &mut Vec<Drift>,
) {
    let name = || endpoint.host_link.clone();
    let mut amiss = |what| {
        let op = veth_op(network, endpoint, container.own_netns());
        found.push(Drift { what, repairs: vec![Repair::Op(op)] });
    };
    if link.alias.is_none() {
        amiss(What::Alias(name()));
    }
    if !link.up {
        amiss(What::Down(name()));
    }
    if link.mtu != network.mtu {
        amiss(What::Mtu { link: name(), mtu: link.mtu });
    }
    // Without its bridge, it goes back with that.
    if bridge.is_some() && link.master != bridge {
        amiss(What::Master { link: name(), bridge: network.bridge_of(endpoint.annex) });
    }
}

/// Its other end went with it, and all that the container had there.
fn veth_gone(container: &Container, network: &Network, endpoint: &Endpoint) -> Option<Drift> {
    // Where a runtime has taken the other end, that runtime knows why.
    let netns = container.own_netns()?;
    let ops = [
        veth_op(network, endpoint, Some(netns)),
        programs_op(endpoint),
        lease_op(network, endpoint),
        interface_op(network, endpoint, netns),
    ];
    Some(Drift {
        what: What::VethGone {
            link: endpoint.host_link.clone(),
            container: container.name.to_string(),
        },
        repairs: ops.into_iter().map(Repair::Op).collect(),
    })
}
