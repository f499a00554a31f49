//! Translation: from a flow to the packet's new tuple, and from one direction
//! to its twin.

use crate::{
    abi::{
        Address, Be16, Config, Flow, FlowKey, Zone,
        wire::{ETHERNET_LEN, Icmp, PROTO_ICMP, PROTO_TCP, PROTO_UDP, Ports},
    },
    csum,
    packet::{Covered, Headers, Kind, PacketMut},
};

/// Source and destination after `flow` has translated a packet of `key`.
#[inline(always)]
pub const fn translated(key: &FlowKey, flow: &Flow) -> (Address, Address) {
    let src = if flow.has(Flow::REWRITE_SRC) { flow.addr } else { key.src };
    let dst = if flow.has(Flow::TO_SELF) {
        key.src
    } else if flow.has(Flow::REWRITE_DST) {
        flow.addr
    } else {
        key.dst
    };
    (src, dst)
}

/// The key of the other direction: what the answer to a translated packet
/// looks like as it arrives.
#[inline(always)]
pub const fn twin_key(key: &FlowKey, flow: &Flow) -> FlowKey {
    let (src, dst) = translated(key, flow);
    FlowKey {
        src: dst,
        dst: src,
        sport: flow.dport,
        dport: flow.sport,
        proto: key.proto,
        zone: if flow.has(Flow::LOCAL) { Zone::Container as u8 } else { Zone::Uplink as u8 },
        pad: 0,
    }
}

/// Whether `other` is [`twin_key`], without making that key.
#[inline(always)]
pub fn is_twin(key: &FlowKey, flow: &Flow, other: &FlowKey) -> bool {
    let (src, dst) = translated(key, flow);
    other.src == dst
        && other.dst == src
        && (other.sport, other.dport) == (flow.dport, flow.sport)
        && other.proto == key.proto
}

/// Rewrites addresses, ports and TTL of `packet` as `flow` says; `hops` is
/// taken off the TTL. `false`: the kernel refused, and the packet is spoilt.
#[inline(always)]
#[must_use]
pub fn translate<P: PacketMut>(packet: &mut P, headers: &Headers, flow: &Flow, hops: u8) -> bool {
    let key = &headers.key;
    let mut ip = headers.ip;
    if flow.flags & (Flow::REWRITE_SRC | Flow::REWRITE_DST) != 0 {
        let (src, dst) = translated(key, flow);
        let (src, dst) = (src.words()[3], dst.words()[3]);
        if !(change_address(packet, headers, ip.src, src)
            && change_address(packet, headers, ip.dst, dst)
            && change_ports(packet, headers, flow))
        {
            return false;
        }
        ip.checksum = csum::replace32(ip.checksum, ip.src, src);
        ip.checksum = csum::replace32(ip.checksum, ip.dst, dst);
        (ip.src, ip.dst) = (src, dst);
    }
    if hops != 0 {
        let word = |ttl| u16::from_ne_bytes([ttl, ip.proto]);
        ip.checksum = csum::replace16(ip.checksum, word(ip.ttl), word(ip.ttl - hops));
        ip.ttl -= hops;
    }
    packet.write(ETHERNET_LEN, &ip)
}

/// Offset of the checksum that covers addresses, within the layer-4 header.
const fn checksum_offset(proto: u8) -> Option<usize> {
    match proto {
        PROTO_TCP => Some(16),
        PROTO_UDP => Some(6),
        _ => None,
    }
}

#[inline(always)]
fn change_address<P: PacketMut>(packet: &mut P, headers: &Headers, from: u32, to: u32) -> bool {
    let proto = headers.key.proto;
    match checksum_offset(proto) {
        Some(offset) if from != to => {
            let diff = csum::diff([from], [to]);
            packet.update_checksum(headers.l4 + offset, proto, Covered::PseudoHeader4, diff)
        }
        _ => true,
    }
}

#[inline(always)]
fn change_ports<P: PacketMut>(packet: &mut P, headers: &Headers, flow: &Flow) -> bool {
    let key = &headers.key;
    if headers.kind != Kind::Flow || (key.sport == flow.sport && key.dport == flow.dport) {
        return true;
    }
    if key.proto == PROTO_ICMP {
        return change_echo(packet, headers, flow);
    }
    let word = |src: Be16, dst: Be16| u32::from(src.0) | u32::from(dst.0) << 16;
    let offset = headers.l4 + if key.proto == PROTO_TCP { 16 } else { 6 };
    let (from, to) = (word(key.sport, key.dport), word(flow.sport, flow.dport));
    packet.update_checksum(offset, key.proto, Covered::Segment, csum::diff([from], [to]))
        && packet.write(headers.l4, &Ports { src: flow.sport, dst: flow.dport })
}

/// The identifier stands where its asker's port would: one of the two is 0.
#[inline(always)]
fn change_echo<P: PacketMut>(packet: &mut P, headers: &Headers, flow: &Flow) -> bool {
    let key = &headers.key;
    let (from, to) = (key.sport.0 | key.dport.0, flow.sport.0 | flow.dport.0);
    let Some(mut icmp) = packet.read::<Icmp>(headers.l4) else {
        return false;
    };
    // ICMP's checksum covers no pseudo header and is never left unfinished.
    icmp.id = Be16(to);
    icmp.checksum = csum::replace16(icmp.checksum, from, to);
    packet.write(headers.l4, &icmp)
}

/// The `n`th port to try for a flow whose hash is `hash`; host byte order.
/// 0: there is no port to take.
#[inline(always)]
pub fn snat_port(config: &Config, hash: u32, n: u32) -> u16 {
    let (low, high) = (config.snat_low, config.snat_high);
    let low_len = (u32::from(low.last) + 1).saturating_sub(u32::from(low.first));
    let high_len = (u32::from(high.last) + 1).saturating_sub(u32::from(high.first));
    let total = low_len + high_len;
    if total == 0 {
        return 0;
    }
    // Multiply and shift spreads the hash without a division; the golden
    // ratio's step visits far ports before near ones.
    let start = hash.wrapping_add(n.wrapping_mul(0x9e37_79b1));
    #[allow(clippy::cast_possible_truncation)] // below `total`, which is below 2^17
    let index = ((u64::from(start) * u64::from(total)) >> 32) as u32;
    let port = if index < low_len {
        u32::from(low.first) + index
    } else {
        u32::from(high.first) + (index - low_len)
    };
    #[allow(clippy::cast_possible_truncation)] // at most `high.last`
    {
        port as u16
    }
}
