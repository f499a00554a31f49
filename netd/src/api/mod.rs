//! The control API: JSON over HTTP on a unix socket, both ends of it.

pub mod types;
