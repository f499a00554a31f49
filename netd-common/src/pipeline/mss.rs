//! TCP's maximum segment size (RFC 9293 §3.7.1): a SYN never announces more
//! than the path takes, for the sake of those whose path MTU discovery is
//! broken.

use crate::{
    abi::{
        Be16,
        wire::{ETHERNET_LEN, Extension},
    },
    csum,
    packet::{Covered, Headers, PacketMut},
};

const TCP_LEN: usize = 20;
const CHECKSUM: usize = 16;
const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
/// Options that are looked at; the size is most often the first.
const MOST_OPTIONS: usize = 8;

/// Lowers the size that a SYN announces to what fits `mtu` (bytes of IP).
/// `false`: the kernel refused the edit.
#[inline(never)]
pub(super) fn clamp<P: PacketMut>(packet: &mut P, headers: &Headers, mtu: u16) -> bool {
    let Some(offset) = packet.read::<u8>(headers.l4 + 12) else { return true };
    let end = headers.l4 + usize::from(offset >> 4) * 4;
    if !packet.ensure(end) {
        return true;
    }
    #[allow(clippy::cast_possible_truncation)] // the length of headers
    let headers_len = (headers.l4 - ETHERNET_LEN + TCP_LEN) as u16;
    let most = mtu.saturating_sub(headers_len);
    let mut at = headers.l4 + TCP_LEN;
    let mut n = 0;
    while n < MOST_OPTIONS && at + 1 < end {
        n += 1;
        let Some(option) = packet.read::<Extension>(at) else { return true };
        let (kind, len) = (option.next_header, option.len);
        match kind {
            END => return true,
            NOTHING => at += 1,
            SEGMENT_SIZE if len == 4 => return lower(packet, headers, at + 2, most),
            _ if len < 2 => return true,
            _ => at += usize::from(len),
        }
    }
    true
}

#[inline(always)]
fn lower<P: PacketMut>(packet: &mut P, headers: &Headers, at: usize, most: u16) -> bool {
    let Some(size) = packet.read::<Be16>(at) else { return true };
    if size.to_host() <= most {
        return true;
    }
    let lower = Be16::from_host(most);
    let odd = !(at - headers.l4).is_multiple_of(2);
    // In the sum, a word that begins at an odd byte has its two changed over.
    let word = |it: Be16| u32::from(if odd { it.0.swap_bytes() } else { it.0 });
    let diff = csum::diff([word(size)], [word(lower)]);
    packet.update_checksum(headers.l4 + CHECKSUM, headers.key.proto, Covered::Segment, diff)
        && packet.write(at, &lower)
}
