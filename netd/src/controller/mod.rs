//! State and request in, plan out. Pure: no clock, no kernel, no runtime; what
//! it must know of the host comes in as [`Host`].

pub mod op;
pub mod state;

pub use op::{Action, Op, Plan, Step};
pub use state::{Change, Host, HostRoute, State};
