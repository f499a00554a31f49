//! The controller by what it answers and plans.

#[cfg(test)]
mod containers;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod docker_ipam;
#[cfg(test)]
mod docker_lost;
#[cfg(test)]
mod drift;
pub(crate) mod fixture;
#[cfg(test)]
mod ipv6;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod options;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod random;
