//! TC egress of a container's host-side veth: what the host's own stack, or
//! the bridge, sends to it.

use crate::{
    abi::{Network, Zone, wire::Ethernet},
    packet::{Headers, Kind, PacketMut, is_ip},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Lets in the host itself and the container's own network, and those who may
/// reach it directly; nothing else.
#[inline(always)]
pub fn to_container<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // What comes past the bridge was let in there.
    if packet.take_translated() {
        return Verdict::PASS;
    }
    let verdict = admit(packet, world);
    if verdict.is_drop() { verdict } else { Verdict::PASS }
}

/// Whether a packet may go to a container; with the container's link where it is
/// sent to that one alone.
#[inline(always)]
pub(super) fn admit<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if !is_ip(ethernet.ethertype) {
        return Verdict::PASS;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Container) else {
        return Verdict::drop(DropReason::Malformed);
    };
    let key = &headers.key;
    // Broadcast and multicast never leave their bridge, nor does neighbour
    // discovery.
    let Some(receiver) = world.endpoint(&key.dst) else {
        return Verdict::PASS;
    };
    let index = receiver.network;
    let short_cut = if receiver.mac == ethernet.dst { receiver.ifindex } else { 0 };
    if headers.kind == Kind::Ndp {
        return Verdict::PASS;
    }
    let policy = world.network(index, headers.family).map_or(0, |network| network.flags);
    if world.is_host_address(&key.src) {
        return match policy & Network::ISOLATED {
            0 => Verdict::past_bridge(short_cut),
            _ => Verdict::drop(DropReason::HostIsolated),
        };
    }
    let unprotected = policy & Network::UNPROTECTED != 0;
    match world.subnet(&key.src) {
        Some(from) if from == index || unprotected => Verdict::past_bridge(short_cut),
        Some(_) => Verdict::drop(DropReason::Isolated),
        None if unprotected
            || is_welcome(packet, world, index, policy)
            || is_answer(world, &headers) =>
        {
            Verdict::past_bridge(short_cut)
        }
        None => Verdict::drop(DropReason::DirectAccess),
    }
}

/// Whether a guest of the same host answers.
#[inline(always)]
fn is_answer<W: World>(world: &mut W, headers: &Headers) -> bool {
    let mut key = headers.key;
    key.zone = Zone::Uplink as u8;
    headers.kind == Kind::Flow && world.any_flow(&key).is_some_and(|flow| flow.is_by_stack())
}

/// Whether a stranger may come in by the link that the packet came by: one
/// that is trusted, and where the gateway is another machine its own.
#[inline(always)]
fn is_welcome<P: PacketMut, W: World>(packet: &P, world: &W, network: u32, policy: u32) -> bool {
    let link = packet.ingress_ifindex();
    if policy & Network::INHIBITED != 0 && world.uplink(link).is_none() {
        return true;
    }
    world.is_trusted(network, link)
}
