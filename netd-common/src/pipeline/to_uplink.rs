//! TC egress of an uplink: the safety net under everything else.

use super::{Scratch, flow, open};
use crate::{
    abi::{
        Address, Family, Flow, Network, Zone,
        wire::{ETHERNET_LEN, ETHERTYPE_IPV4, Ethernet, Ipv4},
    },
    nat,
    packet::{Headers, Kind, PacketMut},
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
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Verdict::PASS;
    }
    let Some(ip) = packet.read::<Ipv4>(ETHERNET_LEN) else {
        return Verdict::PASS;
    };
    match world.subnet(&Address::v4_word(ip.src)) {
        None => Verdict::PASS,
        Some(_) => Verdict::UNDECIDED,
    }
}

/// What the stack forwarded for a container is translated here or dropped: no
/// container's address ever leaves a network that masquerades.
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
    let Some(network) = world.network(index, Family::V4) else {
        return Verdict::drop(DropReason::NotConfigured);
    };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    let verdict = known(packet, world, &scratch.headers);
    if verdict.is_decided() {
        return verdict;
    }
    if network.flags & Network::MASQUERADE == 0 {
        return Verdict::PASS;
    }
    let verdict = open::outbound(world, scratch, &network);
    // The stack's own route brought it here: there is no other.
    if verdict == Verdict::PASS {
        return Verdict::drop(DropReason::NoUplink);
    }
    verdict
        .or_else(|| open::claim(world, scratch))
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
