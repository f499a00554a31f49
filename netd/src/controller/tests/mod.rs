//! The controller by what it answers and plans.

mod containers;
mod fixture;
mod networks;
mod ports;
mod random;
