//! Containers: created, started, ended, removed.

use std::path::PathBuf;

use super::{
    Change, Error, Host, Op, Plan, Result, State, attach::fixed_addresses, endpoint,
    find_container, find_network, host_ports::HostPorts, lookup::named, names, network::fresh_id,
    ownership, port::network_of,
};
use crate::{
    api::types::ContainerCreate,
    model::{
        Container, ContainerState, DEFAULT_NETWORK, Expose, Id, Mode, Network, Owner, PortRequest,
        PortSpec, Process, network::OptionError,
    },
};

/// Whether a container is removed while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

/// Which namespace was asked for.
enum Join<'a> {
    None,
    Host,
    Container(&'a Container),
    Network(&'a Network),
}

/// A new container; its id is the answer.
///
/// A host port that was left to netd steps around `Host::avoid_ports`; one
/// that was asked for does not. So a plan that failed on a port which is
/// already in `avoid_ports` fails for good.
pub fn plan_container_create(
    state: &State,
    host: &Host,
    request: &ContainerCreate,
) -> Result<(Plan, Id)> {
    if request.command.is_empty() {
        return Err(Error::NoCommand);
    }
    if let Some(option) = request.options.keys().next() {
        return Err(OptionError::Unknown(option.clone()).into());
    }
    let id = fresh_id(state, host, 0)?;
    let name = match &request.name {
        Some(name) => name.parse()?,
        None => names::generate(state, &id)?,
    };
    if let Some(other) = named(state, &name) {
        let id = other.id.clone();
        return Err(Error::ContainerExists { name, id });
    }
    let ports = port_requests(request)?;
    let join = join(state, request.network.as_deref())?;
    check_mode(&join, request, &ports)?;

    let (mode, netns) = match &join {
        Join::None => (Mode::None, host.netns_dir.join(id.as_str())),
        Join::Network(_) => (Mode::Networks, host.netns_dir.join(id.as_str())),
        Join::Host => (Mode::Host, host.host_netns.clone()),
        Join::Container(other) => (Mode::Container(other.id.clone()), other.netns.clone()),
    };
    let mut endpoints = vec![];
    if let Join::Network(network) = join {
        let fixed = fixed_addresses(network, request.ip.as_deref(), request.ip6.as_deref())?;
        let endpoint_id = fresh_id(state, host, 1)?;
        let mut endpoint = endpoint::create(state, network, endpoint_id, fixed, &[])?;
        endpoint.ports = HostPorts::of(state, host).allocate_all(&ports, network, id.seed())?;
        endpoints.push(endpoint);
    }
    let container = Container {
        id: id.clone(),
        name,
        owner: Owner::Netd,
        mode,
        state: ContainerState::Created,
        command: request.command.clone(),
        auto_remove: request.auto_remove,
        netns,
        endpoints,
        created: host.now.clone(),
    };
    let mut plan = Plan::default();
    plan.apply(run_dir(host, &container));
    plan.apply_all(ops(state, &container)?);
    plan.changes.push(Change::PutContainer(container));
    Ok((plan, id))
}

/// The container's command runs.
pub fn plan_started(state: &State, name: &str, process: Process) -> Result<Plan> {
    let mut container = find_container(state, name)?.clone();
    ownership::check_container(&container, || format!("docker start {}", container.name))?;
    match container.state {
        ContainerState::Created => container.state = ContainerState::Running(process),
        ContainerState::Running(same) if same == process => return Ok(Plan::default()),
        ContainerState::Running(_) | ContainerState::Joined => {
            return Err(Error::Started(container.name));
        }
        ContainerState::Exited { .. } => return Err(Error::NotRunning(container.name)),
    }
    Ok(Plan { steps: vec![], changes: vec![Change::PutContainer(container)] })
}

/// The container's command has ended, or never came: its endpoints, ports and
/// sandbox go, the record stays (without `--rm`).
pub fn plan_exited(state: &State, host: &Host, name: &str, code: Option<i32>) -> Result<Plan> {
    let container = find_container(state, name)?;
    let mut plan = Plan::default();
    if container.owner != Owner::Netd || matches!(container.state, ContainerState::Exited { .. }) {
        return Ok(plan);
    }
    plan.revert_all(ops(state, container)?);
    if container.auto_remove {
        plan.revert(run_dir(host, container));
        plan.changes.push(Change::RemoveContainer(container.id.clone()));
    } else {
        plan.changes.push(Change::PutContainer(Container {
            state: ContainerState::Exited { code },
            endpoints: vec![],
            ..container.clone()
        }));
    }
    Ok(plan)
}

/// The record and all that is left. Ending the process is the caller's.
pub fn plan_container_remove(state: &State, host: &Host, name: &str, force: Force) -> Result<Plan> {
    let container = find_container(state, name)?;
    ownership::check_container(container, || {
        let force = if force == Force::Yes { "-f " } else { "" };
        format!("docker rm {force}{}", container.name)
    })?;
    let running = matches!(container.state, ContainerState::Running(_));
    if running && force == Force::No {
        return Err(Error::Running(container.name.clone()));
    }
    let mut plan = Plan::default();
    if !matches!(container.state, ContainerState::Exited { .. }) {
        plan.revert_all(ops(state, container)?);
    }
    plan.revert(run_dir(host, container));
    plan.changes.push(Change::RemoveContainer(container.id.clone()));
    Ok(plan)
}

/// What a living container is made of, its run directory apart.
fn ops(state: &State, container: &Container) -> Result<Vec<Op>> {
    let mut ops = vec![];
    if matches!(container.mode, Mode::None | Mode::Networks) {
        ops.push(Op::Sandbox { id: container.id.clone(), path: container.netns.clone() });
    }
    for endpoint in &container.endpoints {
        let network = network_of(state, endpoint)?;
        ops.extend(endpoint::ops(state, network, endpoint, container.own_netns()));
    }
    Ok(ops)
}

fn run_dir(host: &Host, container: &Container) -> Op {
    let path: PathBuf = host.containers_dir.join(container.id.as_str());
    Op::RunDir { path }
}

fn join<'a>(state: &'a State, network: Option<&str>) -> Result<Join<'a>> {
    match network.unwrap_or(DEFAULT_NETWORK) {
        "none" => Ok(Join::None),
        "host" => Ok(Join::Host),
        name => {
            let Some(other) = name.strip_prefix("container:") else {
                let network = find_network(state, name)?;
                ownership::check_network(network, || format!("docker run --network {name}"))?;
                return Ok(Join::Network(network));
            };
            let other = find_container(state, other)?;
            match other.state {
                ContainerState::Running(_) | ContainerState::Joined => Ok(Join::Container(other)),
                _ => Err(Error::JoinStopped(other.id.clone())),
            }
        }
    }
}

/// What needs an endpoint of its own is refused where there is none.
fn check_mode(join: &Join<'_>, request: &ContainerCreate, ports: &[PortRequest]) -> Result<()> {
    let mode = match join {
        Join::Network(_) => return Ok(()),
        Join::None => "none",
        Join::Host => "host",
        Join::Container(_) => "container type",
    };
    if request.ip.is_some() || request.ip6.is_some() {
        return Err(Error::FixedAddressOnDefault);
    }
    let publishes = !ports.is_empty() || request.publish_all;
    let exposes = matches!(join, Join::Container(_)) && !request.expose.is_empty();
    match (publishes, exposes) {
        (true, _) => Err(Error::PortsInMode { what: "publishing", mode }),
        (false, true) => Err(Error::PortsInMode { what: "exposing", mode }),
        (false, false) => Ok(()),
    }
}

/// `-p`, and with `-P` what `--expose` names and no `-p` does.
fn port_requests(request: &ContainerCreate) -> Result<Vec<PortRequest>> {
    let mut requests = vec![];
    for spec in &request.publish {
        requests.extend(spec.parse::<PortSpec>()?.expand());
    }
    for expose in &request.expose {
        let Expose { ports, protocol } = expose.parse()?;
        if !request.publish_all {
            continue;
        }
        for container_port in ports {
            let named = requests.iter().any(|other: &PortRequest| {
                other.container_port == container_port && other.protocol == protocol
            });
            if !named {
                requests.push(PortRequest {
                    host_ip: None,
                    host: None,
                    container_port,
                    protocol,
                    from: vec![],
                });
            }
        }
    }
    Ok(requests)
}
