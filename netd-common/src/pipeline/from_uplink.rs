//! TC ingress of an uplink: everything that comes from outside.

use super::{
    Scratch,
    asked::{self, Admission, Counted},
    begin_flow, claim, flow, fragments, of_a_flow, open, policy, uplink_xdp,
};
use crate::{
    abi::{
        Address, Family, Network, Uplink, Zone,
        wire::{Ethernet, PROTO_ICMP, PROTO_ICMPV6},
    },
    packet::{Headers, Kind, PacketMut, is_ip},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Replies to SNAT, answered flows of published ports, the host's own packets.
/// What is not netd's goes on untouched.
#[inline(always)]
pub fn from_uplink<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // A tagged frame is for the VLAN link above, which has its own program;
    // another's frame is seen by a link that listens to all.
    if packet.has_vlan() || packet.is_for_another() {
        return Verdict::PASS;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if !is_ip(ethernet.ethertype) || ethernet.dst.is_group() {
        return Verdict::PASS;
    }
    // The stack knows how to refuse what is malformed.
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Uplink) else {
        return Verdict::PASS;
    };
    if !headers.is_plain() {
        return Verdict::UNDECIDED;
    }
    let verdict = flow::established(packet, world, &headers);
    if verdict == Verdict::UNKNOWN && asked::is_for_host(world, &headers) {
        return Verdict::PASS;
    }
    verdict
}

/// First packets of published ports, errors, fragments; no direct way to a
/// container.
#[inline(always)]
pub fn from_uplink_slow<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if scratch.headers.read(packet, &ethernet, Zone::Uplink).is_err() {
        return Verdict::PASS;
    }
    let verdict = of_a_flow(packet, world, scratch)
        .or_else(|| first_contact(packet, world, scratch))
        .or_else(|| begin_flow(packet, world, scratch));
    flow::settle_replaced(world, scratch, verdict);
    verdict
}

/// What belongs to no flow. Undecided: its flow is drafted.
#[inline(never)]
fn first_contact<P: PacketMut, W: World>(
    packet: &P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let Scratch { headers, asked, .. } = scratch;
    if asked::asks(world, headers, asked) {
        if is_martian(world, &headers.key.src) {
            return Verdict::drop(DropReason::Martian);
        }
        let by_xdp = asked.is_rated()
            && uplink_xdp::sees(headers)
            && world.uplink(packet.ifindex()).is_some_and(|uplink| uplink.flags & Uplink::XDP != 0);
        let counted = if by_xdp { Counted::ByXdp } else { Counted::No };
        return match asked::admit(world, headers, asked, counted) {
            Ok(Admission::Opens) => open::inbound(world, scratch),
            Ok(Admission::IsTheStacks) => Verdict::PASS,
            Err(reason) => reason.into(),
        };
    }
    if world.is_host_address(&headers.key.dst) {
        claim::keep_for_host(world, headers);
    } else if let Some(network) = world.subnet(&headers.key.dst) {
        return direct(packet, world, scratch, network);
    }
    if headers.kind == Kind::Piece {
        fragments::give_up(world, headers);
    }
    Verdict::PASS
}

/// To a container's own address.
#[inline(always)]
fn direct<P: PacketMut, W: World>(
    packet: &P,
    world: &mut W,
    scratch: &mut Scratch,
    index: u32,
) -> Verdict {
    let Scratch { headers, network, .. } = scratch;
    if !policy(world, index, headers.family, network) {
        return Verdict::drop(DropReason::DirectAccess);
    }
    let is_echo = matches!(headers.key.proto, PROTO_ICMP | PROTO_ICMPV6);
    let welcome = network.flags & Network::UNPROTECTED != 0
        || network.flags & Network::ROUTED != 0 && is_echo
        || world.is_trusted(index, packet.ifindex());
    if !welcome || network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::DirectAccess);
    }
    if is_martian(world, &headers.key.src) {
        return Verdict::drop(DropReason::Martian);
    }
    open::straight(world, scratch)
}

/// Sources that can't be outside: the host's own, a container's, loopback,
/// "this network", multicast and reserved (RFC 6890), link-local.
#[inline(always)]
pub(super) fn is_martian<W: World>(world: &W, source: &Address) -> bool {
    is_nowhere(source) || world.is_host_address(source) || world.subnet(source).is_some()
}

#[inline(always)]
fn is_nowhere(source: &Address) -> bool {
    match source.family() {
        Family::V4 => matches!(source.v4_octets()[0], 0 | 127 | 224..),
        // Loopback and "no address" (::/16; NAT64's 64:ff9b::/96 is outside),
        // fe80::/10, ff00::/8.
        Family::V6 => {
            let [a, b, ..] = source.first_octets();
            a == 0 && b == 0 || a == 0xff || a == 0xfe && b & 0xc0 == 0x80
        }
    }
}
