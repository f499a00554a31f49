//! Published ports: which host port each gets, and changes while a container
//! runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    Change, Error, Host, Op, Plan, Result, State,
    endpoint::{allow_list_op, host_port_op, lease_op, port_op, sources_op},
    find_container,
};
use crate::model::{
    Container, ContainerState, Endpoint, Network, PortMapping, PortRequest, PortSpec, Protocol,
};

/// The owner of a port that a request asks for twice.
const SAME_REQUEST: &str = "another port of the same request";

/// Host ports in use, and who uses them; the numbers of allow-lists in use.
pub(super) struct HostPorts<'a> {
    host: &'a Host,
    used: BTreeMap<(Protocol, u16), Vec<(IpAddr, String)>>,
    lists: BTreeSet<u32>,
}

impl<'a> HostPorts<'a> {
    pub(super) fn of(state: &State, host: &'a Host) -> Self {
        let mut ports = Self { host, used: BTreeMap::new(), lists: BTreeSet::new() };
        for container in state.containers.values() {
            let owner = format!("container {}", container.name);
            for mapping in container.endpoints.iter().flat_map(|e| &e.ports) {
                ports.take(mapping, &owner);
            }
        }
        ports
    }

    /// A mapping for each request, all of them or none.
    pub(super) fn allocate_all(
        &mut self,
        requests: &[PortRequest],
        network: &Network,
        seed: u32,
    ) -> Result<Vec<PortMapping>> {
        if requests.is_empty() {
            return Ok(vec![]);
        }
        if network.internal {
            return Err(Error::InternalNetwork(network.name.clone()));
        }
        requests.iter().map(|request| self.allocate(request, network.host_binding, seed)).collect()
    }

    fn allocate(
        &mut self,
        request: &PortRequest,
        binding: IpAddr,
        seed: u32,
    ) -> Result<PortMapping> {
        let host_ip = request.host_ip.unwrap_or(binding);
        if host_ip.is_ipv6() {
            return Err(Error::NotYet(format!("IPv6 (host address {host_ip})")));
        }
        let protocol = request.protocol;
        if protocol == Protocol::Sctp {
            return Err(Error::NotYet(format!("SCTP (port {})", request.container_port)));
        }
        let host_port = match &request.host {
            Some(range) if range.start() == range.end() => {
                self.exactly(host_ip, *range.start(), protocol)?
            }
            Some(range) => range
                .clone()
                .find(|port| self.is_free(host_ip, *port, protocol))
                .ok_or(Error::PortsExhausted)?,
            None => self.any(host_ip, protocol, seed)?,
        };
        let mapping = PortMapping {
            host_ip,
            host_port,
            container_port: request.container_port,
            protocol,
            list: self.list(&request.from),
            from: request.from.clone(),
        };
        self.take(&mapping, SAME_REQUEST);
        Ok(mapping)
    }

    fn exactly(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Result<u16> {
        match self.owner(ip, port, protocol) {
            None => Ok(port),
            Some(owner) => Err(Error::PortAllocated { address: ip, port, owner: owner.to_owned() }),
        }
    }

    /// From the ephemeral range, where no service is expected. The search
    /// starts at a place of the container's own: a port that was just given
    /// back is then not the next one's, whose clients it would surprise.
    fn any(&self, ip: IpAddr, protocol: Protocol, seed: u32) -> Result<u16> {
        let (first, last) = self.host.ephemeral;
        let count = u32::from(last.saturating_sub(first)) + 1;
        let start = first + u16::try_from(seed % count).unwrap_or(0);
        (start..=last)
            .chain(first..start)
            .filter(|port| !self.host.reserved_ports.iter().any(|r| r.contains(port)))
            .find(|port| self.is_free(ip, *port, protocol))
            .ok_or(Error::PortsExhausted)
    }

    fn is_free(&self, ip: IpAddr, port: u16, protocol: Protocol) -> bool {
        self.owner(ip, port, protocol).is_none()
            && !self.host.avoid_ports.contains(&(protocol, port))
    }

    fn owner(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Option<&str> {
        self.used
            .get(&(protocol, port))?
            .iter()
            .find(|(other, _)| ip == *other || ip.is_unspecified() || other.is_unspecified())
            .map(|(_, owner)| owner.as_str())
    }

    fn take(&mut self, mapping: &PortMapping, owner: &str) {
        self.used
            .entry((mapping.protocol, mapping.host_port))
            .or_default()
            .push((mapping.host_ip, owner.to_owned()));
        self.lists.insert(mapping.list);
    }

    /// A number for an allow-list that no other one has, or 0 for none.
    fn list(&mut self, from: &[IpNetwork]) -> u32 {
        if from.is_empty() {
            return 0;
        }
        let free = |list: &u32| !self.lists.contains(list);
        // There are far fewer lists than numbers.
        let list = (1..=u32::MAX).find(free).unwrap_or(u32::MAX);
        self.lists.insert(list);
        list
    }

    /// Each mapping of `ports` whose sources change, and what it becomes.
    fn change_sources(
        &mut self,
        requests: &[(Option<usize>, PortRequest)],
        ports: &[PortMapping],
    ) -> Result<Vec<(PortMapping, PortMapping)>> {
        let mut changed = vec![];
        for (nth, (place, request)) in requests.iter().enumerate() {
            let Some(old) = place.and_then(|place| ports.get(place)) else { continue };
            if requests[..nth].iter().any(|(other, _)| other == place) {
                return Err(Error::PortAllocated {
                    address: old.host_ip,
                    port: old.host_port,
                    owner: SAME_REQUEST.to_owned(),
                });
            }
            if old.from != request.from {
                let list = self.list(&request.from);
                changed.push((
                    old.clone(),
                    PortMapping { from: request.from.clone(), list, ..old.clone() },
                ));
            }
        }
        Ok(changed)
    }
}

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
    let name = container.name.clone();
    // Published ports belong to the endpoint with the default route: replies
    // leave through it.
    let endpoint = container
        .endpoints
        .iter_mut()
        .find(|endpoint| endpoint.default_route)
        .ok_or(Error::NothingToPublishOn(name))?;
    let network = network_of(state, endpoint)?;
    let mut host_ports = HostPorts::of(state, host);
    let (known, new): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .map(|request| (published_as(&request, &endpoint.ports, network), request))
        .partition(|(place, _)| place.is_some());
    let changed = host_ports.change_sources(&known, &endpoint.ports)?;
    let new: Vec<_> = new.into_iter().map(|(_, request)| request).collect();
    let added = host_ports.allocate_all(&new, network, seed)?;

    let mut plan = Plan::default();
    plan.apply_all(made_of(endpoint, &added));
    plan.apply_all(changed.iter().filter_map(|(_, new)| allow_list_op(new)));
    plan.apply_all(changed.iter().map(|(old, new)| sources_op(endpoint, old, new)));
    plan.revert_all(changed.iter().filter_map(|(old, _)| allow_list_op(old)).collect());
    let first = endpoint.ports.is_empty() && !added.is_empty();
    for (old, new) in changed {
        endpoint.ports.iter_mut().filter(|it| **it == old).for_each(|it| *it = new.clone());
    }
    endpoint.ports.extend(added.iter().cloned());
    if first {
        // Last: undoing an update of the lease would take the lease itself.
        plan.apply(lease_op(network, endpoint));
    }
    let mut asked: Vec<_> =
        known.iter().filter_map(|(place, _)| endpoint.ports.get((*place)?).cloned()).collect();
    asked.extend(added);
    plan.changes.push(Change::PutContainer(container));
    Ok((plan, asked))
}

/// The place of the mapping that a request means exactly, among `ports`.
fn published_as(request: &PortRequest, ports: &[PortMapping], network: &Network) -> Option<usize> {
    let host_ip = request.host_ip.unwrap_or(network.host_binding);
    let host = request.host.as_ref().filter(|range| range.start() == range.end())?;
    ports.iter().position(|mapping| {
        mapping.host_ip == host_ip
            && mapping.host_port == *host.start()
            && mapping.container_port == request.container_port
            && mapping.protocol == request.protocol
    })
}

/// `port rm` on a running container. A spec means every mapping of its
/// container ports that it doesn't contradict.
pub fn plan_unpublish(state: &State, name: &str, specs: &[String]) -> Result<Plan> {
    let mut container = find_container(state, name)?.clone();
    check_alive(&container)?;
    let requests: Vec<PortRequest> = parse(specs)?.iter().flat_map(PortSpec::expand).collect();
    for request in &requests {
        let published = container.endpoints.iter().flat_map(|e| &e.ports);
        if !published.into_iter().any(|mapping| meant(request, mapping)) {
            return Err(not_published(&container, request));
        }
    }

    let mut plan = Plan::default();
    let mut leases = vec![];
    for endpoint in &mut container.endpoints {
        let all = std::mem::take(&mut endpoint.ports);
        let (removed, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|mapping| requests.iter().any(|request| meant(request, mapping)));
        endpoint.ports = kept;
        plan.revert_all(made_of(endpoint, &removed));
        if !removed.is_empty() && endpoint.ports.is_empty() {
            leases.push(lease_op(network_of(state, endpoint)?, endpoint));
        }
    }
    plan.apply_all(leases);
    plan.changes.push(Change::PutContainer(container));
    Ok(plan)
}

fn meant(request: &PortRequest, mapping: &PortMapping) -> bool {
    request.container_port == mapping.container_port
        && request.protocol == mapping.protocol
        && request.host_ip.is_none_or(|ip| ip == mapping.host_ip)
        && request.host.as_ref().is_none_or(|range| range.contains(&mapping.host_port))
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
        ContainerState::Created | ContainerState::Running(_) => Ok(()),
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
pub(super) fn ops(endpoint: &Endpoint) -> Vec<Op> {
    made_of(endpoint, &endpoint.ports)
}

fn made_of(endpoint: &Endpoint, ports: &[PortMapping]) -> Vec<Op> {
    let sockets = ports.iter().map(host_port_op);
    let lists = ports.iter().filter_map(allow_list_op);
    let entries = ports.iter().map(|mapping| port_op(endpoint, mapping));
    sockets.chain(lists).chain(entries).collect()
}
