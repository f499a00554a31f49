//! What can be said of a [`FlowKey`] alone.

use crate::abi::{Address, FlowKey};

impl FlowKey {
    /// A hash of all but the source port that an outsider can't predict without
    /// `seed`. Not cryptographic: it only spreads the start of the search for
    /// SNAT ports.
    #[inline(always)]
    pub const fn hash(&self, seed: u32) -> u32 {
        let hash = mix_address(seed, &self.src);
        let hash = mix_address(hash, &self.dst);
        mix(hash, (self.proto as u32) << 16 | self.dport.0 as u32)
    }
}

#[inline(always)]
const fn mix_address(hash: u32, address: &Address) -> u32 {
    let [a, b, c, d] = address.words();
    mix(mix(hash, a ^ b.rotate_left(16)), c.rotate_left(8) ^ d)
}

/// One round of the 32-bit finaliser "lowbias32" (C. Wellons, public domain
/// constants).
#[inline(always)]
pub(crate) const fn mix(hash: u32, word: u32) -> u32 {
    let mut x = hash ^ word;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
