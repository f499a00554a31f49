//! TC ingress of an uplink: everything that comes from outside.

use super::{Scratch, flow, open};
use crate::{
    abi::{
        Address, Zone,
        wire::{ETHERTYPE_IPV4, Ethernet},
    },
    packet::{Headers, Kind, PacketMut},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Replies to SNAT, answered flows of published ports. What is not netd's
/// goes on untouched.
#[inline(always)]
pub fn from_uplink<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // A tagged frame is for the VLAN link above, which has its own program.
    if packet.has_vlan() {
        return Verdict::PASS;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::PASS;
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 || ethernet.dst.is_group() {
        return Verdict::PASS;
    }
    // The stack knows how to refuse what is malformed.
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Uplink) else {
        return Verdict::PASS;
    };
    if headers.kind != Kind::Flow {
        return Verdict::UNDECIDED;
    }
    flow::established(packet, world, &headers)
}

/// First packets of published ports; no direct way to a container.
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
    let verdict = flow::known(packet, world, scratch);
    if verdict.is_decided() {
        return verdict;
    }
    let verdict = first_contact(world, scratch);
    verdict.or_else(|| open::claim(world, scratch)).or_else(|| flow::finish(packet, world, scratch))
}

/// What belongs to no flow. Undecided: its flow is drafted.
#[inline(always)]
fn first_contact<W: World>(world: &mut W, scratch: &mut Scratch) -> Verdict {
    let headers = &scratch.headers;
    if let Some(target) = open::published_port(world, headers) {
        if is_martian(world, &headers.key.src) {
            return Verdict::drop(DropReason::Martian);
        }
        if !open::opens(headers) {
            return Verdict::PASS;
        }
        return open::inbound(world, scratch, &target);
    }
    if !world.is_host_address(&headers.key.dst) && world.subnet(&headers.key.dst).is_some() {
        return Verdict::drop(DropReason::DirectAccess);
    }
    Verdict::PASS
}

/// Sources that can't be outside: the host's own, a container's, loopback,
/// "this network", multicast and reserved (RFC 6890).
#[inline(always)]
fn is_martian<W: World>(world: &W, source: &Address) -> bool {
    matches!(source.v4_octets()[0], 0 | 127 | 224..)
        || world.is_host_address(source)
        || world.subnet(source).is_some()
}
