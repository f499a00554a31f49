//! Rows of the lists, from the state. Pure; what only the datapath knows
//! (last seen) is left for the caller to fill in.

use super::types::{ContainerSummary, LeaseRow, NetworkSummary, PortRow};
use crate::{
    controller::State,
    model::{Container, ContainerState, Endpoint, Mode, Network, PortMapping},
};

/// As plugins of Docker are named: by who does the work.
pub const DRIVER: &str = "netd";
pub const SCOPE: &str = "local";

/// All networks, oldest first.
pub fn networks(state: &State) -> Vec<NetworkSummary> {
    let mut networks: Vec<&Network> = state.networks.values().collect();
    networks.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    networks.into_iter().map(network).collect()
}

pub fn network(network: &Network) -> NetworkSummary {
    NetworkSummary {
        id: network.id.to_string(),
        name: network.name.to_string(),
        driver: DRIVER.to_owned(),
        scope: SCOPE.to_owned(),
        subnets: network.pools.iter().map(|pool| pool.subnet.to_string()).collect(),
    }
}

/// `ps`: the containers that live, newest first; with `all` also those that
/// have ended.
pub fn containers(state: &State, all: bool) -> Vec<ContainerSummary> {
    let mut containers: Vec<&Container> = state
        .containers
        .values()
        .filter(|container| all || !matches!(container.state, ContainerState::Exited { .. }))
        .collect();
    containers.sort_by(|a, b| (&b.created, &a.name).cmp(&(&a.created, &b.name)));
    containers.into_iter().map(|one| container(state, one)).collect()
}

pub fn container(state: &State, container: &Container) -> ContainerSummary {
    let mut ports: Vec<&PortMapping> = container.endpoints.iter().flat_map(|e| &e.ports).collect();
    ports.sort();
    ContainerSummary {
        id: container.id.to_string(),
        name: container.name.to_string(),
        state: state_word(&container.state).to_owned(),
        pid: pid(container),
        command: container.command.join(" "),
        networks: networks_of(state, container),
        ports: ports.into_iter().map(ToString::to_string).collect(),
    }
}

/// `created`, `running` or `exited`.
pub fn state_word(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running(_) | ContainerState::Joined => "running",
        ContainerState::Exited { .. } => "exited",
    }
}

pub(super) fn pid(container: &Container) -> Option<u32> {
    match container.state {
        ContainerState::Running(process) => Some(process.pid),
        _ => None,
    }
}

fn networks_of(state: &State, container: &Container) -> Vec<String> {
    match &container.mode {
        Mode::None => vec!["none".to_owned()],
        Mode::Host => vec!["host".to_owned()],
        Mode::Container(other) => vec![format!("container:{}", display_name(state, other))],
        Mode::Networks => {
            container.endpoints.iter().map(|endpoint| network_name(state, endpoint)).collect()
        }
    }
}

fn display_name(state: &State, id: &crate::model::Id) -> String {
    state.containers.get(id).map_or_else(|| id.short().to_owned(), |other| other.name.to_string())
}

pub(super) fn network_name(state: &State, endpoint: &Endpoint) -> String {
    state
        .networks
        .get(&endpoint.network)
        .map_or_else(|| endpoint.network.short().to_owned(), |network| network.name.to_string())
}

/// `port ls`: of one container, or of all.
pub fn ports<'a>(
    state: &State,
    containers: impl IntoIterator<Item = &'a Container>,
) -> Vec<PortRow> {
    let mut rows = vec![];
    for container in containers {
        for endpoint in &container.endpoints {
            rows.extend(
                endpoint.ports.iter().map(|mapping| port(state, container, endpoint, mapping)),
            );
        }
    }
    rows.sort_by(|a, b| {
        let key = |row: &PortRow| {
            (row.container.clone(), row.container_port, row.host_port, row.host_ip.clone())
        };
        key(a).cmp(&key(b))
    });
    rows
}

pub fn port(
    state: &State,
    container: &Container,
    endpoint: &Endpoint,
    mapping: &PortMapping,
) -> PortRow {
    let (ip, port) = mapping.reached_at(endpoint.target(mapping));
    PortRow {
        container: container.name.to_string(),
        network: network_name(state, endpoint),
        host_ip: ip.to_string(),
        host_port: port,
        container_port: mapping.container_port,
        protocol: mapping.protocol.to_string(),
        from: mapping.from.iter().map(ToString::to_string).collect(),
    }
}

/// `ipam`: every address that is not free, by network and address. `last_seen`
/// is `None` throughout.
pub fn leases(state: &State) -> Vec<LeaseRow> {
    let mut networks: Vec<&Network> = state.networks.values().collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    networks.into_iter().flat_map(|network| leases_of(state, network)).collect()
}

fn leases_of(state: &State, network: &Network) -> Vec<LeaseRow> {
    let mut rows = vec![];
    for pool in &network.pools {
        let mut add = |address, owner: String, mac: Option<String>| {
            let row = LeaseRow {
                network: network.name.to_string(),
                subnet: pool.subnet.to_string(),
                address: std::net::IpAddr::to_string(&address),
                owner,
                mac,
                last_seen: None,
            };
            rows.push((address, row));
        };
        add(pool.gateway, "gateway".to_owned(), Some(network.bridge_mac.to_string()));
        if let Some(gateway) = pool.default_gateway.filter(|other| *other != pool.gateway) {
            add(gateway, "default-gateway".to_owned(), None);
        }
        for (name, address) in &pool.aux {
            add(*address, name.clone(), None);
        }
        for container in state.containers.values() {
            for endpoint in &container.endpoints {
                if endpoint.network != network.id {
                    continue;
                }
                for address in endpoint.addresses().map(|address| address.ip()) {
                    if pool.subnet.contains(address) {
                        let mac = Some(endpoint.mac.to_string());
                        add(address, container.name.to_string(), mac);
                    }
                }
            }
        }
    }
    // IPv4's before IPv6's.
    rows.sort_by_key(|(address, _)| *address);
    rows.into_iter().map(|(_, row)| row).collect()
}
