//! TC ingress of an uplink: everything that comes from outside.

use super::{flow, open};
use crate::{
    abi::{
        Address, Zone,
        wire::{ETHERTYPE_IPV4, Ethernet},
    },
    packet::{Headers, Kind, Packet},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Replies to SNAT, DNAT of published ports, no direct way to a container.
/// What is not netd's goes on untouched.
#[inline(always)]
pub fn from_uplink<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
) -> Verdict {
    // A tagged frame is for the VLAN link above, which has its own program.
    if packet.has_vlan() {
        return Verdict::Pass;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return Verdict::Pass };
    if ethernet.ethertype != ETHERTYPE_IPV4 || ethernet.dst.is_group() {
        return Verdict::Pass;
    }
    // The stack knows how to refuse what is malformed.
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Uplink) else {
        return Verdict::Pass;
    };
    if headers.kind == Kind::Flow
        && let Some(verdict) = flow::established(packet, world, &headers)
    {
        return verdict;
    }
    first_contact(packet, world, &headers)
}

#[inline(never)]
fn first_contact<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Verdict {
    if headers.kind == Kind::Flow
        && let Some(verdict) = flow::embryonic(packet, world, headers)
    {
        return verdict;
    }
    if let Some(target) = open::published(world, headers) {
        if is_martian(world, &headers.key.src) {
            return Verdict::Drop(DropReason::Martian);
        }
        if !open::opens(headers) {
            return Verdict::Pass;
        }
        return match open::inbound(world, headers, &target) {
            Ok(()) => flow::opened(packet, world, headers),
            Err(reason) => Verdict::Drop(reason),
        };
    }
    if !world.is_host_address(&headers.key.dst) && world.subnet(&headers.key.dst).is_some() {
        return Verdict::Drop(DropReason::DirectAccess);
    }
    Verdict::Pass
}

/// Sources that can't be outside: the host's own, a container's, loopback,
/// "this network", multicast and reserved (RFC 6890).
#[inline(always)]
fn is_martian<W: World>(world: &W, source: &Address) -> bool {
    matches!(source.v4_octets()[0], 0 | 127 | 224..)
        || world.is_host_address(source)
        || world.subnet(source).is_some()
}
