//! The words of netd as types: parsed at the edge, valid ever after. Pure.

pub mod config;
pub mod container;
pub mod id;
pub mod ipam;
pub mod link;
pub mod network;
pub mod port;

pub use config::{Config, ConfigFile};
pub use container::{Container, ContainerState, Endpoint, Mode, Owner, Process};
pub use id::{Id, Name};
pub use ipam::{IpamPool, PoolId};
pub use link::{IfName, Mac};
pub use network::{
    Border, DEFAULT_BRIDGE, DEFAULT_NETWORK, GatewayMode, Network, NetworkOptions, Pool,
};
pub use port::{Expose, PortMapping, PortRequest, PortSpec, Protocol};
