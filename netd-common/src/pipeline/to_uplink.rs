//! TC egress of an uplink: the safety net under everything else.

use super::{
    Scratch, claim, flow, fragments,
    open::{self, Carrier},
    policy,
};
use crate::{
    abi::{
        Address, Flow, Network, Uplink, Zone,
        wire::{ETHERNET_LEN, ETHERTYPE_IPV4, Ethernet, IPV6_SRC, Ipv4},
    },
    nat,
    packet::{Headers, Kind, PacketMut, Part, is_ip},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// What netd sent and what the host sent goes on.
#[inline(always)]
pub fn to_uplink<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    if packet.take_translated() {
        return Verdict::PASS;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if !is_ip(ethernet.ethertype) {
        return Verdict::PASS;
    }
    let source = if ethernet.ethertype == ETHERTYPE_IPV4 {
        packet.read::<Ipv4>(ETHERNET_LEN).map(|ip| Address::v4_word(ip.src))
    } else {
        packet.read::<Address>(ETHERNET_LEN + IPV6_SRC)
    };
    match source.and_then(|source| world.subnet(&source)) {
        None => Verdict::PASS,
        Some(_) => Verdict::UNDECIDED,
    }
}

/// What the stack forwarded for a container is translated here or dropped: no
/// container's address ever leaves a network that masquerades, but for guests
/// of the same host ([`Uplink::GUESTS`]).
#[inline(always)]
pub fn to_uplink_slow<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let malformed = Verdict::drop(DropReason::Malformed);
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return malformed;
    };
    if let Err(reason) = scratch.headers.read(packet, &ethernet, Zone::Container) {
        return reason.into();
    }
    let Some(index) = world.subnet(&scratch.headers.key.src) else {
        return Verdict::PASS;
    };
    if !policy(world, index, scratch.headers.family, &mut scratch.network) {
        return Verdict::drop(DropReason::NotConfigured);
    }
    if scratch.network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    // A container of another network, for which the host has no route.
    if world.subnet(&scratch.headers.key.dst).is_some() {
        return Verdict::drop(DropReason::Isolated);
    }
    if scratch.headers.part != Part::Whole {
        fragments::follow(world, &mut scratch.headers, fragments::Stage::Leaving);
    }
    let verdict = known(packet, world, &scratch.headers);
    if verdict.is_decided() {
        return verdict;
    }
    let uplink = world.uplink(packet.ifindex());
    let guests = uplink.is_some_and(|uplink| uplink.flags & Uplink::GUESTS != 0);
    if !guests && scratch.network.flags & Network::MASQUERADE == 0 {
        return Verdict::PASS;
    }
    let verdict = open::outbound(world, scratch, index, Carrier::Stack);
    // The stack's own route brought it here: there is no other.
    if verdict == Verdict::PASS {
        return Verdict::drop(DropReason::NoUplink);
    }
    verdict
        .or_else(|| claim::claim(world, scratch))
        .or_else(|| known(packet, world, &scratch.headers))
        .or_else(|| Verdict::drop(DropReason::NoFlow))
}

/// Translates a packet of a known flow; the stack has counted the hop.
/// Undecided: there is none.
#[inline(never)]
fn known<P: PacketMut, W: World>(packet: &mut P, world: &mut W, headers: &Headers) -> Verdict {
    if headers.kind != Kind::Flow {
        return Verdict::UNDECIDED;
    }
    let now = world.now();
    let Some(flow) = world.any_flow(&headers.key) else {
        return Verdict::UNDECIDED;
    };
    flow::account(flow, packet, now);
    if flow.has(Flow::LOCAL) {
        Verdict::drop(DropReason::NoUplink)
    } else if nat::translate(packet, headers, flow, 0) {
        Verdict::TRANSLATED
    } else {
        Verdict::drop(DropReason::EditFailed)
    }
}
