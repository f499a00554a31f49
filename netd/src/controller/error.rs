//! Why a request has no plan, in the texts of DESIGN §6.1 (Docker's, where it
//! has one).

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::{
    ipam::{AddressError, SubnetError},
    model::{
        Id, IfName, Name, Protocol, config::ConfigError, id::NameError, network::OptionError,
        port::PortError,
    },
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Address(AddressError),

    #[error("No such container: {0}")]
    NoSuchContainer(String),
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    #[error("endpoint {0} not found")]
    NoSuchEndpoint(String),
    #[error("endpoint {0} exists already, with other addresses")]
    EndpointExists(Id),
    #[error("address pool {0} not found")]
    NoSuchPool(String),
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    #[error("network {name} is ambiguous ({matches} matches found on ID prefix)")]
    AmbiguousNetwork { name: String, matches: usize },

    #[error("{0} is not supported yet")]
    NotYet(String),
    #[error("{key} is set twice for one subnet: {first} and {second}")]
    Twice { key: &'static str, first: String, second: String },
    #[error("every ip-range, gateway or auxiliary address must have a corresponding subnet")]
    NoSubnet,
    #[error("invalid {what}: {value}")]
    NotAddress { what: &'static str, value: String },
    #[error("invalid {key}: {value}: true or false is expected")]
    NotBool { key: &'static str, value: String },
    #[error("invalid {what}: {value}: an absolute path is expected")]
    NotPath { what: &'static str, value: String },
    #[error("unknown address space {0}: netd-local or netd-global is expected")]
    AddressSpace(String),
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    #[error("invalid subnet {0}: it is of IPv6, which the network doesn't have")]
    Ipv6NotEnabled(IpNetwork),
    #[error("invalid MTU number: {0}: IPv6 needs 1280 at least")]
    MtuTooSmall(u32),

    #[error("network with name {0} already exists")]
    NetworkExists(Name),
    #[error("operation is not permitted on predefined {0} network")]
    PredefinedName(String),
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    NetworkInUse { name: Name, endpoints: String },
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap {
        subnet: IpNetwork,
        /// What it is.
        with: String,
    },
    #[error("{what} {subnet} overlaps route {route} of this host")]
    RouteOverlap {
        what: &'static str,
        subnet: IpNetwork,
        /// As `ip route` prints it.
        route: String,
    },
    #[error("{what} {subnet} overlaps address {address} dev {link} of this host")]
    AddressOverlap { what: &'static str, subnet: IpNetwork, address: IpNetwork, link: IfName },
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    #[error("{what} {name} belongs to Docker")]
    Dockers {
        what: &'static str,
        name: Name,
        /// The command that does what was asked.
        instead: String,
    },
    #[error("device {0} already exists on this host")]
    LinkExists(IfName),
    #[error("can't apply the configuration of the default network: it has active endpoints ({0})")]
    DefaultNetworkInUse(String),
    #[error("bip is `host`, but this host has no IPv4 address of its own")]
    NoHostAddress,

    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    ContainerExists { name: Name, id: Id },
    #[error("no command specified")]
    NoCommand,
    #[error("user-specified IP address is supported on user-defined networks only")]
    FixedAddressOnDefault,
    #[error("Address already in use")]
    AddressInUse { address: IpAddr, owner: String },
    #[error("no configured subnet contains IP address {address}")]
    NoIpv6 { address: IpAddr, network: Name },
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    AddressesExhausted { family: &'static str, name: Name, id: Id },
    #[error("no available {family} addresses on address pool {pool}")]
    PoolExhausted { family: &'static str, pool: String },
    #[error("network {0} is full: its bridges have no port left")]
    NetworkFull(Name),
    #[error("conflicting options: port {what} and the {mode} network mode")]
    PortsInMode { what: &'static str, mode: &'static str },
    #[error("cannot join network of a non running container: {0}")]
    JoinStopped(Id),
    #[error(
        "cannot remove container \"{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(Name),
    #[error("container {0} is not running")]
    NotRunning(Name),
    #[error("container {0} has been started already")]
    Started(Name),

    #[error("endpoint with name {container} already exists in network {network}")]
    Connected { container: Name, network: Name },
    #[error("container {container} is not connected to network {network}")]
    NotConnected { container: Id, network: Name },
    #[error(
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )]
    SharedNamespace,
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    PrivateNamespace,

    #[error("Bind for {} failed: port is already allocated", SocketAddr::new(*address, *port))]
    PortAllocated { address: IpAddr, port: u16, owner: String },
    #[error("can't publish on {address}: the container has no {} address", family(*address))]
    OtherFamily { address: IpAddr },
    #[error("all ports are allocated")]
    PortsExhausted,
    #[error("can't publish ports on internal network {0}")]
    InternalNetwork(Name),
    #[error("container {0} has no network to publish ports on")]
    NothingToPublishOn(Name),
    #[error("no port specified")]
    NoPorts,
    #[error("port {port}/{protocol} of container {container} is not published{host}")]
    NotPublished {
        container: Name,
        port: u16,
        protocol: Protocol,
        /// ` on 0.0.0.0:8080`, or nothing.
        host: String,
    },
    #[error("gateway mode 'isolated' can only be used for an internal network")]
    IsolatedNotInternal,
    #[error("{0}")]
    Internal(&'static str),
}

/// What kind of answer an error is (HTTP's 400, 404, 409, 500).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    NotFound,
    Conflict,
    Internal,
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchNetwork(_)
            | Self::NoSuchEndpoint(_)
            | Self::NoSuchPool(_)
            | Self::NotPublished { .. } => Kind::NotFound,
            Self::Address(AddressError::InUse)
            | Self::NetworkExists(_)
            | Self::PredefinedName(_)
            | Self::Predefined(_)
            | Self::NetworkInUse { .. }
            | Self::PoolOverlap { .. }
            | Self::RouteOverlap { .. }
            | Self::AddressOverlap { .. }
            | Self::PoolsExhausted
            | Self::Dockers { .. }
            | Self::LinkExists(_)
            | Self::DefaultNetworkInUse(_)
            | Self::ContainerExists { .. }
            | Self::AddressInUse { .. }
            | Self::AddressesExhausted { .. }
            | Self::PoolExhausted { .. }
            | Self::EndpointExists(_)
            | Self::NetworkFull(_)
            | Self::JoinStopped(_)
            | Self::Running(_)
            | Self::NotRunning(_)
            | Self::Started(_)
            | Self::Connected { .. }
            | Self::NotConnected { .. }
            | Self::SharedNamespace
            | Self::PrivateNamespace
            | Self::PortAllocated { .. }
            | Self::PortsExhausted
            | Self::InternalNetwork(_)
            | Self::NothingToPublishOn(_) => Kind::Conflict,
            Self::Internal(_) => Kind::Internal,
            _ => Kind::BadRequest,
        }
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Option(error) => return error.hint(),
            Self::Ipv6NotEnabled(_) => "add --ipv6".into(),
            Self::NoIpv6 { network, .. } => {
                format!("network {network} has no IPv6; `netd network create --ipv6` makes one")
            }
            Self::NoSuchContainer(_) => "`netd ps -a` lists the containers".into(),
            Self::NoSuchNetwork(_) => "`netd network ls` lists the networks".into(),
            Self::NetworkInUse { .. } => {
                "stop its containers, or disconnect them with `netd network disconnect`".into()
            }
            Self::PoolOverlap { subnet, with } => format!("{subnet} overlaps {with}"),
            Self::RouteOverlap { what: "bip", .. } | Self::AddressOverlap { what: "bip", .. } => {
                "set `bip` to an address of a subnet that this host doesn't use".into()
            }
            Self::RouteOverlap { .. } | Self::AddressOverlap { .. } => {
                "choose another subnet, or none: netd then picks one that is free".into()
            }
            Self::Dockers { instead, .. } => format!("use `{instead}`"),
            Self::PoolsExhausted => {
                "remove networks with `netd network prune`, name a --subnet, or set `default-address-pools`".into()
            }
            Self::LinkExists(_) => {
                "netd doesn't touch devices that aren't its own; remove it, or name another with -o com.docker.network.bridge.name=NAME".into()
            }
            Self::DefaultNetworkInUse(_) => {
                "stop the containers of network bridge, or change the configuration back".into()
            }
            Self::FixedAddressOnDefault => {
                "create a network with `netd network create`, and run with --network NAME".into()
            }
            Self::AddressInUse { address, owner } => format!("{address} is used by {owner}"),
            Self::OtherFamily { address } => {
                let (own, other) = match address {
                    IpAddr::V4(_) => ("IPv4", "an IPv6"),
                    IpAddr::V6(_) => ("IPv6", "an IPv4"),
                };
                format!(
                    "netd keeps the clients' addresses, so it translates no family into the other: publish on {other} address, or use a network that has {own}"
                )
            }
            Self::PortAllocated { owner, .. } => format!("the port is used by {owner}"),
            Self::Running(name) => format!("`netd stop {name}`, or `netd rm -f {name}`"),
            _ => return None,
        };
        Some(hint)
    }
}
