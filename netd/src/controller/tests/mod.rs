//! The controller by what it answers and plans.

mod containers;
mod docker;
mod docker_ipam;
mod drift;
mod fixture;
mod ipv6;
mod mtu;
mod networks;
mod options;
mod ports;
mod random;
