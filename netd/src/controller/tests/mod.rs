//! The controller by what it answers and plans.

mod containers;
mod fixture;
mod ipv6;
mod networks;
mod ports;
mod random;
