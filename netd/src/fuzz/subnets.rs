//! IPAM against the plainest search that could do its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::bytes::Bytes;
use crate::{
    ipam,
    model::{Pool, config::AddressPool},
};

/// Candidates that are looked at one by one.
const FEW: u32 = 10;

pub(super) fn play(data: &[u8]) {
    text(&String::from_utf8_lossy(data));
    let mut bytes = Bytes(data);
    let home = IpNetwork::new([10, 0, 0, 0].into(), 8).expect("a prefix of IPv4's");
    if bytes.byte() % 2 == 0 { subnet(&mut bytes, home) } else { addresses(&mut bytes, home) }
}

fn text(text: &str) {
    for word in text.split_whitespace() {
        if let Ok(subnet) = ipam::parse_subnet("subnet", word) {
            assert_eq!(ipam::parse_subnet("subnet", &subnet.to_string()), Ok(subnet));
            assert_eq!(ipam::network_of(subnet), subnet);
        }
    }
    let pool = ipam::unique_local_pool(text.as_bytes());
    assert!(ipam::choose_subnet(&[pool], None, &[]).is_some());
}

fn subnet(bytes: &mut Bytes<'_>, home: IpNetwork) {
    let base = bytes.network(home);
    let width = if base.is_ipv4() { 32 } else { 128 };
    let size = base.prefix().saturating_add(bytes.byte() % 40).min(width);
    let mut used = Vec::new();
    while !bytes.is_empty() && used.len() < 64 {
        used.push(bytes.network(base));
    }
    let pool = AddressPool { base, size };
    let chosen = ipam::choose_subnet(&[pool], None, &used);
    if let Some(chosen) = chosen {
        assert_eq!((ipam::network_of(chosen), chosen.prefix()), (chosen, size));
        assert!(ipam::encloses(base, chosen), "{chosen} is not of {base}");
        assert!(!used.iter().any(|other| ipam::overlaps(*other, chosen)), "{chosen} is used");
    }
    let bits = u32::from(size - base.prefix());
    if bits <= FEW {
        let all = (0..1_u128 << bits).map(|nth| nth_subnet(base, size, nth));
        let mut free = all.filter(|it| !used.iter().any(|other| ipam::overlaps(*other, *it)));
        assert_eq!(chosen, free.next(), "the first free /{size} of {base}");
    }
}

fn nth_subnet(base: IpNetwork, size: u8, nth: u128) -> IpNetwork {
    let address = match base.network() {
        IpAddr::V4(first) => {
            let step = nth << (32 - size);
            IpAddr::V4((first.to_bits() + u32::try_from(step).expect("it is in the base")).into())
        }
        // One subnet alone may be as large as the family.
        IpAddr::V6(first) if nth == 0 => IpAddr::V6(first),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + (nth << (128 - size))).into()),
    };
    IpNetwork::new(address, size).expect("the prefix fits the family")
}

fn addresses(bytes: &mut Bytes<'_>, home: IpNetwork) {
    let subnet = bytes.network(home);
    let has = bytes.byte();
    let ip_range = (has & 1 != 0).then(|| bytes.network(subnet));
    let default_gateway = (has & 2 != 0).then(|| bytes.address(subnet));
    let aux: BTreeMap<_, _> =
        (0..has >> 6).map(|n| (n.to_string(), bytes.address(subnet))).collect();
    let gateway = if has & 4 == 0 {
        match ipam::first_gateway(subnet, aux.values()) {
            Ok(gateway) => gateway,
            Err(_) => return,
        }
    } else {
        bytes.address(subnet)
    };
    let pool = Pool { subnet, ip_range, gateway, default_gateway, aux };
    if ipam::check_pool(&pool).is_err() {
        return;
    }
    let mut taken = BTreeSet::new();
    while !bytes.is_empty() && taken.len() < 64 {
        taken.insert(bytes.address(subnet));
    }
    for _ in 0..16 {
        let Some(ip) = ipam::choose_address(&pool, &taken) else { break };
        assert!(pool.ip_range.unwrap_or(subnet).contains(ip), "{ip} is out of range");
        let pools = [pool.clone()];
        assert_eq!(ipam::check_address(&pools, &taken, ip), Ok(&pool), "{ip} may be given");
        assert!(taken.insert(ip));
        assert!(ipam::check_address(&pools, &taken, ip).is_err(), "{ip} is given");
    }
    let range = pool.ip_range.unwrap_or(subnet);
    let width = if range.is_ipv4() { 32 } else { 128 };
    if u32::from(width - range.prefix()) <= FEW {
        let pools = [pool.clone()];
        let mut free = range.iter().filter(|ip| ipam::check_address(&pools, &taken, *ip).is_ok());
        assert_eq!(ipam::choose_address(&pool, &taken), free.next(), "the first that is free");
    }
}
