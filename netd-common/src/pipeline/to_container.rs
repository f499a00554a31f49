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
    let Some(index) = world.endpoint(&key.dst).map(|endpoint| endpoint.network) else {
        return Verdict::PASS;
    };
    if headers.kind == Kind::Ndp || world.is_host_address(&key.src) {
        return Verdict::PASS;
    }
    let from = world.subnet(&key.src);
    if from == Some(index) {
        return Verdict::PASS;
    }
    let open = world
        .network(index, headers.family)
        .is_some_and(|network| network.flags & Network::UNPROTECTED != 0);
    if open || from.is_none() && world.is_trusted(index, packet.ingress_ifindex()) {
        return Verdict::PASS;
    }
    Verdict::drop(if from.is_some() { DropReason::Isolated } else { DropReason::DirectAccess })
}
