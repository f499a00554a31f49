//! IPAM: addresses and subnets, chosen and checked. Pure: what is in use comes
//! in as arguments, in whatever order; nothing here knows containers.

mod address;
mod subnet;

pub use address::{AddressError, capacity, check_address, choose_address};
pub use subnet::{
    SubnetError, check_pool, choose_subnet, default_pools, first_gateway, parse_subnet,
    unique_local_pool,
};

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// `10.1.2.3/16` is `10.1.0.0/16`.
pub fn network_of(given: IpNetwork) -> IpNetwork {
    // The prefix is valid: it is the given network's own.
    IpNetwork::new(given.network(), given.prefix()).unwrap_or(given)
}

/// Whether an address is in both. Families never overlap.
pub fn overlaps(a: IpNetwork, b: IpNetwork) -> bool {
    if a.prefix() <= b.prefix() { a.contains(b.network()) } else { b.contains(a.network()) }
}

/// Whether `outer` has every address of `inner`.
pub fn encloses(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

/// An address as a number; families apart, as each is counted by itself.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address that `number` is in the family of `like`; the number is one
/// that came from an address of it.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}
