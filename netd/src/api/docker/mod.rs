//! netd as a plugin of Docker: network driver and IPAM driver on one socket
//! (moby, `docs/extend/plugin_api.md`; `daemon/libnetwork/docs/remote.md` and
//! `ipam.md`). It knows the protocol's shapes; what a call does is the agent's.

pub mod calls;
pub mod engine;
pub(crate) mod server;
pub mod types;

pub use calls::Call;
