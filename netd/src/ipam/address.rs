//! Addresses within a subnet: which is next, and whether one may be given.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use ipnetwork::IpNetwork;

use super::{address, number};
use crate::model::Pool;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    #[error("no configured subnet contains IP address {0}")]
    NotInSubnet(IpAddr),
    #[error("Address already in use")]
    InUse,
}

/// The lowest free address of the pool's range (its subnet without one).
///
/// The cost grows with `taken`, not with the subnet.
pub fn choose_address(pool: &Pool, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let whole = usable(pool.subnet);
    let range = pool.ip_range.unwrap_or(pool.subnet);
    let first = number(range.network()).max(*whole.start());
    let last = number(range.broadcast()).min(*whole.end());
    let blocked = taken.iter().chain(set_aside(pool)).copied();
    let blocked = blocked.filter(|ip| pool.subnet.contains(*ip)).map(number).collect();
    first_gap(first..=last, blocked).map(|free| address(free, pool.subnet.ip()))
}

/// Whether `ip` may be given to an endpoint, and the pool that it belongs to.
/// `--ip-range` binds automatic choices only.
pub fn check_address<'a>(
    pools: &'a [Pool],
    taken: &BTreeSet<IpAddr>,
    ip: IpAddr,
) -> Result<&'a Pool, AddressError> {
    let pool =
        pools.iter().find(|pool| pool.subnet.contains(ip)).ok_or(AddressError::NotInSubnet(ip))?;
    let free = usable(pool.subnet).contains(&number(ip))
        && !taken.contains(&ip)
        && !set_aside(pool).any(|aside| *aside == ip);
    free.then_some(pool).ok_or(AddressError::InUse)
}

/// How many addresses [`choose_address`] would give before none is left; of
/// more than 2^53, about.
#[expect(clippy::cast_precision_loss, reason = "a count for people")]
pub fn capacity(pool: &Pool) -> f64 {
    let whole = usable(pool.subnet);
    let range = pool.ip_range.unwrap_or(pool.subnet);
    let first = number(range.network()).max(*whole.start());
    let last = number(range.broadcast()).min(*whole.end());
    let aside = set_aside(pool).collect::<BTreeSet<_>>();
    let aside = aside.into_iter().filter(|ip| (first..=last).contains(&number(**ip))).count();
    // The range of a whole family has no number of its own.
    last.saturating_sub(first).saturating_add(1).saturating_sub(aside as u128) as f64
}

fn set_aside(pool: &Pool) -> impl Iterator<Item = &IpAddr> {
    std::iter::once(&pool.gateway).chain(&pool.default_gateway).chain(pool.aux.values())
}

/// All addresses but IPv4's network and broadcast address, and IPv6's
/// subnet-router anycast address (RFC 4291 §2.6.1). A subnet of one or two
/// addresses has neither (RFC 3021, RFC 6164).
pub(super) fn usable(subnet: IpNetwork) -> RangeInclusive<u128> {
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    if last - first < 2 {
        return first..=last;
    }
    match subnet {
        IpNetwork::V4(_) => first + 1..=last - 1,
        IpNetwork::V6(_) => first + 1..=last,
    }
}

/// The lowest number of `range` that is not in `blocked`.
pub(super) fn first_gap(range: RangeInclusive<u128>, mut blocked: Vec<u128>) -> Option<u128> {
    blocked.sort_unstable();
    let mut free = *range.start();
    for taken in blocked.into_iter().filter(|taken| range.contains(taken)) {
        if taken > free {
            break;
        }
        if taken == free {
            free = free.checked_add(1)?;
        }
    }
    range.contains(&free).then_some(free)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, gateway: &str) -> Pool {
        Pool {
            subnet: subnet.parse().unwrap(),
            ip_range: None,
            gateway: ip(gateway),
            default_gateway: None,
            aux: BTreeMap::new(),
        }
    }

    #[test]
    fn a_capacity_is_what_can_be_given() {
        for (subnet, gateway) in
            [("10.0.0.0/29", "10.0.0.1"), ("10.0.0.4/31", "10.0.0.5"), ("fd00::/125", "fd00::1")]
        {
            let mut pool = pool(subnet, gateway);
            pool.aux.insert("router".into(), pool.gateway);
            let count = fill(&pool).len();
            assert_eq!(format!("{count}"), format!("{}", capacity(&pool)), "{subnet}");
        }
    }

    fn fill(pool: &Pool) -> Vec<IpAddr> {
        let mut taken = BTreeSet::new();
        std::iter::from_fn(|| {
            let next = choose_address(pool, &taken)?;
            assert!(taken.insert(next), "{next} was given twice");
            Some(next)
        })
        .collect()
    }

    #[test]
    fn addresses_are_given_from_the_lowest_on() {
        let all = fill(&pool("10.0.0.0/29", "10.0.0.1"));
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(ip));
    }

    #[test]
    fn gateway_aux_and_range_are_respected() {
        let mut pool = pool("10.0.0.0/24", "10.0.0.9");
        pool.ip_range = Some("10.0.0.8/29".parse().unwrap());
        pool.aux.insert("printer".into(), ip("10.0.0.10"));
        pool.default_gateway = Some(ip("10.0.0.12"));
        let all = fill(&pool);
        assert_eq!(all, ["10.0.0.8", "10.0.0.11", "10.0.0.13", "10.0.0.14", "10.0.0.15"].map(ip));
    }

    #[test]
    fn the_smallest_subnets_use_every_address() {
        assert_eq!(fill(&pool("10.0.0.4/31", "10.0.0.4")), [ip("10.0.0.5")]);
        assert!(fill(&pool("10.0.0.4/32", "10.0.0.4")).is_empty());
        assert_eq!(fill(&pool("fd00::4/127", "fd00::4")), [ip("fd00::5")]);
    }

    #[test]
    fn a_released_address_is_the_next() {
        let pool = pool("10.0.0.0/8", "10.0.0.1");
        let taken = ["10.0.0.2", "10.0.0.4"].map(ip).into();
        assert_eq!(choose_address(&pool, &taken), Some(ip("10.0.0.3")));
    }

    #[test]
    fn a_fixed_address_is_checked_with_dockers_texts() {
        let pools = [pool("10.0.0.0/24", "10.0.0.1")];
        let taken = [ip("10.0.0.7")].into();
        let error = |text: &str| check_address(&pools, &taken, ip(text)).unwrap_err().to_string();
        assert_eq!(error("10.0.1.7"), "no configured subnet contains IP address 10.0.1.7");
        for used in ["10.0.0.7", "10.0.0.1", "10.0.0.0", "10.0.0.255"] {
            assert_eq!(error(used), "Address already in use");
        }
        assert!(check_address(&pools, &taken, ip("10.0.0.8")).is_ok());
    }

    proptest! {
        #[test]
        fn the_lowest_free_address_is_found(taken in prop::collection::btree_set(0u32..64, 0..64)) {
            let pool = pool("10.0.0.0/26", "10.0.0.1");
            let taken: BTreeSet<IpAddr> =
                taken.into_iter().map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
            let expected = (0x0a00_0002u32..0x0a00_003f)
                .map(|n| IpAddr::V4(n.into()))
                .find(|free| !taken.contains(free));
            prop_assert_eq!(choose_address(&pool, &taken), expected);
        }
    }
}
