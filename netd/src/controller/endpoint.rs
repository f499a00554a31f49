//! Endpoints: how one comes to be, and the ops that it is made of.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use ipnetwork::IpNetwork;
use netd_common::abi;

use super::{Error, Op, Result, Sources, State, port};
use crate::{
    ipam::{AddressError, check_address, choose_address},
    model::{Endpoint, Id, IfName, Mac, Network, Pool, PortMapping},
};

/// Digits of an endpoint's id in the names of its links.
const LINK_DIGITS: usize = 10;

/// A new endpoint on `network`, with `ip` or the next free address, beside
/// the `others` of its container.
pub(super) fn create(
    state: &State,
    network: &Network,
    id: Id,
    ip: Option<IpAddr>,
    others: &[Endpoint],
) -> Result<Endpoint> {
    let taken: BTreeSet<IpAddr> =
        endpoints(state, network).map(|(_, endpoint)| endpoint.address.ip()).collect();
    let (ip, pool) = match ip {
        Some(ip) => (ip, fixed(state, network, &taken, ip)?),
        None => next(network, &taken)?,
    };
    let address = IpNetwork::new(ip, pool.subnet.prefix())
        .map_err(|_| Error::Internal("a subnet has a prefix that is none"))?;
    Ok(Endpoint {
        host_link: IfName::from_id("nd", &id, LINK_DIGITS),
        container_link: container_link(network, others)?,
        network: network.id.clone(),
        address,
        address6: None,
        mac: mac(ip, &id),
        // It stays with the first that has one.
        default_route: !network.internal && !others.iter().any(|other| other.default_route),
        ports: vec![],
        id,
    })
}

fn fixed<'a>(
    state: &State,
    network: &'a Network,
    taken: &BTreeSet<IpAddr>,
    ip: IpAddr,
) -> Result<&'a Pool> {
    check_address(&network.pools, taken, ip).map_err(|error| match error {
        AddressError::InUse => {
            Error::AddressInUse { address: ip, owner: owner(state, network, ip) }
        }
        outside @ AddressError::NotInSubnet(_) => Error::Address(outside),
    })
}

fn next<'a>(network: &'a Network, taken: &BTreeSet<IpAddr>) -> Result<(IpAddr, &'a Pool)> {
    network.pools.iter().find_map(|pool| Some((choose_address(pool, taken)?, pool))).ok_or_else(
        || Error::AddressesExhausted { name: network.name.clone(), id: network.id.clone() },
    )
}

/// Who has an address, in words.
fn owner(state: &State, network: &Network, ip: IpAddr) -> String {
    if let Some((container, _)) =
        endpoints(state, network).find(|(_, endpoint)| endpoint.address.ip() == ip)
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
        .unwrap_or_else(|| "the subnet itself: it is its network or broadcast address".to_owned())
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

/// What an endpoint is made of, in the order of its making.
pub(super) fn ops(network: &Network, endpoint: &Endpoint, netns: &Path) -> Vec<Op> {
    [
        veth_op(network, endpoint, netns),
        programs_op(endpoint),
        // Before the interface comes up and speaks.
        lease_op(network, endpoint),
        interface_op(network, endpoint, netns),
    ]
    .into_iter()
    .chain(port::ops(endpoint))
    .collect()
}

pub(super) fn veth_op(network: &Network, endpoint: &Endpoint, netns: &Path) -> Op {
    Op::Veth {
        endpoint: endpoint.id.clone(),
        host: endpoint.host_link.clone(),
        peer: endpoint.container_link.clone(),
        netns: Some(netns.to_owned()),
        mac: endpoint.mac,
        mtu: network.mtu,
        bridge: network.bridge.clone(),
    }
}

pub(super) fn programs_op(endpoint: &Endpoint) -> Op {
    Op::Programs { host: endpoint.host_link.clone() }
}

pub(super) fn interface_op(network: &Network, endpoint: &Endpoint, netns: &Path) -> Op {
    let pool = network.pools.iter().find(|pool| pool.subnet.contains(endpoint.address.ip()));
    Op::Interface {
        netns: netns.to_owned(),
        name: endpoint.container_link.clone(),
        mac: endpoint.mac,
        addresses: std::iter::once(endpoint.address).chain(endpoint.address6).collect(),
        gateway: pool
            .filter(|_| endpoint.default_route)
            .map(|pool| pool.default_gateway.unwrap_or(pool.gateway)),
    }
}

pub(super) fn lease_op(network: &Network, endpoint: &Endpoint) -> Op {
    use abi::Endpoint as Flags;

    let published = if endpoint.ports.is_empty() { 0 } else { Flags::PUBLISHED };
    let icc = if network.icc { Flags::ICC } else { 0 };
    Op::Lease {
        address: endpoint.address.ip(),
        host: endpoint.host_link.clone(),
        network: network.index,
        mac: endpoint.mac,
        gateway_mac: network.bridge_mac,
        flags: published | icc,
    }
}

pub(super) fn host_port_op(mapping: &PortMapping) -> Op {
    Op::HostPort { address: mapping.host_ip, port: mapping.host_port, protocol: mapping.protocol }
}

pub(super) fn port_op(endpoint: &Endpoint, mapping: &PortMapping) -> Op {
    Op::Port {
        host_address: mapping.host_ip,
        host_port: mapping.host_port,
        protocol: mapping.protocol,
        address: endpoint.address.ip(),
        port: mapping.container_port,
        allow: mapping.list,
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
    Op::PortSources {
        host_address: new.host_ip,
        host_port: new.host_port,
        protocol: new.protocol,
        address: endpoint.address.ip(),
        old: sources(old),
        new: sources(new),
    }
}
