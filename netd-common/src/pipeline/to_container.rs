//! TC egress of a container's host-side veth: what the host's own stack, or
//! the bridge, sends to it.

use crate::{
    abi::{
        Zone,
        wire::{ETHERTYPE_IPV4, Ethernet},
    },
    packet::{Headers, PacketMut},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Lets in the host itself and the container's own network, nothing else.
#[inline(always)]
pub fn to_container<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Verdict::PASS;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Container) else {
        return Verdict::drop(DropReason::Malformed);
    };
    let key = &headers.key;
    // Broadcast and multicast never leave their bridge.
    let Some(network) = world.endpoint(&key.dst).map(|endpoint| endpoint.network) else {
        return Verdict::PASS;
    };
    if world.is_host_address(&key.src) {
        return Verdict::PASS;
    }
    match world.subnet(&key.src) {
        Some(index) if index == network => Verdict::PASS,
        Some(_) => Verdict::drop(DropReason::Isolated),
        None => Verdict::drop(DropReason::DirectAccess),
    }
}
