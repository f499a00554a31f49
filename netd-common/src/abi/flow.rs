//! `FLOWS` and `EMBRYONIC`: conntrack and fast path in one.

use super::{Address, Be16, Mac, pod};

/// Where a packet entered the datapath. It is part of the key, so that a
/// packet from outside never matches a container's own direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Zone {
    /// From outside, by an uplink.
    Uplink = 0,
    /// From a container.
    Container = 1,
}

/// One direction of a flow as its packets arrive, before translation.
///
/// For ICMP echo the identifier is the port of whoever asks: a request has it
/// in `sport` (and 0 in `dport`), a reply in `dport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey {
    pub src: Address,
    pub dst: Address,
    pub sport: Be16,
    pub dport: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// A [`Zone`].
    pub zone: u8,
    pub pad: u16,
}

/// What to do with a packet of this direction, complete: an established
/// packet needs no other look-up.
///
/// Each value holds enough to derive its twin (the other direction).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The address written in place of the source ([`Flow::REWRITE_SRC`]) or
    /// the destination ([`Flow::REWRITE_DST`]).
    pub addr: Address,
    /// To a container: its MAC, then its gateway's (12 bytes, see
    /// [`Flow::hop_macs`]). To an uplink: the next hop.
    pub hop: Address,
    /// The MAC a container must send from, in its own directions.
    pub in_mac: Mac,
    /// The ports after translation.
    pub sport: Be16,
    pub dport: Be16,
    /// The path's MTU towards an uplink, in bytes of IP; 0: no limit.
    pub mtu: u16,
    /// Host-side veth of the receiving container, or the uplink.
    pub out_ifindex: u32,
    /// The host-side veth that this direction comes from; 0: any uplink.
    pub in_ifindex: u32,
    /// Seconds of `CLOCK_MONOTONIC`.
    pub last_seen: u32,
    /// [`super::Config::route_generation`] that `hop` belongs to.
    pub generation: u16,
    /// `Flow::*` bits.
    pub flags: u8,
    /// A [`crate::conntrack::State`].
    pub state: u8,
    pub packets: u64,
    pub bytes: u64,
}

impl Flow {
    /// Packets of the direction that opened the flow.
    pub const ORIGINAL: u8 = 1;
    /// `addr` replaces the source address.
    pub const REWRITE_SRC: u8 = 1 << 1;
    /// `addr` replaces the destination address.
    pub const REWRITE_DST: u8 = 1 << 2;
    /// With `REWRITE_SRC`: the destination becomes the packet's own source
    /// (a container that reaches itself through the host's address).
    pub const TO_SELF: u8 = 1 << 3;
    /// Goes to a container, not to an uplink.
    pub const LOCAL: u8 = 1 << 4;
    /// This direction has sent its FIN.
    pub const FIN: u8 = 1 << 5;
    /// The host's own: its packets are the stack's, and no container can have
    /// the tuple. Only where a look-up of the host's sockets does not tell.
    pub const HOST: u8 = 1 << 6;

    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// `hop` of a delivery: the frame's new destination and source.
    #[inline(always)]
    pub const fn hop_macs(&self) -> (Mac, Mac) {
        let [a, b, c, _] = self.hop.words();
        let ([a, b], [c, d], [e, f]) = (halves(a), halves(b), halves(c));
        (Mac([a, b, c]), Mac([d, e, f]))
    }

    /// The inverse of [`Flow::hop_macs`].
    #[inline(always)]
    pub const fn hop_from_macs(dst: Mac, src: Mac) -> Address {
        let ([a, b, c], [d, e, f]) = (dst.0, src.0);
        Address::from_words([word(a, b), word(c, d), word(e, f), 0])
    }
}

/// Two half-words as they follow each other in memory.
#[inline(always)]
const fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
const fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

pod!(FlowKey: 40, Flow: 80);
