//! XDP of an uplink: refuses, before the kernel has made anything of it, what
//! the programs behind would refuse as well.
//!
//! Only packets that open something are looked at: all others pass once their
//! headers are read, without a look-up. So do VLAN tags, fragments, extension
//! headers and frames for other MACs: the programs behind decide. A port's
//! allow-list and its SYN rate mean the same in both places.

use super::{from_uplink::is_martian, published};
use crate::{
    abi::{
        Address, Config, Family, Zone,
        wire::{
            ETHERNET_LEN, Ethernet, IPV6_LEN, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP,
            TCP_ACK, TCP_SYN,
        },
    },
    packet::{Headers, Packet, is_ip},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Drops or passes; it never edits.
#[inline(always)]
pub fn uplink_xdp<P: Packet, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if !is_ip(ethernet.ethertype) || ethernet.dst.is_group() {
        return Verdict::PASS;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Uplink) else {
        return Verdict::PASS;
    };
    if !opens(world, &headers) {
        return Verdict::PASS;
    }
    let own = world.uplink(packet.ifindex()).is_some_and(|uplink| uplink.mac == ethernet.dst);
    if !own {
        return Verdict::PASS;
    }
    match examine(world, &headers) {
        Ok(()) => Verdict::PASS,
        Err(reason) => reason.into(),
    }
}

/// Whether it looks at a packet at all. What it leaves to the programs behind
/// they have to count themselves, or a SYN would go uncounted for an extension
/// header or for being cut in two.
#[inline(always)]
pub(super) fn sees(headers: &Headers) -> bool {
    let is_direct = headers.family == Family::V4 || headers.l4 == ETHERNET_LEN + IPV6_LEN;
    headers.is_plain() && is_direct
}

/// Whether a packet opens something, so that it is worth a look.
#[inline(always)]
fn opens<W: World>(world: &W, headers: &Headers) -> bool {
    if !sees(headers) {
        return false;
    }
    match headers.key.proto {
        PROTO_TCP => headers.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
        PROTO_ICMP | PROTO_ICMPV6 => headers.may_open(),
        // Any datagram may.
        PROTO_UDP => world.config().is_some_and(|it| it.features & Config::UDP_LISTED != 0),
        _ => false,
    }
}

#[inline(always)]
fn examine<W: World>(world: &mut W, headers: &Headers) -> Result<(), DropReason> {
    let key = &headers.key;
    let asked = if key.is_tcp_or_udp() {
        published::find(world, key.proto, &key.dst, key.dport)
    } else {
        None
    };
    let Some((port, target)) = asked else {
        let spoofed = key.proto != PROTO_UDP && is_spoofed(world, &key.src);
        return if spoofed { Err(DropReason::Martian) } else { Ok(()) };
    };
    if is_martian(world, &key.src) {
        return Err(DropReason::Martian);
    }
    if !published::admits(world, &target, &key.src) {
        // A container that has a port at its own address may itself have asked
        // from there.
        let answers = target.addr == key.dst && world.any_flow(key).is_some();
        return if answers { Ok(()) } else { Err(DropReason::NotAllowed) };
    }
    if key.proto == PROTO_TCP {
        let now = world.now();
        published::count_syn(world, &port, &target, now)?;
    }
    Ok(())
}

/// Sources that nobody outside has, whomever they ask for. Not all that is
/// martian to a published port: a neighbour may well ask the host itself from a
/// link-local address.
#[inline(always)]
fn is_spoofed<W: World>(world: &W, source: &Address) -> bool {
    let nowhere = match source.family() {
        Family::V4 => matches!(source.v4_octets()[0], 0 | 127 | 224..=239),
        Family::V6 => {
            let [a, b, ..] = source.first_octets();
            a == 0 && b == 0 || a == 0xff
        }
    };
    nowhere || world.is_host_address(source) || world.subnet(source).is_some()
}
