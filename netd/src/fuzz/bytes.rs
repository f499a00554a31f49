//! Numbers and addresses out of a fuzzer's bytes; zeros once they are used up.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::ipam;

pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        array[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        array
    }

    /// Any address; for most, one near `home`.
    pub(super) fn address(&mut self, home: IpNetwork) -> IpAddr {
        match self.byte() {
            0..16 => IpAddr::from(self.array::<4>()),
            16..32 => IpAddr::from(self.array::<16>()),
            tag => near(home, tag, self.byte()),
        }
    }

    /// Any block without host bits; for most, one near `home`.
    pub(super) fn network(&mut self, home: IpNetwork) -> IpNetwork {
        let address = self.address(home);
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match self.byte() {
            any @ ..129 => any % (width + 1),
            longer => home.prefix().saturating_add(longer % 12).min(width),
        };
        ipam::network_of(IpNetwork::new(address, prefix).expect("the prefix fits the family"))
    }
}

/// The `offset`th address from the begin, or from the end, of `home`.
fn near(home: IpNetwork, tag: u8, offset: u8) -> IpAddr {
    let (first, last) = (home.network(), home.broadcast());
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last, offset) = (first.to_bits(), last.to_bits(), u32::from(offset));
            let bits = if tag.is_multiple_of(4) {
                last.wrapping_sub(offset)
            } else {
                first.wrapping_add(offset)
            };
            IpAddr::V4(bits.into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last, offset) = (first.to_bits(), last.to_bits(), u128::from(offset));
            let bits = if tag.is_multiple_of(4) {
                last.wrapping_sub(offset)
            } else {
                first.wrapping_add(offset)
            };
            IpAddr::V6(bits.into())
        }
        _ => first,
    }
}
