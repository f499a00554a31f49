//! What Docker publishes, at the moment it says so: for the endpoint that the
//! container's default route is on, and only for as long.

use std::net::IpAddr;

use super::{endpoint_by_id, find_endpoint};
use crate::{
    api::docker::types::{EndpointRef, PortBinding, Program},
    controller::{
        Change, Error, Host, Plan, Result, State,
        endpoint::lease_op,
        host_ports::HostPorts,
        port::{self, network_of},
    },
    model::{Container, Endpoint, Id, Network, PortRequest, Protocol, port::PortError},
};

/// `ProgramExternalConnectivity`. What is published already stays as it is,
/// its connections too.
pub fn plan_program(state: &State, host: &Host, request: &Program) -> Result<Plan> {
    let (container, endpoint) = endpoint_by_id(state, &request.endpoint_id)?;
    let network = network_of(state, endpoint)?;
    let bindings = &request.options.bindings;
    let requests: Vec<PortRequest> = bindings.iter().map(request_of).collect::<Result<_>>()?;

    let mut plan = Plan::default();
    let mut container = container.clone();
    let id = endpoint.id.clone();
    take_default_routes(&mut container, &id);
    let Some(endpoint) = container.endpoints.iter_mut().find(|it| it.id == id) else {
        return Err(Error::Internal("an endpoint is not where it was found"));
    };
    let old = endpoint.ports.clone();
    if old.is_empty() || !requests.iter().all(|request| is_published(&old, request)) {
        let mut host_ports = HostPorts::of(state, host);
        host_ports.give_back(&old);
        let new = host_ports.allocate_all(&requests, network, id.seed())?;
        plan.revert_all(port::ops(network, endpoint));
        endpoint.ports = new;
        plan.apply_all(port::ops(network, endpoint));
        if old.is_empty() != endpoint.ports.is_empty() {
            // Last: undoing an update of a lease would take the lease itself.
            plan.apply(lease_op(network, endpoint));
        }
    }
    if state.containers.get(&container.id) != Some(&container) {
        plan.changes.push(Change::PutContainer(container));
    }
    Ok(plan)
}

/// The endpoint carries them now, and none of its container's others does.
fn take_default_routes(container: &mut Container, id: &Id) {
    let has6 = container.endpoints.iter().any(|it| it.id == *id && it.address6.is_some());
    for endpoint in &mut container.endpoints {
        let own = endpoint.id == *id;
        endpoint.default_route = own;
        if has6 {
            endpoint.default_route6 = own;
        }
    }
}

fn request_of(binding: &PortBinding) -> Result<PortRequest> {
    let protocol = match binding.proto {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        other => return Err(PortError::Protocol(other.to_string()).into()),
    };
    if binding.port == 0 {
        return Err(PortError::ContainerPort("0".to_owned()).into());
    }
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => {
            let ip: Option<IpAddr> = text.parse().ok();
            Some(ip.ok_or_else(|| PortError::HostIp(text.to_owned()))?)
        }
    };
    let (first, last) = (binding.host_port, binding.host_port_end.max(binding.host_port));
    if binding.host_port_end != 0 && binding.host_port_end < first {
        let range = format!("{first}-{}", binding.host_port_end);
        return Err(PortError::HostPort(range).into());
    }
    let host = (first != 0).then_some(first..=last);
    let changed = host.as_ref().filter(|range| !range.contains(&binding.port));
    if let (Protocol::Sctp, Some(range)) = (protocol, changed) {
        let (container, host) = (binding.port, *range.start());
        return Err(PortError::SctpChanged { container, host }.into());
    }
    Ok(PortRequest { host_ip, host, container_port: binding.port, protocol, from: vec![] })
}

fn is_published(ports: &[crate::model::PortMapping], request: &PortRequest) -> bool {
    ports.iter().any(|mapping| {
        mapping.container_port == request.container_port
            && mapping.protocol == request.protocol
            && request.host_ip.is_none_or(|ip| mapping.is_routed() || ip == mapping.host_ip)
            && request
                .host
                .as_ref()
                .is_none_or(|range| mapping.is_routed() || range.contains(&mapping.host_port))
    })
}

/// `RevokeExternalConnectivity`. One that is unknown publishes nothing.
pub fn plan_revoke(state: &State, request: &EndpointRef) -> Result<Plan> {
    let mut plan = Plan::default();
    let Some((container, endpoint)) = find_endpoint(state, &request.endpoint_id) else {
        return Ok(plan);
    };
    let network = network_of(state, endpoint)?;
    let id = endpoint.id.clone();
    let mut container = container.clone();
    for endpoint in container.endpoints.iter_mut().filter(|it| it.id == id) {
        close(&mut plan, network, endpoint);
    }
    if state.containers.get(&container.id) != Some(&container) {
        plan.changes.push(Change::PutContainer(container));
    }
    Ok(plan)
}

/// Its ports go, and its default routes.
pub(super) fn close(plan: &mut Plan, network: &Network, endpoint: &mut Endpoint) {
    (endpoint.default_route, endpoint.default_route6) = (false, false);
    if endpoint.ports.is_empty() {
        return;
    }
    plan.revert_all(port::ops(network, endpoint));
    endpoint.ports = vec![];
    plan.apply(lease_op(network, endpoint));
}
