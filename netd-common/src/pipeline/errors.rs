//! ICMP errors about packets of a flow: the message, and the packet that it
//! quotes, are put back into the words of whoever sent that packet (RFC 792,
//! RFC 4443 §3, RFC 5508 §4). Quoted headers may be cut short behind the ports
//! (RFC 792: 8 bytes).

use super::{Scratch, flow};
use crate::{
    abi::{
        Address, Be16, Family, Flow, FlowKey,
        wire::{
            ETHERNET_LEN, EXT_DESTINATION, EXT_HOP_BY_HOP, EXT_ROUTING, Extension, ICMP_ECHO_REPLY,
            ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST, IPV4_LEN, IPV4_TAIL,
            IPV6_LEN, IPV6_SRC, Icmp, Ipv4, Ipv4Tail, Ipv6, PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP,
            PROTO_TCP, PROTO_UDP, Ports, Wire,
        },
    },
    csum, nat,
    packet::{Headers, PacketMut},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// The packet that an error quotes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Quoted {
    /// Of an answer to it, as that would have arrived.
    answer: FlowKey,
    /// Offsets of its headers.
    l3: usize,
    l4: usize,
}

const ICMP_LEN: usize = size_of::<Icmp>();
const ICMP_CHECKSUM: usize = 2;
const ICMP_ID: usize = 4;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x1fff;
/// What is read of a quoted layer-4 header.
const L4_LEN: usize = 20;
/// Extension headers that are walked over in a quoted packet.
const EXTENSIONS: usize = 2;

/// Sends an error to whom it concerns. Undecided: it is about no flow.
#[inline(never)]
pub(super) fn relate<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let Scratch { headers, quoted, journey, pair, .. } = scratch;
    if !quoted.read(packet, headers) || quoted.answer.dst != headers.key.dst {
        return Verdict::UNDECIDED;
    }
    let Some(flow) = world.any_flow(&quoted.answer) else {
        return Verdict::UNDECIDED;
    };
    if flow.has(Flow::HOST) {
        return Verdict::UNDECIDED;
    }
    if let Some(reason) = flow::spoofed(packet, headers, flow) {
        return reason.into();
    }
    // One that was sent to the host has arrived; errors are never answered.
    let last_hop = headers.ttl <= 1;
    if last_hop && flow.in_ifindex != 0 {
        return Verdict::drop(DropReason::TtlExpired);
    }
    let hops = u8::from(!last_hop);
    pair.own = *flow;
    let refused = flow::reroute(world, journey, &quoted.answer, &mut pair.own);
    if refused.is_decided() {
        return refused;
    }
    if rewrite(packet, headers, quoted, &pair.own, hops).is_none() {
        return Verdict::drop(DropReason::EditFailed);
    }
    flow::hand_over(packet, &quoted.answer, &pair.own)
}

impl Quoted {
    /// `false`: what is quoted can't be of a flow.
    #[inline(always)]
    fn read<P: PacketMut>(&mut self, packet: &mut P, headers: &Headers) -> bool {
        self.l3 = headers.l4 + ICMP_LEN;
        // All that may be read of it, where the frame is so long.
        let longest = self.l3 + IPV6_LEN + L4_LEN;
        let len = packet.len();
        if !packet.ensure(if len < longest { len } else { longest }) {
            return false;
        }
        let found = match headers.family {
            Family::V4 => self.ipv4(packet),
            Family::V6 => self.ipv6(packet),
        };
        self.answer.zone = headers.key.zone;
        self.answer.pad = 0;
        found.is_some() && self.ports(packet, headers.family).is_some()
    }

    #[inline(always)]
    fn ipv4<P: PacketMut>(&mut self, packet: &P) -> Option<()> {
        let ip: Ipv4 = packet.read(self.l3)?;
        let header_len = usize::from(ip.version_ihl & 0xf) * 4;
        let cut = ip.fragment.to_host() & MORE_FRAGMENTS_OR_OFFSET != 0;
        if ip.version_ihl >> 4 != 4 || header_len < IPV4_LEN || cut {
            return None;
        }
        (self.answer.src, self.answer.dst) = (Address::v4_word(ip.dst), Address::v4_word(ip.src));
        self.answer.proto = ip.proto;
        self.l4 = self.l3 + header_len;
        Some(())
    }

    #[inline(always)]
    fn ipv6<P: PacketMut>(&mut self, packet: &P) -> Option<()> {
        let ip: Ipv6 = packet.read(self.l3)?;
        if ip.src.is_v4() || ip.dst.is_v4() {
            return None;
        }
        (self.answer.src, self.answer.dst) = (ip.dst, ip.src);
        let (mut at, mut next) = (self.l3 + IPV6_LEN, ip.next_header);
        let mut n = 0;
        while n < EXTENSIONS && matches!(next, EXT_HOP_BY_HOP | EXT_ROUTING | EXT_DESTINATION) {
            let header: Extension = packet.read(at)?;
            at += (usize::from(header.len) + 1) * 8;
            next = header.next_header;
            n += 1;
        }
        self.answer.proto = next;
        self.l4 = at;
        Some(())
    }

    #[inline(always)]
    fn ports<P: PacketMut>(&mut self, packet: &P, family: Family) -> Option<()> {
        let key = &mut self.answer;
        (key.sport, key.dport) = Default::default();
        match (key.proto, family) {
            (PROTO_TCP | PROTO_UDP | PROTO_SCTP, _) => {
                let ports: Ports = packet.read(self.l4)?;
                (key.sport, key.dport) = (ports.dst, ports.src);
            }
            (PROTO_ICMP, Family::V4) | (PROTO_ICMPV6, Family::V6) => {
                let icmp: Icmp = packet.read(self.l4)?;
                match (icmp.kind, family) {
                    (ICMP_ECHO_REQUEST, Family::V4) | (ICMPV6_ECHO_REQUEST, Family::V6) => {
                        key.dport = icmp.id;
                    }
                    (ICMP_ECHO_REPLY, Family::V4) | (ICMPV6_ECHO_REPLY, Family::V6) => {
                        key.sport = icmp.id;
                    }
                    _ => return None,
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// `None`: the kernel refused, and the packet is spoilt.
#[inline(never)]
fn rewrite<P: PacketMut>(
    packet: &mut P,
    headers: &Headers,
    quoted: &Quoted,
    flow: &Flow,
    hops: u8,
) -> Option<()> {
    // The quoted packet as its sender knows it.
    let sent = nat::twin_key(&quoted.answer, flow);
    // From the other end, or from a router on the way, which keeps its address.
    let src = if headers.key.src == quoted.answer.src { sent.dst } else { headers.key.src };
    let dst = sent.src;

    let addresses =
        nat::address_diff(&reversed(&quoted.answer), &sent.src, &sent.dst, headers.family);
    let mut changed = addresses;
    if headers.family == Family::V4 {
        changed = quoted_ipv4(packet, quoted.l3, &sent)?;
    } else {
        put(packet, quoted.l3 + IPV6_SRC, &sent.src)?;
        put(packet, quoted.l3 + IPV6_SRC + size_of::<Address>(), &sent.dst)?;
        changed = csum::add(changed, nat::address_diff(&headers.key, &src, &dst, Family::V6));
    }
    let end = ETHERNET_LEN + usize::from(headers.ip_len);
    changed = csum::add(changed, quoted_transport(packet, quoted, &sent, addresses, end)?);

    let at = headers.l4 + ICMP_CHECKSUM;
    let checksum = csum::replace(packet.read(at)?, changed);
    put(packet, at, &checksum)?;
    let done = match headers.family {
        Family::V4 => nat::change_ipv4(packet, headers, &src, &dst, hops),
        Family::V6 => {
            nat::change_ipv6_addresses(packet, &src, &dst)
                && nat::change_hop_limit(packet, headers, hops)
        }
    };
    done.then_some(())
}

/// Addresses and checksum of a quoted IPv4 header; by what its sum changed.
#[inline(always)]
fn quoted_ipv4<P: PacketMut>(packet: &mut P, l3: usize, sent: &FlowKey) -> Option<u32> {
    let old: Ipv4Tail = packet.read(l3 + IPV4_TAIL)?;
    let ([.., src], [.., dst]) = (sent.src.words(), sent.dst.words());
    let checksum = csum::replace(old.checksum, csum::diff([old.src, old.dst], [src, dst]));
    put(packet, l3 + IPV4_TAIL, &Ipv4Tail { checksum, src, dst, ..old })?;
    let word = |half: u16| u32::from(half);
    Some(csum::diff([word(old.checksum), old.src, old.dst], [word(checksum), src, dst]))
}

/// Ports and, where it is quoted, the checksum; by what their sum changed.
/// `addresses`: by what that of the addresses did.
#[inline(always)]
fn quoted_transport<P: PacketMut>(
    packet: &mut P,
    quoted: &Quoted,
    sent: &FlowKey,
    addresses: u32,
    end: usize,
) -> Option<u32> {
    let l4 = quoted.l4;
    let (diff, covers_addresses, checksum_at) = match sent.proto {
        PROTO_TCP | PROTO_UDP => {
            let old: Ports = packet.read(l4)?;
            let new = Ports { src: sent.sport, dst: sent.dport };
            put(packet, l4, &new)?;
            let word = |it: Ports| u32::from(it.src.0) | u32::from(it.dst.0) << 16;
            let at = if sent.proto == PROTO_TCP { 16 } else { 6 };
            (csum::diff([word(old)], [word(new)]), true, l4 + at)
        }
        PROTO_ICMP | PROTO_ICMPV6 => {
            let id = Be16(sent.sport.0 | sent.dport.0);
            let old: Be16 = packet.read(l4 + ICMP_ID)?;
            put(packet, l4 + ICMP_ID, &id)?;
            let diff = csum::diff([u32::from(old.0)], [u32::from(id.0)]);
            (diff, sent.proto == PROTO_ICMPV6, l4 + ICMP_CHECKSUM)
        }
        _ => return Some(0),
    };
    if checksum_at + 2 > end {
        return Some(diff);
    }
    let Some(old) = packet.read::<u16>(checksum_at) else {
        return Some(diff);
    };
    if sent.proto == PROTO_UDP && old == 0 {
        return Some(diff);
    }
    let covered = if covers_addresses { csum::add(diff, addresses) } else { diff };
    let new = csum::replace(old, covered);
    put(packet, checksum_at, &new)?;
    Some(csum::add(diff, csum::diff([u32::from(old)], [u32::from(new)])))
}

/// The key with its two ends changed over.
#[inline(always)]
fn reversed(key: &FlowKey) -> FlowKey {
    FlowKey { src: key.dst, dst: key.src, sport: key.dport, dport: key.sport, ..*key }
}

#[inline(always)]
fn put<P: PacketMut, T: Wire>(packet: &mut P, at: usize, value: &T) -> Option<()> {
    packet.write(at, value).then_some(())
}
