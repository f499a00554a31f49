//! Subnets: the pools that automatic ones are cut from, and the checks of
//! those that were asked for, with Docker's texts.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use sha2::{Digest as _, Sha256};

use super::{address, address::usable, encloses, network_of, number, overlaps};
use crate::model::{Pool, config::AddressPool};

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SubnetError {
    #[error("invalid {what} {given}: invalid CIDR block notation")]
    NotCidr { what: &'static str, given: String },
    #[error("invalid {what} {given}: it should be {network}")]
    HostBits { what: &'static str, given: IpNetwork, network: IpNetwork },
    #[error("invalid subnet {subnet}: it overlaps {reserved}, which no network can use")]
    Unusable { subnet: IpNetwork, reserved: IpNetwork },
    #[error("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}")]
    RangeTooBig { range: IpNetwork, subnet: IpNetwork },
    #[error("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range")]
    RangeOutside { range: IpNetwork, subnet: IpNetwork },
    #[error("invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address")]
    GatewayOutside { gateway: IpAddr, subnet: IpNetwork },
    #[error(
        "invalid gateway {gateway}: it is the network or broadcast address of its subnet {subnet}"
    )]
    GatewayUnusable { gateway: IpAddr, subnet: IpNetwork },
    #[error(
        "invalid auxiliary address {given}: parent subnet {subnet} doesn't contain this address"
    )]
    AuxOutside { given: IpAddr, subnet: IpNetwork },
    #[error("no address is left in {0} for the gateway")]
    NoGateway(IpNetwork),
}

/// Docker's pools (moby, `daemon/libnetwork/ipamutils/utils.go`): 31 networks.
pub fn default_pools() -> Vec<AddressPool> {
    const POOLS: [([u8; 4], u8, u8); 7] = [
        ([172, 17, 0, 0], 16, 16),
        ([172, 18, 0, 0], 16, 16),
        ([172, 19, 0, 0], 16, 16),
        ([172, 20, 0, 0], 14, 16),
        ([172, 24, 0, 0], 14, 16),
        ([172, 28, 0, 0], 14, 16),
        ([192, 168, 0, 0], 16, 20),
    ];
    POOLS
        .into_iter()
        .filter_map(|(base, prefix, size)| {
            let base = Ipv4Network::new(base.into(), prefix).ok()?.into();
            Some(AddressPool { base, size })
        })
        .collect()
}

/// The first subnet of the pools that overlaps nothing in `used`. `size`
/// overrides each pool's prefix length, where it fits.
///
/// The cost grows with `used`, not with the pools: what overlaps is jumped
/// over, however small the subnets.
pub fn choose_subnet(
    pools: &[AddressPool],
    size: Option<u8>,
    used: &[IpNetwork],
) -> Option<IpNetwork> {
    pools.iter().find_map(|pool| cut(pool.base, size.unwrap_or(pool.size), used))
}

/// A site of one's own, `fd00::/48` and 40 bits of a hash of `host`, in `/64`s:
/// as Docker makes its (moby, `daemon/daemon.go`, `deriveULABaseNetwork`; RFC
/// 4193). `host` names the host, and only it, for ever.
pub fn unique_local_pool(host: &[u8]) -> AddressPool {
    let digest = Sha256::digest(host);
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest[3..8]);
    let base = IpNetwork::from(IpAddr::from(octets));
    AddressPool { base: IpNetwork::new(base.ip(), 48).unwrap_or(base), size: 64 }
}

fn cut(base: IpNetwork, size: u8, used: &[IpNetwork]) -> Option<IpNetwork> {
    if size < base.prefix() {
        return None;
    }
    let last = number(base.broadcast());
    let mut start = number(base.network());
    while start <= last {
        let subnet = IpNetwork::new(address(start, base.ip()), size).ok()?;
        let end = number(subnet.broadcast());
        let Some(obstacle) = used
            .iter()
            .filter(|other| overlaps(**other, subnet))
            .map(|other| number(other.broadcast()))
            .max()
        else {
            return Some(subnet);
        };
        // The next subnet that begins behind the obstacle: `block` is a power
        // of two less one.
        let block = end - start;
        start = (obstacle.max(end) | block).checked_add(1)?;
    }
    None
}

/// A CIDR block without host bits; `what` names it in the error.
pub fn parse_subnet(what: &'static str, text: &str) -> Result<IpNetwork, SubnetError> {
    let given: IpNetwork = text
        .parse()
        .ok()
        .filter(|_| text.contains('/'))
        .ok_or_else(|| SubnetError::NotCidr { what, given: text.to_owned() })?;
    let network = network_of(given);
    if given == network { Ok(given) } else { Err(SubnetError::HostBits { what, given, network }) }
}

/// Everything of a pool that can be wrong by itself.
pub fn check_pool(pool: &Pool) -> Result<(), SubnetError> {
    let subnet = pool.subnet;
    check_usable(subnet)?;
    if let Some(range) = pool.ip_range {
        if range.prefix() < subnet.prefix() {
            return Err(SubnetError::RangeTooBig { range, subnet });
        }
        if !encloses(subnet, range) {
            return Err(SubnetError::RangeOutside { range, subnet });
        }
    }
    for gateway in [Some(pool.gateway), pool.default_gateway].into_iter().flatten() {
        if !subnet.contains(gateway) {
            return Err(SubnetError::GatewayOutside { gateway, subnet });
        }
        if !usable(subnet).contains(&number(gateway)) {
            return Err(SubnetError::GatewayUnusable { gateway, subnet });
        }
    }
    match pool.aux.values().find(|aux| !subnet.contains(**aux)) {
        Some(aux) => Err(SubnetError::AuxOutside { given: *aux, subnet }),
        None => Ok(()),
    }
}

/// Loopback, link-local IPv6, and all that is not unicast. `::/8` has the
/// IPv4-mapped addresses too, which stand for IPv4 in the datapath.
fn check_usable(subnet: IpNetwork) -> Result<(), SubnetError> {
    const RESERVED: [([u8; 4], u8); 3] =
        [([0, 0, 0, 0], 8), ([127, 0, 0, 0], 8), ([224, 0, 0, 0], 3)];
    const RESERVED6: [(u16, u8); 3] = [(0, 8), (0xfe80, 10), (0xff00, 8)];
    let reserved = RESERVED
        .into_iter()
        .filter_map(|(ip, prefix)| Ipv4Network::new(ip.into(), prefix).ok())
        .map(IpNetwork::from);
    let reserved6 = RESERVED6
        .into_iter()
        .filter_map(|(start, prefix)| {
            Ipv6Network::new([start, 0, 0, 0, 0, 0, 0, 0].into(), prefix).ok()
        })
        .map(IpNetwork::from);
    reserved
        .chain(reserved6)
        .find(|reserved| overlaps(*reserved, subnet))
        .map_or(Ok(()), |reserved| Err(SubnetError::Unusable { subnet, reserved }))
}

/// The gateway of a subnet that came without one: its first address that is
/// not in `aux`.
pub fn first_gateway<'a>(
    subnet: IpNetwork,
    aux: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<IpAddr, SubnetError> {
    let aux: Vec<u128> = aux.into_iter().map(|ip| number(*ip)).collect();
    super::address::first_gap(usable(subnet), aux)
        .map(|free| address(free, subnet.ip()))
        .ok_or(SubnetError::NoGateway(subnet))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, gateway: &str) -> Pool {
        Pool {
            subnet: net(subnet),
            ip_range: None,
            gateway: gateway.parse().unwrap(),
            default_gateway: None,
            aux: std::collections::BTreeMap::new(),
        }
    }

    fn error(pool: &Pool) -> String {
        check_pool(pool).unwrap_err().to_string()
    }

    #[test]
    fn the_default_pools_hold_thirty_one_networks() {
        let mut used = vec![];
        while let Some(subnet) = choose_subnet(&default_pools(), None, &used) {
            used.push(subnet);
        }
        assert_eq!(used.len(), 31);
        assert_eq!(used[0], net("172.17.0.0/16"));
        assert_eq!(used[4], net("172.21.0.0/16"));
        assert_eq!(used[30], net("192.168.240.0/20"));
    }

    #[test]
    fn a_choice_steps_around_what_is_larger_and_what_is_smaller() {
        let pools = default_pools();
        let used = [net("172.17.5.0/24"), net("172.18.0.0/15"), net("172.20.0.1/32")];
        assert_eq!(choose_subnet(&pools, None, &used), Some(net("172.21.0.0/16")));
    }

    #[test]
    fn a_route_to_everything_private_leaves_nothing() {
        let used = [net("172.16.0.0/12"), net("192.168.0.0/16")];
        assert_eq!(choose_subnet(&default_pools(), None, &used), None);
    }

    #[test]
    fn a_choice_in_a_large_pool_is_quick() {
        let pools = [AddressPool { base: net("10.0.0.0/8"), size: 30 }];
        let used = [net("10.0.0.0/9"), net("10.128.0.0/10")];
        assert_eq!(choose_subnet(&pools, None, &used), Some(net("10.192.0.0/30")));
    }

    #[test]
    fn a_hosts_own_site_is_forty_bits_of_its_hash() {
        // printf host | sha256sum
        let pool = unique_local_pool(b"host");
        assert_eq!(pool, AddressPool { base: net("fd63:47b0:172c::/48"), size: 64 });
        let used = [net("fd63:47b0:172c::/63"), net("fd63:47b0:172c:3::1/128")];
        assert_eq!(choose_subnet(&[pool], None, &used), Some(net("fd63:47b0:172c:2::/64")));
    }

    #[test]
    fn a_size_of_ones_own_is_cut_from_any_pool() {
        assert_eq!(
            choose_subnet(&default_pools(), Some(24), &[net("172.17.0.0/24")]),
            Some(net("172.17.1.0/24"))
        );
    }

    #[test]
    fn checks_have_dockers_texts() {
        assert_eq!(
            parse_subnet("subnet", "10.1.1.0/16").unwrap_err().to_string(),
            "invalid subnet 10.1.1.0/16: it should be 10.1.0.0/16"
        );
        assert_eq!(
            parse_subnet("subnet", "10.1.1.0").unwrap_err().to_string(),
            "invalid subnet 10.1.1.0: invalid CIDR block notation"
        );
        assert_eq!(
            error(&pool("10.1.0.0/16", "10.2.0.1")),
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address"
        );
        let mut ranged = pool("10.1.0.0/16", "10.1.0.1");
        ranged.ip_range = Some(net("10.0.0.0/8"));
        assert_eq!(
            error(&ranged),
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16"
        );
        ranged.ip_range = Some(net("10.2.0.0/24"));
        assert_eq!(
            error(&ranged),
            "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range"
        );
        let mut aux = pool("10.1.0.0/16", "10.1.0.1");
        aux.aux.insert("router".into(), "10.2.0.9".parse().unwrap());
        assert_eq!(
            error(&aux),
            "invalid auxiliary address 10.2.0.9: parent subnet 10.1.0.0/16 doesn't contain this address"
        );
        assert_eq!(
            error(&pool("127.0.0.0/8", "127.0.0.1")),
            "invalid subnet 127.0.0.0/8: it overlaps 127.0.0.0/8, which no network can use"
        );
        for (subnet, reserved) in
            [("fe80:1::/64", "fe80::/10"), ("ff02::/64", "ff00::/8"), ("64:ff9b::/96", "::/8")]
        {
            assert_eq!(
                error(&pool(subnet, "fd00::1")),
                format!(
                    "invalid subnet {subnet}: it overlaps {reserved}, which no network can use"
                )
            );
        }
    }

    #[test]
    fn the_gateway_is_the_first_address_that_is_not_set_aside() {
        let aux = ["10.1.0.1".parse().unwrap()];
        assert_eq!(first_gateway(net("10.1.0.0/24"), &aux), Ok("10.1.0.2".parse().unwrap()));
        assert_eq!(first_gateway(net("10.1.0.4/31"), &[]), Ok("10.1.0.4".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn chosen_subnets_never_overlap(
            used in prop::collection::vec(
                (any::<u32>(), 9u8..=32).prop_map(|(ip, prefix)| {
                    let ip = 0xac10_0000 | (ip >> 12);
                    network_of(IpNetwork::new(IpAddr::V4(ip.into()), prefix).unwrap())
                }),
                0..20,
            ),
            size in 16u8..=30,
        ) {
            if let Some(subnet) = choose_subnet(&default_pools(), Some(size), &used) {
                prop_assert!(used.iter().all(|other| !overlaps(*other, subnet)));
                prop_assert_eq!(network_of(subnet), subnet);
                prop_assert_eq!(subnet.prefix(), size);
            }
        }

        #[test]
        fn parsing_never_panics(text in "[0-9a-f.:/]{0,24}") {
            let _ = parse_subnet("subnet", &text);
        }
    }
}
