//! netd: the agent, its API and its command line.
//!
//! `model` and `controller` are pure: they know no runtime, no kernel and no
//! map. `executor` runs what the controller planned through `kernel` and
//! `datapath`. `agent` owns the state; `api` is how others reach it; `cli`
//! sees only `api`, `model`, `runtime` and `doctor`.

pub mod agent;
pub mod api;
pub mod cli;
pub mod controller;
pub mod datapath;
pub mod doctor;
pub mod executor;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod ipam;
pub mod kernel;
pub mod model;
pub mod paths;
pub mod runtime;
pub mod store;
pub mod systemd;
