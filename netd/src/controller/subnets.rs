//! Which subnets are free: of other networks, and of the host.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd_common::abi::Family;

use super::{Error, Host, HostRoute, Result, State};
use crate::{
    ipam::{choose_subnet, default_pools, overlaps},
    model::{Id, IpamPool, Network, config::AddressPool},
};

/// Routes this short lead to the outside: `0.0.0.0/0`, or `0.0.0.0/1` and
/// `128.0.0.0/1` as VPNs write it; `::/0`, or all global unicast, `2000::/3`.
/// Every subnet is within them.
const DEFAULT_ROUTE_BITS: u8 = 1;
const DEFAULT_ROUTE_BITS6: u8 = 3;

/// A subnet of the default pools that nobody uses.
pub(super) fn choose(
    state: &State,
    host: &Host,
    family: Family,
    size: Option<u8>,
    except: Except<'_>,
) -> Result<IpNetwork> {
    let networks = other_networks(state, except)
        .flat_map(|network| network.pools.iter().map(|pool| pool.subnet));
    let held = other_pools(state, except).map(|pool| pool.subnet);
    let routes = host_routes(host).map(|route| route.destination);
    let addresses = host.addresses.iter().map(|(_, address)| *address);
    let used: Vec<IpNetwork> = networks.chain(held).chain(routes).chain(addresses).collect();
    choose_subnet(&pools(host, family), size, &used).ok_or(Error::PoolsExhausted)
}

/// The configured pools of a family, or its defaults where none is configured.
fn pools(host: &Host, family: Family) -> Vec<AddressPool> {
    let of_family = |pools: &[AddressPool]| -> Vec<AddressPool> {
        pools.iter().filter(|pool| family_of(pool.base.ip()) == family).copied().collect()
    };
    let configured = of_family(&host.config.default_address_pools);
    match family {
        _ if !configured.is_empty() => configured,
        Family::V4 => default_pools(),
        Family::V6 => vec![host.ula],
    }
}

pub(super) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Refuses a subnet that another network, an address pool or the host uses.
/// `what` names the setting.
pub(super) fn check(
    state: &State,
    host: &Host,
    what: &'static str,
    subnet: IpNetwork,
    except: Except<'_>,
) -> Result<()> {
    let of_network = other_networks(state, except)
        .find(|network| network.pools.iter().any(|pool| overlaps(pool.subnet, subnet)));
    if let Some(network) = of_network {
        return Err(Error::PoolOverlap {
            subnet,
            with: format!("a subnet of network {}", network.name),
        });
    }
    if let Some(pool) = other_pools(state, except).find(|pool| overlaps(pool.subnet, subnet)) {
        return Err(Error::PoolOverlap { subnet, with: format!("address pool {}", pool.id) });
    }
    if let Some(route) = host_routes(host).find(|route| overlaps(route.destination, subnet)) {
        return Err(Error::RouteOverlap { what, subnet, route: route.to_string() });
    }
    match host.addresses.iter().find(|(_, address)| subnet.contains(address.ip())) {
        Some((link, address)) => {
            Err(Error::AddressOverlap { what, subnet, address: *address, link: link.clone() })
        }
        None => Ok(()),
    }
}

/// What is not in the way of a subnet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Except<'a> {
    Nothing,
    /// A network that is about to be replaced.
    Network(&'a Id),
    /// The address pool of exactly this subnet: its network's time has come.
    Pool(IpNetwork),
}

fn other_networks<'a>(state: &'a State, except: Except<'a>) -> impl Iterator<Item = &'a Network> {
    let replaced = move |id: &Id| matches!(except, Except::Network(other) if other == id);
    state.networks.values().filter(move |network| !replaced(&network.id))
}

/// Those of networks are among the networks' own.
fn other_pools<'a>(state: &'a State, except: Except<'a>) -> impl Iterator<Item = &'a IpamPool> {
    let claimed = move |subnet| matches!(except, Except::Pool(other) if other == subnet);
    state.pools.values().filter(move |pool| !claimed(pool.subnet))
}

fn host_routes(host: &Host) -> impl Iterator<Item = &HostRoute> {
    host.routes.iter().filter(|route| {
        let bits = match route.destination {
            IpNetwork::V4(_) => DEFAULT_ROUTE_BITS,
            IpNetwork::V6(_) => DEFAULT_ROUTE_BITS6,
        };
        route.destination.prefix() > bits
    })
}

/// As `ip route` prints it.
impl std::fmt::Display for HostRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.link)
    }
}
