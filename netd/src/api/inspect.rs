//! `inspect` and `network inspect`, as Docker prints them (DESIGN §6), so that
//! scripts written for Docker read them. Pure.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::Serialize;

use super::rows::{DRIVER, SCOPE, network_name, pid, state_word};
use crate::{
    controller::State,
    model::{Container, ContainerState, Endpoint, Mode, Network, Pool, PortMapping},
};

/// An element of `docker network inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "the shape is Docker's")]
pub struct NetworkInspect {
    pub name: String,
    pub id: String,
    pub created: String,
    pub scope: &'static str,
    pub driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    /// By the container's id.
    pub containers: BTreeMap<String, NetworkContainer>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    pub driver: &'static str,
    pub options: BTreeMap<String, String>,
    pub config: Vec<IpamConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamConfig {
    pub subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    pub gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    pub name: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub mac_address: String,
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// An element of `docker inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: StateInspect,
    /// `/` and the name, as Docker's.
    pub name: String,
    pub driver: &'static str,
    pub host_config: HostConfig,
    pub config: ConfigInspect,
    pub network_settings: NetworkSettings,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StateInspect {
    pub status: &'static str,
    pub running: bool,
    /// 0 where none runs.
    pub pid: u32,
    pub exit_code: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    pub network_mode: String,
    pub port_bindings: PortMap,
    pub auto_remove: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigInspect {
    pub cmd: Vec<String>,
}

/// `80/tcp` → where it is published.
pub type PortMap = BTreeMap<String, Vec<PortBinding>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    pub host_ip: String,
    pub host_port: String,
}

/// The addresses beside `Networks` are the default network's, as Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub sandbox_key: String,
    pub ports: PortMap,
    #[serde(flatten)]
    pub default: DefaultEndpoint,
    pub networks: BTreeMap<String, EndpointInspect>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DefaultEndpoint {
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    pub mac_address: String,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointInspect {
    pub mac_address: String,
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
}

pub fn network(state: &State, network: &Network) -> NetworkInspect {
    let containers = state
        .containers
        .values()
        .filter_map(|container| {
            let endpoint =
                container.endpoints.iter().find(|endpoint| endpoint.network == network.id)?;
            let shown = NetworkContainer {
                name: container.name.to_string(),
                endpoint_id: endpoint.id.to_string(),
                mac_address: endpoint.mac.to_string(),
                ipv4_address: endpoint.address.to_string(),
                ipv6_address: endpoint.address6.map(|a| a.to_string()).unwrap_or_default(),
            };
            Some((container.id.to_string(), shown))
        })
        .collect();
    NetworkInspect {
        name: network.name.to_string(),
        id: network.id.to_string(),
        created: network.created.clone(),
        scope: SCOPE,
        driver: DRIVER,
        enable_ipv4: network.pools.iter().any(|pool| pool.subnet.is_ipv4()),
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: "default",
            options: BTreeMap::new(),
            config: network.pools.iter().map(ipam_config).collect(),
        },
        internal: network.internal,
        attachable: false,
        ingress: false,
        containers,
        options: network.options.clone(),
        labels: network.labels.clone(),
    }
}

fn ipam_config(pool: &Pool) -> IpamConfig {
    let default_gateway = pool.default_gateway.map(|gateway| {
        let key = if gateway.is_ipv4() { "DefaultGatewayIPv4" } else { "DefaultGatewayIPv6" };
        (key.to_owned(), gateway.to_string())
    });
    IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool.ip_range.map(|range| range.to_string()),
        gateway: pool.gateway.to_string(),
        auxiliary_addresses: pool
            .aux
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .chain(default_gateway)
            .collect(),
    }
}

pub fn container(state: &State, container: &Container) -> ContainerInspect {
    let ports = port_map(container);
    let (path, args) = match container.command.split_first() {
        Some((path, args)) => (path.clone(), args.to_vec()),
        None => (String::new(), vec![]),
    };
    let networks = container
        .endpoints
        .iter()
        .map(|endpoint| (network_name(state, endpoint), shown(state, endpoint)))
        .collect();
    ContainerInspect {
        id: container.id.to_string(),
        created: container.created.clone(),
        path,
        args,
        state: StateInspect {
            status: state_word(&container.state),
            running: matches!(container.state, ContainerState::Running(_) | ContainerState::Joined),
            pid: pid(container).unwrap_or(0),
            exit_code: match container.state {
                ContainerState::Exited { code: Some(code) } => code,
                _ => 0,
            },
        },
        name: format!("/{}", container.name),
        driver: DRIVER,
        host_config: HostConfig {
            network_mode: network_mode(state, container),
            port_bindings: ports.clone(),
            auto_remove: container.auto_remove,
        },
        config: ConfigInspect { cmd: container.command.clone() },
        network_settings: NetworkSettings {
            sandbox_id: container.id.to_string(),
            sandbox_key: container.netns.display().to_string(),
            ports,
            default: default_endpoint(state, container),
            networks,
        },
    }
}

fn network_mode(state: &State, container: &Container) -> String {
    match &container.mode {
        Mode::None => "none".to_owned(),
        Mode::Host => "host".to_owned(),
        Mode::Container(other) => format!("container:{other}"),
        Mode::Networks => container
            .endpoints
            .first()
            .map_or_else(|| "default".to_owned(), |endpoint| network_name(state, endpoint)),
    }
}

fn port_map(container: &Container) -> PortMap {
    let mut ports = PortMap::new();
    let mappings: Vec<&PortMapping> = container.endpoints.iter().flat_map(|e| &e.ports).collect();
    for mapping in mappings {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol);
        ports.entry(key).or_default().push(PortBinding {
            host_ip: mapping.host_ip.to_string(),
            host_port: match mapping.host_port {
                0 => String::new(),
                port => port.to_string(),
            },
        });
    }
    ports
}

fn default_endpoint(state: &State, container: &Container) -> DefaultEndpoint {
    container
        .endpoints
        .iter()
        .find(|endpoint| network_name(state, endpoint) == crate::model::DEFAULT_NETWORK)
        .map(|endpoint| shown(state, endpoint))
        .map(|shown| DefaultEndpoint {
            endpoint_id: shown.endpoint_id,
            gateway: shown.gateway,
            ip_address: shown.ip_address,
            ip_prefix_len: shown.ip_prefix_len,
            mac_address: shown.mac_address,
            ipv6_gateway: shown.ipv6_gateway,
            global_ipv6_address: shown.global_ipv6_address,
            global_ipv6_prefix_len: shown.global_ipv6_prefix_len,
        })
        .unwrap_or_default()
}

fn shown(state: &State, endpoint: &Endpoint) -> EndpointInspect {
    let network = state.networks.get(&endpoint.network);
    let gateway = |address: IpNetwork| {
        let pool = network.and_then(|network| network.pool_of(address.ip()));
        pool.map(|pool| pool.route().to_string()).unwrap_or_default()
    };
    EndpointInspect {
        mac_address: endpoint.mac.to_string(),
        network_id: endpoint.network.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: gateway(endpoint.address),
        ip_address: endpoint.address.ip().to_string(),
        ip_prefix_len: endpoint.address.prefix(),
        ipv6_gateway: endpoint.address6.map(gateway).unwrap_or_default(),
        global_ipv6_address: endpoint
            .address6
            .map(|address| address.ip().to_string())
            .unwrap_or_default(),
        global_ipv6_prefix_len: endpoint.address6.map_or(0, |address| address.prefix()),
    }
}
