//! `ALLOW`: the source allow-lists of published ports. It knows lists by their
//! numbers, not whose they are.

use std::{collections::BTreeSet, fmt, path::Path};

use aya::{
    Ebpf,
    maps::{LpmTrie, Map, MapData, lpm_trie::Key},
};
use ipnetwork::IpNetwork;
use netd_common::abi::{Address, AllowKey, names};

use super::{
    Error,
    tables::{failed, gone, pinned, take},
};

/// Bits of [`AllowKey::list`], and of the IPv4 addresses' prefix.
const LIST_BITS: u32 = 32;
const MAPPED_BITS: u8 = 96;

pub struct AllowLists(LpmTrie<MapData, AllowKey, u32>);

impl fmt::Debug for AllowLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowLists").finish_non_exhaustive()
    }
}

impl AllowLists {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self(take(ebpf, names::ALLOW)?))
    }

    /// Another way to the same lists, for reading.
    pub(super) fn pinned(pins: &Path) -> Result<Self, Error> {
        let map = Map::LpmTrie(pinned(pins, names::ALLOW)?);
        map.try_into().map(Self).map_err(failed(names::ALLOW))
    }

    /// Fills a list, which no port names yet.
    pub fn put(&mut self, list: u32, from: &[IpNetwork]) -> Result<(), Error> {
        for key in keys(list, from) {
            self.0.insert(&key, 1, 0).map_err(failed(names::ALLOW))?;
        }
        Ok(())
    }

    /// Empties a list, which no port names any more.
    pub fn remove(&mut self, list: u32, from: &[IpNetwork]) -> Result<(), Error> {
        for key in keys(list, from) {
            gone(self.0.remove(&key)).map_err(failed(names::ALLOW))?;
        }
        Ok(())
    }

    /// Whether a list has `source` in it.
    pub fn has(&self, list: u32, source: &Address) -> bool {
        let key = AllowKey { list, addr: *source };
        self.0.get(&Key::new(LIST_BITS + 128, key), 0).is_ok()
    }

    /// Removes every entry that is not of these lists.
    pub fn retain<'a>(
        &mut self,
        lists: impl IntoIterator<Item = (u32, &'a [IpNetwork])>,
    ) -> Result<(), Error> {
        let wanted: BTreeSet<_> =
            lists.into_iter().flat_map(|(list, from)| keys(list, from)).map(plain).collect();
        let stale: Vec<_> =
            self.0.keys().flatten().filter(|key| !wanted.contains(&plain(*key))).collect();
        for key in stale {
            gone(self.0.remove(&key)).map_err(failed(names::ALLOW))?;
        }
        Ok(())
    }
}

fn plain(key: Key<AllowKey>) -> (u32, AllowKey) {
    (key.prefix_len(), key.data())
}

fn keys(list: u32, from: &[IpNetwork]) -> impl Iterator<Item = Key<AllowKey>> {
    from.iter()
        .flat_map(|source| prefixes(*source))
        .map(move |(addr, bits)| Key::new(LIST_BITS + u32::from(bits), AllowKey { list, addr }))
}

/// The prefixes of 16-byte addresses that hold what `source` does. More than
/// one for an IPv6 block around `::ffff:0:0/96`, such as `::/0`: the datapath
/// keeps IPv4's addresses there, and they are none of that block's.
fn prefixes(source: IpNetwork) -> Vec<(Address, u8)> {
    let source = match source {
        IpNetwork::V4(v4) => return vec![(v4.network().into(), MAPPED_BITS + v4.prefix())],
        IpNetwork::V6(v6) => v6,
    };
    let mapped = std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    if source.prefix() > MAPPED_BITS || !source.contains(mapped) {
        return vec![(source.network().into(), source.prefix())];
    }
    // The halves beside the way down to it, one a bit.
    (source.prefix() + 1..=MAPPED_BITS)
        .map(|bits| {
            let below = 128 - u32::from(bits);
            let beside = (u128::from(mapped) ^ (1 << below)) >> below << below;
            (std::net::Ipv6Addr::from(beside).into(), bits)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn has(prefixes: &[(Address, u8)], address: &str) -> bool {
        let number = |address: Address| u128::from_be_bytes(address.octets());
        let address: IpAddr = address.parse().unwrap();
        let address = number(address.into());
        prefixes.iter().any(|(prefix, bits)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
            (number(*prefix) ^ address) & mask == 0
        })
    }

    fn of(source: &str) -> Vec<(Address, u8)> {
        prefixes(source.parse().unwrap())
    }

    #[test]
    fn an_ipv4_block_is_one_prefix_behind_the_mapped_one() {
        assert_eq!(of("10.0.0.0/8"), [(Address::v4([10, 0, 0, 0]), 104)]);
        assert_eq!(of("0.0.0.0/0"), [(Address::v4([0; 4]), 96)]);
        assert!(has(&of("0.0.0.0/0"), "203.0.113.9") && !has(&of("0.0.0.0/0"), "2001:db8::1"));
    }

    #[test]
    fn an_ipv6_block_holds_no_ipv4_address() {
        assert_eq!(of("2001:db8::/32").len(), 1);
        for all in ["::/0", "::/64", "::/80"] {
            assert!(!has(&of(all), "192.0.2.1"), "{all}");
            assert!(has(&of(all), "::1"), "{all}");
            assert!(has(&of(all), "::fffe:1:2"), "{all}");
        }
        assert!(has(&of("::/0"), "2001:db8::1") && has(&of("::/0"), "fe80::1"));
        assert!(!has(&of("::/80"), "2001:db8::1"));
    }
}
