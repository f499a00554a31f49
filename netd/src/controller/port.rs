//! Published ports: what they are made of, and their changes while a container
//! runs.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netd_common::abi::Family;

use super::{
    Change, Error, Host, Op, Plan, Result, State,
    endpoint::{allow_list_op, host_port_op, lease_op, port_op, sources_op},
    find_container,
    host_ports::HostPorts,
    subnets::family_of,
};
use crate::model::{
    Container, ContainerState, Endpoint, Network, PortMapping, PortRequest, PortSpec, Protocol,
};

/// `port add` on a running container; the mappings that it asks for are the
/// answer. One that the container has already gets the sources of the request
/// while its connections go on.
pub fn plan_publish(
    state: &State,
    host: &Host,
    name: &str,
    specs: &[String],
) -> Result<(Plan, Vec<PortMapping>)> {
    let mut container = find_container(state, name)?.clone();
    check_alive(&container)?;
    let requests = parse(specs)?.iter().flat_map(PortSpec::expand).collect::<Vec<_>>();
    let seed = container.id.seed();
    let places = Places::of(&container);
    let binding = places.binding(state, &container)?;
    let families = places.families();

    let mut host_ports = HostPorts::of(state, host);
    let (mut known, mut new) = (vec![], vec![]);
    let published = by_port(&container);
    for request in requests {
        let mut addresses = host_addresses(&request, binding, &families)?;
        let of_port = published.get(&(request.protocol, request.container_port));
        addresses.retain(|address| {
            let mut of_port = of_port.into_iter().flatten();
            let same = of_port.find(|it| is_exactly(it, &request, *address));
            known.extend(same.map(|mapping| ((*mapping).clone(), request.clone())));
            same.is_none()
        });
        if !addresses.is_empty() {
            new.push((request, addresses));
        }
    }
    let changed = host_ports.change_sources(&known)?;
    let mut added = vec![];
    for (request, addresses) in new {
        added.extend(
            host_ports.allocate(&request, &addresses, seed, |ip| {
                places.is_routed(state, &container, ip)
            })?,
        );
    }

    let mut plan = Plan::default();
    let mut leases = vec![];
    for family in families {
        let Some(endpoint) =
            places.of_family(family).and_then(|at| container.endpoints.get_mut(at))
        else {
            continue;
        };
        let own = |mapping: &PortMapping| family_of(mapping.host_ip) == family;
        let added: Vec<_> = added.iter().filter(|mapping| own(mapping)).cloned().collect();
        plan.apply_all(made_of(network_of(state, endpoint)?, endpoint, &added));
        if endpoint.ports.is_empty() && !added.is_empty() {
            leases.push(endpoint.id.clone());
        }
        endpoint.ports.extend(added);
    }
    for endpoint in &mut container.endpoints {
        let own = endpoint.ports.iter().filter_map(|port| changed.get_key_value(port));
        let own: Vec<_> = own.collect();
        plan.apply_all(own.iter().filter_map(|(_, new)| allow_list_op(new)));
        plan.apply_all(own.iter().map(|(old, new)| sources_op(endpoint, old, new)));
        plan.revert_all(own.iter().filter_map(|(old, _)| allow_list_op(old)).collect());
        for mapping in &mut endpoint.ports {
            if let Some(new) = changed.get(mapping) {
                *mapping = new.clone();
            }
        }
    }
    // Last: undoing an update of a lease would take the lease itself.
    for endpoint in container.endpoints.iter().filter(|it| leases.contains(&it.id)) {
        plan.apply(lease_op(network_of(state, endpoint)?, endpoint));
    }
    let mut asked: Vec<_> = known
        .into_iter()
        .map(|(mapping, _)| changed.get(&mapping).cloned().unwrap_or(mapping))
        .collect();
    asked.extend(added);
    plan.changes.push(Change::PutContainer(container));
    Ok((plan, asked))
}

/// Which of a container's endpoints has the ports of each family: the one with
/// the default route, for replies leave through it.
struct Places {
    v4: Option<usize>,
    v6: Option<usize>,
}

impl Places {
    fn of(container: &Container) -> Self {
        let endpoints = &container.endpoints;
        Self {
            v4: endpoints.iter().position(|endpoint| endpoint.default_route),
            v6: endpoints.iter().position(|endpoint| endpoint.default_route6),
        }
    }

    fn of_family(&self, family: Family) -> Option<usize> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn families(&self) -> Vec<Family> {
        let all = [Family::V4, Family::V6].into_iter();
        all.filter(|family| self.of_family(*family).is_some()).collect()
    }

    /// Whether ports of a host address are at the container's own.
    fn is_routed(&self, state: &State, container: &Container, host: IpAddr) -> bool {
        let endpoint = self.of_family(family_of(host)).and_then(|at| container.endpoints.get(at));
        endpoint
            .and_then(|endpoint| state.networks.get(&endpoint.network))
            .is_some_and(|network| network.is_routed(host))
    }

    /// The host address of ports that name none: of the network that IPv4
    /// leaves by, which has one for both families.
    fn binding(&self, state: &State, container: &Container) -> Result<IpAddr> {
        let endpoint = self.v4.or(self.v6).and_then(|at| container.endpoints.get(at));
        let endpoint = endpoint.ok_or_else(|| Error::NothingToPublishOn(container.name.clone()))?;
        Ok(network_of(state, endpoint)?.host_binding)
    }
}

/// The host addresses of a request's mappings. One that names none gets the
/// network's, and if that is every IPv4 address, every IPv6 address too, where
/// the container has IPv6. No family is translated into the other, for the
/// client's address would be lost.
pub(super) fn host_addresses(
    request: &PortRequest,
    binding: IpAddr,
    families: &[Family],
) -> Result<Vec<IpAddr>> {
    let named = request.host_ip.unwrap_or(binding);
    let mut addresses = vec![named];
    if request.host_ip.is_none() && named == IpAddr::from(Ipv4Addr::UNSPECIFIED) {
        addresses.push(Ipv6Addr::UNSPECIFIED.into());
        addresses.retain(|address| families.contains(&family_of(*address)));
    }
    if addresses.iter().all(|address| families.contains(&family_of(*address))) {
        Ok(addresses)
    } else {
        Err(Error::OtherFamily { address: named })
    }
}

/// Whether a mapping is what a request means on this address.
pub(super) fn is_exactly(mapping: &PortMapping, request: &PortRequest, address: IpAddr) -> bool {
    let host = request.host.as_ref().filter(|range| range.start() == range.end());
    let at = if mapping.is_routed() {
        family_of(mapping.host_ip) == family_of(address)
    } else {
        mapping.host_ip == address && host.is_some_and(|range| *range.start() == mapping.host_port)
    };
    at && mapping.container_port == request.container_port && mapping.protocol == request.protocol
}

/// `port rm` on a running container. A spec means every mapping of its
/// container ports that it doesn't contradict.
pub fn plan_unpublish(state: &State, name: &str, specs: &[String]) -> Result<Plan> {
    let mut container = find_container(state, name)?.clone();
    check_alive(&container)?;
    let requests: Vec<PortRequest> = parse(specs)?.iter().flat_map(PortSpec::expand).collect();
    let published = by_port(&container);
    let mut wanted: HashMap<_, Vec<_>> = HashMap::new();
    for request in &requests {
        let port = (request.protocol, request.container_port);
        if !published.get(&port).into_iter().flatten().any(|mapping| meant(request, mapping)) {
            return Err(not_published(&container, request));
        }
        wanted.entry(port).or_default().push(request);
    }
    let is_meant = |mapping: &PortMapping| {
        let of_port = wanted.get(&(mapping.protocol, mapping.container_port));
        of_port.into_iter().flatten().any(|request| meant(request, mapping))
    };

    let mut plan = Plan::default();
    let mut leases = vec![];
    for endpoint in &mut container.endpoints {
        let all = std::mem::take(&mut endpoint.ports);
        let (removed, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_meant);
        endpoint.ports = kept;
        let network = network_of(state, endpoint)?;
        plan.revert_all(made_of(network, endpoint, &removed));
        if !removed.is_empty() && endpoint.ports.is_empty() {
            leases.push(lease_op(network, endpoint));
        }
    }
    plan.apply_all(leases);
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

/// A container's mappings by their container ports: a range is thousands.
fn by_port(container: &Container) -> HashMap<(Protocol, u16), Vec<&PortMapping>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for mapping in container.endpoints.iter().flat_map(|endpoint| &endpoint.ports) {
        found.entry((mapping.protocol, mapping.container_port)).or_default().push(mapping);
    }
    found
}

fn meant(request: &PortRequest, mapping: &PortMapping) -> bool {
    request.container_port == mapping.container_port
        && request.protocol == mapping.protocol
        && (mapping.is_routed()
            || request.host_ip.is_none_or(|ip| ip == mapping.host_ip)
                && request.host.as_ref().is_none_or(|range| range.contains(&mapping.host_port)))
}

/// Every address of the family.
pub(super) fn any_address(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn not_published(container: &Container, request: &PortRequest) -> Error {
    let ip = request.host_ip.map(|ip| ip.to_string());
    let port = request.host.as_ref().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    let host = match (ip, port) {
        (None, None) => String::new(),
        (None, Some(port)) => format!(" on host port {port}"),
        (Some(ip), None) => format!(" on {ip}"),
        (Some(ip), Some(port)) => format!(" on {ip}:{port}"),
    };
    Error::NotPublished {
        container: container.name.clone(),
        port: request.container_port,
        protocol: request.protocol,
        host,
    }
}

fn parse(specs: &[String]) -> Result<Vec<PortSpec>> {
    if specs.is_empty() {
        return Err(Error::NoPorts);
    }
    Ok(specs.iter().map(|spec| spec.parse()).collect::<Result<_, _>>()?)
}

pub(super) fn check_alive(container: &Container) -> Result<()> {
    match container.state {
        ContainerState::Created | ContainerState::Running(_) | ContainerState::Joined => Ok(()),
        ContainerState::Exited { .. } => Err(Error::NotRunning(container.name.clone())),
    }
}

pub(super) fn network_of<'a>(state: &'a State, endpoint: &Endpoint) -> Result<&'a Network> {
    state
        .networks
        .get(&endpoint.network)
        .ok_or(Error::Internal("an endpoint's network is not in the state"))
}

/// The ops of a container's ports: sockets and allow-lists before the
/// datapath's entries.
pub(super) fn ops(network: &Network, endpoint: &Endpoint) -> Vec<Op> {
    made_of(network, endpoint, &endpoint.ports)
}

fn made_of(network: &Network, endpoint: &Endpoint, ports: &[PortMapping]) -> Vec<Op> {
    let sockets = ports.iter().filter_map(host_port_op);
    let lists = ports.iter().filter_map(allow_list_op);
    let entries = ports.iter().map(|mapping| port_op(network, endpoint, mapping));
    sockets.chain(lists).chain(entries).collect()
}
