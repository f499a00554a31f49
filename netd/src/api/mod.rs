//! The control API: JSON over HTTP on a unix socket, both ends of it; and
//! Docker's plugin protocol ([`docker`]) on another. It
//! knows the shape of requests and answers, and nothing of how they are met:
//! the agent reads [`Request`]s from the other end of a [`Handle`].

pub mod client;
pub mod docker;
mod exchange;
pub mod inspect;
pub mod limits;
mod listener;
pub mod metrics;
pub mod monitor;
pub mod relay;
pub mod rows;
mod serve;
pub mod server;
pub mod service;
pub mod types;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use service::{Handle, Kind, Reply, Request, ServiceError};
