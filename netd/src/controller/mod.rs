//! State and request in, plan out. Pure: no clock, no kernel, no runtime; what
//! it must know of the host comes in as [`Host`].
//!
//! | request | function |
//! |---|---|
//! | the agent's start | [`plan_default_network`], [`desired_ops`] |
//! | the host changes | [`drift`] |
//! | `network …` | [`plan_network_create`], [`plan_network_remove`], [`plan_prune`] |
//! | `network connect …` | [`plan_connect`], [`plan_disconnect`] |
//! | `run`, `stop`, `rm` | [`plan_container_create`], [`plan_started`], [`plan_exited`], [`plan_container_remove`] |
//! | the host's MTU changes | [`plan_mtu`] |
//! | `port …` | [`plan_publish`], [`plan_unpublish`] |
//! | Docker's | [`docker`] |

mod attach;
mod container;
mod default_network;
mod desired;
pub mod docker;
mod drift;
mod endpoint;
mod error;
mod host_ports;
mod lookup;
mod mtu;
mod names;
mod network;
pub mod op;
mod ownership;
mod port;
pub mod state;
mod subnets;

pub use attach::{plan_connect, plan_disconnect};
pub use container::{
    Force, plan_container_create, plan_container_remove, plan_exited, plan_started,
};
pub use default_network::plan_default_network;
pub use desired::desired_ops;
pub use drift::{Drift, Repair, SeenLink, What, drift, own_network};
pub use error::{Error, Kind};
pub use lookup::{find_container, find_network};
pub use mtu::plan_mtu;
pub use network::{plan_network_create, plan_network_remove, plan_prune};
pub use op::{Action, Op, Plan, Sources, Step};
pub use ownership::find_own_container;
pub use port::{plan_publish, plan_unpublish};
pub use state::{Change, Host, HostRoute, State};

type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod tests;
