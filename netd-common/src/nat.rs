//! Translation: from a flow to the packet's new tuple, and from one direction
//! to its twin.

use crate::{
    abi::{
        Address, Be16, Family, Flow, FlowKey, PortRange, Zone,
        wire::{
            ETHERNET_LEN, IPV4_TAIL, IPV6_DST, IPV6_HOP_LIMIT, IPV6_SRC, Icmp, Ipv4Tail,
            PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, Ports as WirePorts,
        },
    },
    csum,
    packet::{Covered, Headers, PacketMut, Part},
    tuple::mix,
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
    let rewrites = flow.flags & (Flow::REWRITE_SRC | Flow::REWRITE_DST) != 0;
    let (src, dst) = translated(&headers.key, flow);
    if rewrites && headers.part != Part::Later {
        let ports = (flow.sport, flow.dport);
        if !change_transport(packet, headers, &src, &dst, ports) {
            return false;
        }
    }
    match headers.family {
        Family::V4 => change_ipv4(packet, headers, &src, &dst, hops),
        Family::V6 => {
            (!rewrites || change_ipv6_addresses(packet, &src, &dst))
                && (hops == 0 || change_hop_limit(packet, headers, hops))
        }
    }
}

/// Addresses, TTL and checksum of an IPv4 header.
#[inline(always)]
#[must_use]
pub fn change_ipv4<P: PacketMut>(
    packet: &mut P,
    headers: &Headers,
    src: &Address,
    dst: &Address,
    hops: u8,
) -> bool {
    let [.., old_src] = headers.key.src.words();
    let [.., old_dst] = headers.key.dst.words();
    let ([.., src], [.., dst]) = (src.words(), dst.words());
    let ttl = headers.ttl - hops;
    let word = |ttl| u16::from_ne_bytes([ttl, 0]);
    let mut checksum = csum::replace16(headers.checksum, word(headers.ttl), word(ttl));
    checksum = csum::replace32(checksum, old_src, src);
    checksum = csum::replace32(checksum, old_dst, dst);
    let tail = Ipv4Tail { ttl, proto: headers.key.proto, checksum, src, dst };
    packet.write(ETHERNET_LEN + IPV4_TAIL, &tail)
}

#[inline(always)]
#[must_use]
pub fn change_ipv6_addresses<P: PacketMut>(packet: &mut P, src: &Address, dst: &Address) -> bool {
    packet.write(ETHERNET_LEN + IPV6_SRC, src) && packet.write(ETHERNET_LEN + IPV6_DST, dst)
}

/// No checksum in the packet covers the hop limit; one over the whole frame,
/// which a device may have made, does.
#[inline(always)]
#[must_use]
pub fn change_hop_limit<P: PacketMut>(packet: &mut P, headers: &Headers, hops: u8) -> bool {
    let word = |limit| u32::from_ne_bytes([0, 0, 0, limit]);
    let limit = headers.ttl - hops;
    packet.changed_uncovered(csum::diff([word(headers.ttl)], [word(limit)]));
    packet.write(ETHERNET_LEN + IPV6_HOP_LIMIT, &limit)
}

/// What the addresses of a pseudo header add to its sum when they change.
#[inline(always)]
pub const fn address_diff(key: &FlowKey, src: &Address, dst: &Address, family: Family) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (key.src.words(), key.dst.words());
    let ([i, j, k, l], [m, n, o, p]) = (src.words(), dst.words());
    match family {
        Family::V4 => csum::diff([d, h], [l, p]),
        Family::V6 => csum::diff([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]),
    }
}

/// Ports, identifier and checksum of the layer-4 header.
#[inline(always)]
fn change_transport<P: PacketMut>(
    packet: &mut P,
    headers: &Headers,
    src: &Address,
    dst: &Address,
    ports: (Be16, Be16),
) -> bool {
    let key = &headers.key;
    let offset = match key.proto {
        PROTO_TCP => 16,
        PROTO_UDP => 6,
        PROTO_ICMP | PROTO_ICMPV6 => return change_echo(packet, headers, src, dst, ports),
        // SCTP's CRC covers neither addresses nor a pseudo header, and its
        // ports never change; the others have none.
        _ => return true,
    };
    let covered = match headers.family {
        Family::V4 => Covered::PseudoHeader4,
        Family::V6 => Covered::PseudoHeader6,
    };
    let diff = address_diff(key, src, dst, headers.family);
    if !packet.update_checksum(headers.l4 + offset, key.proto, covered, diff) {
        return false;
    }
    if (key.sport, key.dport) == ports {
        return true;
    }
    let word = |src: Be16, dst: Be16| u32::from(src.0) | u32::from(dst.0) << 16;
    let diff = csum::diff([word(key.sport, key.dport)], [word(ports.0, ports.1)]);
    packet.update_checksum(headers.l4 + offset, key.proto, Covered::Segment, diff)
        && packet.write(headers.l4, &WirePorts { src: ports.0, dst: ports.1 })
}

/// The identifier stands where its asker's port would: one of the two is 0.
#[inline(always)]
fn change_echo<P: PacketMut>(
    packet: &mut P,
    headers: &Headers,
    src: &Address,
    dst: &Address,
    ports: (Be16, Be16),
) -> bool {
    let key = &headers.key;
    let (from, to) = (key.sport.0 | key.dport.0, ports.0.0 | ports.1.0);
    let Some(mut icmp) = packet.read::<Icmp>(headers.l4) else {
        return false;
    };
    // Its checksum is never left unfinished, and only ICMPv6's covers addresses.
    icmp.id = Be16(to);
    icmp.checksum = csum::replace16(icmp.checksum, from, to);
    if headers.family == Family::V6 {
        icmp.checksum = csum::replace(icmp.checksum, address_diff(key, src, dst, Family::V6));
    }
    packet.write(headers.l4, &icmp)
}

/// Whether a flow of this protocol can take another port.
#[inline(always)]
pub const fn has_free_ports(proto: u8) -> bool {
    matches!(proto, PROTO_TCP | PROTO_UDP | PROTO_ICMP | PROTO_ICMPV6)
}

/// The ports that SNAT may use, as in [`crate::abi::Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub low: PortRange,
    pub high: PortRange,
}

impl Ports {
    /// The `n`th port to try for a flow from port `sport` whose other parts'
    /// hash is `hash`; all in host byte order. 0: there is no port to take.
    ///
    /// The first is the client's own port, moved into the range by a distance
    /// that only its peer shares (RFC 6056, algorithm 3). The client's kernel
    /// reuses a port when it may, and so does whoever sees the moved one: what
    /// is in `TIME_WAIT` there is not met by the SYN of another connection.
    #[inline(always)]
    pub fn nth(&self, hash: u32, sport: u16, n: u32) -> u16 {
        let (low, high) = (self.low, self.high);
        let low_len = (u32::from(low.last) + 1).saturating_sub(u32::from(low.first));
        let high_len = (u32::from(high.last) + 1).saturating_sub(u32::from(high.first));
        let total = low_len + high_len;
        if total == 0 {
            return 0;
        }
        let sport = u32::from(sport);
        let index = if n == 0 {
            (spread(hash, total) + sport) % total
        } else {
            // Each try is a draw of its own: steps of any fixed length leave
            // the same ports for the end, and miss them all.
            spread(mix(mix(hash, sport), n.wrapping_mul(0x9e37_79b1)), total)
        };
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
}

/// A number below `total` that is as even as `hash` is; multiply and shift
/// need no division.
#[inline(always)]
const fn spread(hash: u32, total: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // below `total`
    {
        ((hash as u64 * total as u64) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Ports;
    use crate::{abi::PortRange, tuple::mix};

    const PORTS: Ports = Ports {
        low: PortRange { first: 1024, last: 1523 },
        high: PortRange { first: 1524, last: 2023 },
    };

    /// Which of the 1,000 ports are taken.
    struct Taken([bool; 1000]);

    impl Taken {
        /// Whether it was free.
        fn take(&mut self, port: u16) -> bool {
            !core::mem::replace(&mut self.0[usize::from(port) - 1024], true)
        }
    }

    /// How many of 1,000 ports are taken when the first of many flows finds
    /// none in 256 tries.
    fn filled(seed: u32) -> usize {
        let mut taken = Taken([false; 1000]);
        let mut claim = |client: u32, sport: u16| {
            (0..256).any(|n| taken.take(PORTS.nth(mix(seed, client), sport, n)))
        };
        let flows = (0..100).flat_map(|sport| (0..10).map(move |client| (client, sport)));
        flows.take_while(|(client, sport)| claim(*client, *sport)).count()
    }

    #[test]
    fn nearly_all_ports_are_found_before_the_first_failure() {
        for seed in 0..200 {
            let filled = filled(seed);
            assert!(filled >= 950, "{filled} of 1000 with seed {seed}");
        }
    }

    #[test]
    fn a_clients_ports_stay_apart_and_come_again() {
        let mut taken = Taken([false; 1000]);
        let first = |sport| PORTS.nth(mix(7, 1), sport, 0);
        assert!((40_000..41_000).all(|sport| taken.take(first(sport))));
        let other = |sport| PORTS.nth(mix(7, 2), sport, 0);
        assert!((40_000..41_000).all(|sport| first(sport) != other(sport)), "another peer's");
    }
}
