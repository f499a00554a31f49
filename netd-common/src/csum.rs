//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The kernel side uses this for the IPv4 header only: a layer-4 checksum may
//! be unfinished (`CHECKSUM_PARTIAL`), which only the kernel's helpers know.

/// Folds a sum into 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // Two folds of a 32-bit sum always fit.
    #[allow(clippy::cast_possible_truncation)]
    {
        sum as u16
    }
}

/// `check` after a 16-bit word of what it covers went from `from` to `to`
/// (RFC 1624, equation 3). All in memory order.
#[inline(always)]
pub const fn replace16(check: u16, from: u16, to: u16) -> u16 {
    !fold(!check as u32 + !from as u32 + to as u32)
}

/// As [`replace16`], for a 32-bit word.
#[inline(always)]
pub const fn replace32(check: u16, from: u32, to: u32) -> u16 {
    let from = !from;
    let sum = !check as u32 + (from & 0xffff) + (from >> 16) + (to & 0xffff) + (to >> 16);
    !fold(sum)
}

/// What replacing the words `from` by `to` adds to the sum over them, in memory
/// order and unfolded: the kernel's `csum_diff`.
#[inline(always)]
pub const fn diff<const N: usize>(from: [u32; N], to: [u32; N]) -> u32 {
    let mut sum = 0_u64;
    let mut n = 0;
    while n < N {
        sum += !from[n] as u64 + to[n] as u64;
        n += 1;
    }
    add_up(sum)
}

/// `a + b` in one's complement.
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    add_up(a as u64 + b as u64)
}

/// `check` after what it covers changed by `diff`.
#[inline(always)]
pub const fn replace(check: u16, diff: u32) -> u16 {
    !fold(add(!check as u32 & 0xffff, diff))
}

#[inline(always)]
const fn add_up(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    // Two folds of such a sum always fit.
    #[allow(clippy::cast_possible_truncation)]
    {
        sum as u32
    }
}

/// The sum over `bytes`, unfolded, in memory order; an odd last byte is padded.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    let mut chunks = bytes.chunks_exact(2);
    let mut sum: u64 = 0;
    for pair in &mut chunks {
        sum += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = chunks.remainder() {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    while sum >> 32 != 0 {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    // Folded just above.
    #[allow(clippy::cast_possible_truncation)]
    {
        sum as u32
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn replacing_a_word_equals_summing_again(
            mut words in proptest::array::uniform10(any::<u16>()),
            at in 0usize..10,
            to in any::<u16>(),
        ) {
            let bytes = |w: &[u16; 10]| w.iter().flat_map(|w| w.to_ne_bytes()).collect::<std::vec::Vec<_>>();
            let before = !fold(sum(&bytes(&words)));
            let updated = replace16(before, words[at], to);
            words[at] = to;
            let after = !fold(sum(&bytes(&words)));
            // 0 and ffff are the same number in one's complement.
            prop_assert!(updated == after || updated ^ after == 0xffff);
        }

        #[test]
        fn replacing_two_words_at_once_equals_one_by_one(check: u16, from: u32, to: u32) {
            let [a, b, c, d] = from.to_ne_bytes();
            let [e, f, g, h] = to.to_ne_bytes();
            let one = replace16(check, u16::from_ne_bytes([a, b]), u16::from_ne_bytes([e, f]));
            let two = replace16(one, u16::from_ne_bytes([c, d]), u16::from_ne_bytes([g, h]));
            let both = replace32(check, from, to);
            prop_assert!(both == two || both ^ two == 0xffff);
        }
    }
}
