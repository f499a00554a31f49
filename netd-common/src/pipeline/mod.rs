//! The datapath's whole logic: one function a hook, generic over the packet,
//! the tables and the environment.
//!
//! `from_container` → [`local`] (same network) or [`flow`] (translated); new
//! conversations are opened by [`open`]. Hot functions are inlined into their
//! program; what only the first packets of a flow need is kept out of line,
//! so that the established path stays short and its stack shallow.

mod flow;
mod from_container;
mod from_uplink;
mod open;
mod to_container;
mod to_uplink;

pub use from_container::from_container;
pub use from_uplink::from_uplink;
pub use to_container::to_container;
pub use to_uplink::to_uplink;
