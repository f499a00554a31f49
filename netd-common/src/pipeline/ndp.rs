//! What a container says in IPv6's neighbour discovery (RFC 4861): it may
//! speak for itself, and is no router.

use crate::{
    abi::{
        Address, Mac,
        wire::{
            ETHERNET_LEN, NDP_NEIGHBOUR_ADVERTISEMENT, NDP_NEIGHBOUR_SOLICITATION,
            NDP_ROUTER_SOLICITATION, NdpOption,
        },
    },
    packet::{Headers, PacketMut},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Offset of the target's address, and of the options, in a message.
const TARGET: usize = 8;
const OPTIONS: usize = 24;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
/// What no router lets through (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
/// Options that are looked at: nobody sends more.
const MOST_OPTIONS: usize = 4;

/// To the bridge, or dropped.
#[inline(never)]
pub(super) fn from_container<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Verdict {
    let spoofed = Verdict::drop(DropReason::SpoofedNdp);
    if headers.ttl != HOP_LIMIT {
        return spoofed;
    }
    let unspecified = headers.key.src == Address::ANY;
    let speaks = |world: &mut W, packet: &P, address: &Address| {
        world.endpoint(address).is_some_and(|endpoint| {
            endpoint.ifindex == packet.ifindex() && endpoint.mac == headers.source_mac
        })
    };
    if !unspecified && !speaks(world, packet, &headers.key.src) {
        return spoofed;
    }
    match headers.icmp_kind {
        NDP_ROUTER_SOLICITATION => return Verdict::PASS,
        NDP_NEIGHBOUR_SOLICITATION | NDP_NEIGHBOUR_ADVERTISEMENT => {}
        _ => return Verdict::drop(DropReason::RogueRouter),
    }
    if !packet.ensure(headers.l4 + OPTIONS) {
        return Verdict::drop(DropReason::Malformed);
    }
    let Some(target) = packet.read::<Address>(headers.l4 + TARGET) else {
        return Verdict::drop(DropReason::Malformed);
    };
    let honest = match (headers.icmp_kind, unspecified) {
        (NDP_NEIGHBOUR_SOLICITATION, false) => true,
        // Without a source: whether an address of its own is another's too.
        (NDP_NEIGHBOUR_SOLICITATION, true) | (_, false) => speaks(world, packet, &target),
        (_, true) => false,
    };
    if honest && names_only(packet, headers, headers.source_mac) { Verdict::PASS } else { spoofed }
}

/// Whether every MAC in the message's options is `own`.
#[inline(always)]
fn names_only<P: PacketMut>(packet: &mut P, headers: &Headers, own: Mac) -> bool {
    let end = ETHERNET_LEN + usize::from(headers.ip_len);
    if !packet.ensure(end) {
        return false;
    }
    let mut at = headers.l4 + OPTIONS;
    let mut n = 0;
    while n < MOST_OPTIONS {
        n += 1;
        if at >= end {
            return true;
        }
        let Some(option) = packet.read::<NdpOption>(at) else { return false };
        let is_mac = matches!(option.kind, SOURCE_MAC | TARGET_MAC);
        if option.len == 0 || is_mac && (option.mac != own || option.len != 1) {
            return false;
        }
        at += usize::from(option.len) * 8;
    }
    at >= end
}
