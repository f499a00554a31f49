//! `FLOWS` and `EMBRYONIC`: conntrack and fast path in one.

use super::{
    Address, Be16, Mac, pod,
    wire::{PROTO_TCP, PROTO_UDP},
};

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
    /// 0, or [`FlowKey::PROBE`].
    pub pad: u16,
}

impl FlowKey {
    /// Marks an entry of a moment, which is no flow's: whether there is room
    /// for one.
    pub const PROBE: u16 = 1;

    /// Of the protocols whose ports are published and reserved, and whose sockets
    /// can be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn is_tcp_or_udp(&self) -> bool {
        matches!(self.proto, PROTO_TCP | PROTO_UDP)
    }
}

/// What to do with a packet of this direction, complete: an established
/// packet needs no other look-up.
///
/// Each value holds enough to derive its twin (the other direction). Millions
/// of them may live: with its key it takes 104 bytes, and the kernel adds 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The address written in place of the source ([`Flow::REWRITE_SRC`]) or
    /// the destination ([`Flow::REWRITE_DST`]).
    pub addr: Address,
    /// To a container: its MAC, then its gateway's ([`Flow::macs`]). To an
    /// uplink: the next hop in two words ([`crate::hop`]), then
    /// [`Flow::mtu`] and [`Flow::generation`].
    pub way: [u32; 3],
    /// Host-side veth of the receiving container, or the uplink.
    pub out_ifindex: u32,
    /// The host-side veth that this direction comes from; 0: any uplink.
    pub in_ifindex: u32,
    /// Seconds of `CLOCK_MONOTONIC`.
    pub last_seen: u32,
    /// The lower 56 bits: bytes. The upper: what `packets` has no room for.
    pub volume: u64,
    /// The lower 32 bits of [`Flow::packets`].
    pub packets: u32,
    /// The MAC a container must send from, in its own directions.
    pub in_mac: Mac,
    /// The ports after translation.
    pub sport: Be16,
    pub dport: Be16,
    /// `Flow::*` bits.
    pub flags: u8,
    /// A [`crate::conntrack::State`].
    pub state: u8,
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
    /// The next hop shares its prefix with the source of what is sent to it.
    pub const NEAR: u8 = 1 << 7;

    const BYTES: u64 = (1 << 56) - 1;

    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// To a container, but by no link of the flow's own: the stack delivers it,
    /// which may have to translate it (a published port of another's
    /// container).
    #[inline(always)]
    pub const fn is_by_stack(&self) -> bool {
        self.has(Self::LOCAL) && self.out_ifindex == 0
    }

    /// Of a delivery: the frame's new destination and source.
    #[inline(always)]
    pub const fn macs(&self) -> (Mac, Mac) {
        let [a, b, c] = self.way;
        let ([a, b], [c, d], [e, f]) = (halves(a), halves(b), halves(c));
        (Mac([a, b, c]), Mac([d, e, f]))
    }

    #[inline(always)]
    pub const fn set_macs(&mut self, dst: Mac, src: Mac) {
        let ([a, b, c], [d, e, f]) = (dst.0, src.0);
        self.way = [word(a, b), word(c, d), word(e, f)];
    }

    /// The path's MTU towards an uplink, in bytes of IP; 0: no limit.
    #[inline(always)]
    pub const fn mtu(&self) -> u16 {
        if self.has(Self::LOCAL) { 0 } else { halves(self.way[2])[0] }
    }

    /// [`super::Config::route_generation`] that the way to an uplink is of.
    #[inline(always)]
    pub const fn generation(&self) -> u16 {
        halves(self.way[2])[1]
    }

    /// For what goes to an uplink only.
    #[inline(always)]
    pub const fn set_path(&mut self, mtu: u16, generation: u16) {
        self.way[2] = word(mtu, generation);
    }

    /// Counts a packet of so many bytes.
    #[inline(always)]
    pub const fn count(&mut self, bytes: u64) {
        self.packets = self.packets.wrapping_add(1);
        let carry = if self.packets == 0 { Self::BYTES + 1 } else { 0 };
        self.volume = self.volume.wrapping_add(bytes).wrapping_add(carry);
    }

    /// Packets and bytes so far; 40 and 56 bits.
    pub const fn counted(&self) -> (u64, u64) {
        (self.volume >> 56 << 32 | self.packets as u64, self.volume & Self::BYTES)
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

pod!(FlowKey: 40, Flow: 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_packets_are_counted_than_32_bits_hold() {
        let mut flow = Flow { packets: u32::MAX, volume: 7, ..Flow::default() };
        flow.count(100);
        assert_eq!(flow.counted(), (1 << 32, 107));
        flow.count(50);
        assert_eq!(flow.counted(), ((1 << 32) + 1, 157));
    }

    #[test]
    fn a_way_holds_two_macs_or_a_path() {
        let (dst, src) = (Mac([1, 2, 3]), Mac([4, 5, 6]));
        let mut flow = Flow { flags: Flow::LOCAL, ..Flow::default() };
        flow.set_macs(dst, src);
        assert_eq!((flow.macs(), flow.mtu()), ((dst, src), 0));
        let mut flow = Flow::default();
        flow.set_path(1500, 9);
        assert_eq!((flow.mtu(), flow.generation()), (1500, 9));
    }
}
