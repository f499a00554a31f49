//! TC egress of an uplink: the safety net under everything else.

use super::{flow, open};
use crate::{
    abi::{
        Flow, Network, Zone,
        wire::{ETHERTYPE_IPV4, Ethernet},
    },
    nat,
    packet::{Headers, Kind, Packet},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// What the stack forwarded for a container is translated here or dropped: no
/// container's address ever leaves a network that masquerades.
#[inline(always)]
pub fn to_uplink<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
) -> Verdict {
    if packet.take_translated() {
        return Verdict::Pass;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return Verdict::Pass };
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Verdict::Pass;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Container) else {
        return Verdict::Pass;
    };
    match world.subnet(&headers.key.src) {
        None => Verdict::Pass,
        Some(index) => forwarded_by_the_stack(packet, world, &headers, index),
    }
}

#[inline(never)]
fn forwarded_by_the_stack<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
    index: u32,
) -> Verdict {
    let Some(network) = world.network(index) else {
        return Verdict::Drop(DropReason::NotConfigured);
    };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::Drop(DropReason::Internal);
    }
    if let Some(verdict) = known(packet, world, headers) {
        return verdict;
    }
    if network.flags & Network::MASQUERADE == 0 {
        return Verdict::Pass;
    }
    let Some(endpoint) = world.endpoint(&headers.key.src).map(|endpoint| *endpoint) else {
        return Verdict::Drop(DropReason::SpoofedAddress);
    };
    match open::outbound(world, headers, &endpoint, &network) {
        Ok(()) => known(packet, world, headers).unwrap_or(Verdict::Drop(DropReason::NoFlow)),
        // The stack's own route brought it here: there is no other.
        Err(Verdict::Pass) => Verdict::Drop(DropReason::NoUplink),
        Err(verdict) => verdict,
    }
}

/// Translates a packet of a known flow; the stack has counted the hop.
#[inline(never)]
fn known<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Option<Verdict> {
    if headers.kind != Kind::Flow {
        return None;
    }
    let now = world.now();
    if let Some(flow) = world.flow(&headers.key) {
        return Some(translate(packet, headers, flow, now));
    }
    world.embryo(&headers.key).map(|flow| translate(packet, headers, flow, now))
}

#[inline(always)]
fn translate<P: Packet>(packet: &mut P, headers: &Headers, flow: &mut Flow, now: u32) -> Verdict {
    flow::account(flow, packet, now);
    if flow.has(Flow::LOCAL) {
        return Verdict::Drop(DropReason::NoUplink);
    }
    if nat::translate(packet, headers, flow, 0) {
        Verdict::Translated
    } else {
        Verdict::Drop(DropReason::EditFailed)
    }
}
