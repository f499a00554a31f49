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

    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// `hop` of a delivery: the frame's new destination and source.
    #[inline(always)]
    pub const fn hop_macs(&self) -> (Mac, Mac) {
        let h = &self.hop.0;
        (
            Mac::from_octets([h[0], h[1], h[2], h[3], h[4], h[5]]),
            Mac::from_octets([h[6], h[7], h[8], h[9], h[10], h[11]]),
        )
    }

    /// The inverse of [`Flow::hop_macs`].
    #[inline(always)]
    pub const fn hop_from_macs(dst: Mac, src: Mac) -> Address {
        let (d, s) = (dst.octets(), src.octets());
        Address([
            d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], 0, 0, 0, 0,
        ])
    }
}

pod!(FlowKey: 40, Flow: 80);
