//! Endpoints: how one comes to be, and the ops that it is made of.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use ipnetwork::IpNetwork;
use netd_common::abi;

use super::{Error, Op, Result, Sources, State, port};
use crate::{
    ipam::{AddressError, check_address, choose_address},
    model::{
        Endpoint, Id, IfName, Mac, Network, Pool, PortMapping, Protocol,
        network::annex::{Annex, MOST_ANNEXES},
    },
};

/// Digits of an endpoint's id in the names of its links.
const LINK_DIGITS: usize = 10;

/// The addresses that were asked for (`--ip`, `--ip6`); the others are netd's
/// to choose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fixed {
    pub(super) v4: Option<IpAddr>,
    pub(super) v6: Option<IpAddr>,
}

/// A new endpoint on `network`, with `fixed` or the next free addresses,
/// beside the `others` of its container.
pub(super) fn create(
    state: &State,
    network: &Network,
    id: Id,
    fixed: Fixed,
    others: &[Endpoint],
) -> Result<Endpoint> {
    let endpoint = create_outside(state, network, id, fixed, None)?;
    let routed = !network.internal;
    Ok(Endpoint {
        container_link: container_link(network, others)?,
        // They stay with the first that has them.
        default_route: routed && !others.iter().any(|other| other.default_route),
        default_route6: routed
            && endpoint.address6.is_some()
            && !others.iter().any(|other| other.default_route6),
        ..endpoint
    })
}

/// One that another program attaches: it names the interface, and tells later
/// where the default routes are.
pub(super) fn create_outside(
    state: &State,
    network: &Network,
    id: Id,
    fixed: Fixed,
    given: Option<Mac>,
) -> Result<Endpoint> {
    let (address, address6) = addresses(state, network, fixed)?;
    Ok(Endpoint {
        host_link: IfName::from_id("nd", &id, LINK_DIGITS),
        container_link: IfName::from_id("nc", &id, LINK_DIGITS),
        network: network.id.clone(),
        address,
        address6,
        mac: given.unwrap_or_else(|| mac(address.ip(), &id)),
        default_route: false,
        default_route6: false,
        annex: annex(state, network)?,
        ports: vec![],
        id,
    })
}

/// What was asked for, or the next that are free: of IPv4, and of IPv6 where
/// the network has it.
fn addresses(
    state: &State,
    network: &Network,
    fixed: Fixed,
) -> Result<(IpNetwork, Option<IpNetwork>)> {
    let taken: BTreeSet<IpAddr> = endpoints(state, network)
        .flat_map(|(_, endpoint)| endpoint.addresses().map(|address| address.ip()))
        .collect();
    let (mut address, mut address6) = (None, None);
    for pool in &network.pools {
        let (chosen, asked) = match pool.subnet {
            IpNetwork::V4(_) => (&mut address, fixed.v4),
            IpNetwork::V6(_) => (&mut address6, fixed.v6),
        };
        let ip = match asked {
            Some(ip) => check(state, network, pool, &taken, ip)?,
            None => next(network, pool, &taken)?,
        };
        let with_prefix = IpNetwork::new(ip, pool.subnet.prefix())
            .map_err(|_| Error::Internal("a subnet has a prefix that is none"))?;
        *chosen = Some(with_prefix);
    }
    if let (Some(asked), None) = (fixed.v6, address6) {
        return Err(Error::NoIpv6 { address: asked, network: network.name.clone() });
    }
    let address = address.ok_or(Error::Internal("a network has no IPv4 subnet"))?;
    Ok((address, address6))
}

/// The first bridge of the network that has room.
fn annex(state: &State, network: &Network) -> Result<u8> {
    let mut used = [0; MOST_ANNEXES as usize + 1];
    for (_, endpoint) in endpoints(state, network) {
        if let Some(used) = used.get_mut(usize::from(endpoint.annex)) {
            *used += 1;
        }
    }
    let ports = network.bridge_ports();
    (0..=MOST_ANNEXES)
        .find(|number| used[usize::from(*number)] < ports)
        .ok_or_else(|| Error::NetworkFull(network.name.clone()))
}

fn check(
    state: &State,
    network: &Network,
    pool: &Pool,
    taken: &BTreeSet<IpAddr>,
    ip: IpAddr,
) -> Result<IpAddr> {
    match check_address(std::slice::from_ref(pool), taken, ip) {
        Ok(_) => Ok(ip),
        Err(AddressError::InUse) => {
            Err(Error::AddressInUse { address: ip, owner: owner(state, network, ip) })
        }
        Err(outside @ AddressError::NotInSubnet(_)) => Err(Error::Address(outside)),
    }
}

fn next(network: &Network, pool: &Pool, taken: &BTreeSet<IpAddr>) -> Result<IpAddr> {
    choose_address(pool, taken).ok_or_else(|| Error::AddressesExhausted {
        family: if pool.subnet.is_ipv4() { "IPv4" } else { "IPv6" },
        name: network.name.clone(),
        id: network.id.clone(),
    })
}

/// Who has an address, in words.
fn owner(state: &State, network: &Network, ip: IpAddr) -> String {
    if let Some((container, _)) =
        endpoints(state, network).find(|(_, endpoint)| endpoint.addresses().any(|a| a.ip() == ip))
    {
        return format!("container {container}");
    }
    network
        .pools
        .iter()
        .find_map(|pool| {
            if pool.gateway == ip || pool.default_gateway == Some(ip) {
                return Some("the gateway".to_owned());
            }
            let (name, _) = pool.aux.iter().find(|(_, aux)| **aux == ip)?;
            Some(format!("auxiliary address {name}"))
        })
        .unwrap_or_else(|| match ip {
            IpAddr::V4(_) => "the subnet itself: it is its network or broadcast address".to_owned(),
            IpAddr::V6(_) => "the subnet itself: it is its routers' anycast address".to_owned(),
        })
}

/// The endpoints of a network, with their containers' names.
fn endpoints<'a>(
    state: &'a State,
    network: &'a Network,
) -> impl Iterator<Item = (&'a crate::model::Name, &'a Endpoint)> {
    state.containers.values().flat_map(move |container| {
        container
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.network == network.id)
            .map(|endpoint| (&container.name, endpoint))
    })
}

/// The network's prefix and the lowest number that is free in the container.
fn container_link(network: &Network, others: &[Endpoint]) -> Result<IfName> {
    (0..=others.len())
        .filter_map(|nth| IfName::try_from(format!("{}{nth}", network.container_prefix)).ok())
        .find(|name| others.iter().all(|other| other.container_link != *name))
        .ok_or(Error::Internal("no name is left for the container's interface"))
}

/// 02:42 and the IPv4 address, as Docker's; of the id where there is none.
fn mac(ip: IpAddr, id: &Id) -> Mac {
    let [a, b, c, d] = match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => id.seed().to_be_bytes(),
    };
    Mac([0x02, 0x42, a, b, c, d])
}

/// What an endpoint is made of, in the order of its making; `netns` is
/// [`Container::own_netns`]. The first of an annex makes that too, and the
/// last takes it down.
pub(super) fn ops(
    state: &State,
    network: &Network,
    endpoint: &Endpoint,
    netns: Option<&Path>,
) -> Vec<Op> {
    let is_alone = || {
        let mut in_annex = endpoints(state, network).filter(|(_, it)| it.annex == endpoint.annex);
        in_annex.all(|(_, other)| other.id == endpoint.id)
    };
    let annex = annex_op(network, endpoint.annex).filter(|_| is_alone());
    let outside = [
        veth_op(network, endpoint, netns),
        programs_op(endpoint),
        // Before the interface comes up and speaks.
        lease_op(network, endpoint),
    ];
    let inside = netns.map(|netns| interface_op(network, endpoint, netns));
    annex.into_iter().chain(outside).chain(inside).chain(port::ops(network, endpoint)).collect()
}

/// The annexes that a network's endpoints are in.
pub(super) fn annexes(state: &State, network: &Network) -> Vec<Op> {
    let numbers: BTreeSet<u8> =
        endpoints(state, network).map(|(_, endpoint)| endpoint.annex).collect();
    numbers.into_iter().filter_map(|number| annex_op(network, number)).collect()
}

/// The annex of this number, if it is one.
pub(super) fn annex_op(network: &Network, number: u8) -> Option<Op> {
    let Annex { bridge, mac, near, far } = network.annex(number)?;
    Some(Op::Annex { bridge: network.bridge.clone(), name: bridge, mac, near, far })
}

pub(super) fn veth_op(network: &Network, endpoint: &Endpoint, netns: Option<&Path>) -> Op {
    Op::Veth {
        endpoint: endpoint.id.clone(),
        host: endpoint.host_link.clone(),
        peer: endpoint.container_link.clone(),
        netns: netns.map(Path::to_owned),
        mac: endpoint.mac,
        mtu: network.mtu,
        bridge: network.bridge_of(endpoint.annex),
    }
}

pub(super) fn programs_op(endpoint: &Endpoint) -> Op {
    Op::Programs { host: endpoint.host_link.clone() }
}

pub(super) fn interface_op(network: &Network, endpoint: &Endpoint, netns: &Path) -> Op {
    let routed = [
        endpoint.default_route.then_some(endpoint.address),
        endpoint.address6.filter(|_| endpoint.default_route6),
    ];
    let pools = routed.into_iter().flatten().filter_map(|address| network.pool_of(address.ip()));
    Op::Interface {
        netns: netns.to_owned(),
        name: endpoint.container_link.clone(),
        mac: endpoint.mac,
        addresses: endpoint.addresses().collect(),
        gateways: pools.map(Pool::route).collect(),
    }
}

pub(super) fn lease_op(network: &Network, endpoint: &Endpoint) -> Op {
    use abi::Endpoint as Flags;

    let published = if endpoint.ports.is_empty() { 0 } else { Flags::PUBLISHED };
    let icc = if network.icc { Flags::ICC } else { 0 };
    let meets_host = if network.meets_host() { Flags::MEETS_HOST } else { 0 };
    Op::Lease {
        addresses: endpoint.known_as().collect(),
        host: endpoint.host_link.clone(),
        network: network.index,
        mac: endpoint.mac,
        gateway_mac: network.bridge_mac,
        flags: published | icc | meets_host,
        max_flows: network.max_flows,
    }
}

/// The socket that holds a mapping's host port, if it has one.
pub(super) fn host_port_op(mapping: &PortMapping) -> Option<Op> {
    (!mapping.is_routed()).then_some(Op::HostPort {
        address: mapping.host_ip,
        port: mapping.host_port,
        protocol: mapping.protocol,
    })
}

pub(super) fn port_op(network: &Network, endpoint: &Endpoint, mapping: &PortMapping) -> Op {
    let address = endpoint.target(mapping);
    let (host_address, host_port) = mapping.reached_at(address);
    let tcp = mapping.protocol == Protocol::Tcp;
    Op::Port {
        host_address,
        host_port,
        protocol: mapping.protocol,
        address,
        port: mapping.container_port,
        allow: mapping.list,
        syn_rate: if tcp { network.syn_rate } else { 0 },
    }
}

/// The op of a mapping's allow-list, if it has one.
pub(super) fn allow_list_op(mapping: &PortMapping) -> Option<Op> {
    (mapping.list != 0).then(|| Op::AllowList { list: mapping.list, from: mapping.from.clone() })
}

/// What turns `old` into `new`, which differ in their sources alone.
pub(super) fn sources_op(endpoint: &Endpoint, old: &PortMapping, new: &PortMapping) -> Op {
    let sources =
        |mapping: &PortMapping| Sources { list: mapping.list, from: mapping.from.clone() };
    let address = endpoint.target(new);
    let (host_address, host_port) = new.reached_at(address);
    Op::PortSources {
        host_address,
        host_port,
        protocol: new.protocol,
        address,
        old: sources(old),
        new: sources(new),
    }
}
