//! Published ports: which host port each gets, and changes while a container
//! runs.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Change, Error, Host, Op, Plan, Result, State,
    endpoint::{host_port_op, lease_op, port_op},
    find_container,
};
use crate::model::{
    Container, ContainerState, Endpoint, Network, PortMapping, PortRequest, PortSpec, Protocol,
};

/// Host ports in use, and who uses them.
pub(super) struct HostPorts<'a> {
    host: &'a Host,
    used: BTreeMap<(Protocol, u16), Vec<(IpAddr, String)>>,
}

impl<'a> HostPorts<'a> {
    pub(super) fn of(state: &State, host: &'a Host) -> Self {
        let mut ports = Self { host, used: BTreeMap::new() };
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
        if !request.from.is_empty() {
            return Err(Error::NotYet("a source allow-list (`,from=CIDR`)".into()));
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
            from: vec![],
        };
        self.take(&mapping, "another port of the same request");
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
    }
}

/// `port add` on a running container; the new mappings are the answer.
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
    let added = HostPorts::of(state, host).allocate_all(&requests, network, seed)?;

    let mut plan = Plan::default();
    plan.apply_all(added.iter().map(host_port_op));
    plan.apply_all(added.iter().map(|mapping| port_op(endpoint, mapping)));
    let had_ports = !endpoint.ports.is_empty();
    endpoint.ports.extend(added.iter().cloned());
    if !had_ports {
        // Last: undoing an update of the lease would take the lease itself.
        plan.apply(lease_op(network, endpoint));
    }
    plan.changes.push(Change::PutContainer(container));
    Ok((plan, added))
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
        let host_ports = removed.iter().map(host_port_op);
        let ports = removed.iter().map(|mapping| port_op(endpoint, mapping));
        plan.revert_all(host_ports.chain(ports).collect());
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

/// The ops of a container's ports, sockets before the datapath's entries.
pub(super) fn ops(endpoint: &Endpoint) -> impl Iterator<Item = Op> {
    let sockets = endpoint.ports.iter().map(host_port_op);
    let entries = endpoint.ports.iter().map(|mapping| port_op(endpoint, mapping));
    sockets.chain(entries)
}
