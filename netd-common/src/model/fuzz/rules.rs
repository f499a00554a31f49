//! What holds for every packet, wherever it comes from.

use core::net::IpAddr;

use super::super::{Datagram, Frame, World, checksums};
use crate::{
    abi::{
        Address, Mac, Network, TrustedKey,
        wire::{self, PROTO_TCP, TCP_SYN},
    },
    model::{Layer4, scene},
    nat,
    tables::Tables,
    verdict::{DropReason, Hook, Verdict},
};

/// Asserts all of it. `before` became `after`, and `verdict` was said of it.
pub(super) fn hold(world: &World, hook: Hook, before: &Frame, after: &Frame, verdict: Verdict) {
    let changed = before.bytes != after.bytes;
    let moves = verdict.is_deliver() || verdict.is_forward() || verdict == Verdict::TRANSLATED;
    let spoilt = verdict == Verdict::drop(DropReason::EditFailed);
    // A SYN that the stack answers in the end may announce less than it did.
    if !moves && !spoilt && !is_syn(before) {
        let bytes = (&before.bytes, &after.bytes);
        assert!(!changed, "{}: {verdict:?} changes a packet: {bytes:02x?}", hook.name());
    }
    assert_eq!(before.bytes.len(), after.bytes.len(), "a packet keeps its length");
    if moves {
        if checksums(&before.bytes).is_ok() {
            checksums(&after.bytes).unwrap_or_else(|error| panic!("{}: {error}", hook.name()));
        }
        hops(hook, before, after);
    }
    if verdict.is_deliver() {
        arrives_at_its_owner(world, after, verdict);
        stays_inside(world, hook, before, after);
    }
    let leaves =
        verdict.is_forward() || hook == Hook::ToUplink && !verdict.is_drop() && !before.translated;
    if leaves {
        hides_containers(world, hook, after, verdict);
    }
    flows_are_paired(world);
}

/// XDP refuses nothing that TC would take. What is no published port's it may
/// leave to the stack to refuse; and it counts a SYN that is sent again.
pub(super) fn means_the_same(frame: &Frame, xdp: Verdict, tc: Verdict) {
    if xdp == Verdict::drop(DropReason::SynRate) {
        return;
    }
    let refused = tc.is_drop() || xdp == Verdict::drop(DropReason::Martian) && tc == Verdict::PASS;
    assert!(!xdp.is_drop() || refused, "XDP: {xdp:?}, TC: {tc:?}: {:02x?}", frame.bytes);
}

/// A SYN, or a piece of TCP, which may be of one.
fn is_syn(frame: &Frame) -> bool {
    Datagram::parse(&frame.bytes).is_some_and(|it| match it.layer4 {
        Layer4::Tcp { flags, .. } | Layer4::TcpMss { flags, .. } => flags & TCP_SYN != 0,
        Layer4::Raw { proto } => proto == PROTO_TCP,
        _ => false,
    })
}

fn hops(hook: Hook, before: &Frame, after: &Frame) {
    let (Some(before), Some(after)) = (ttl(before), ttl(after)) else {
        panic!("only IP moves");
    };
    let fewer = before.checked_sub(after);
    assert!(matches!(fewer, Some(0 | 1)), "{}: {before} hops, then {after}", hook.name());
}

fn is_ipv6(frame: &Frame) -> Option<bool> {
    match frame.bytes.get(12..14)? {
        [0x08, 0x00] => Some(false),
        [0x86, 0xdd] => Some(true),
        _ => None,
    }
}

fn ttl(frame: &Frame) -> Option<u8> {
    frame.bytes.get(if is_ipv6(frame)? { 21 } else { 22 }).copied()
}

/// Source and destination.
fn ends(frame: &Frame) -> Option<(Address, Address)> {
    if is_ipv6(frame)? {
        return Some((wire::read(&frame.bytes, 22)?, wire::read(&frame.bytes, 38)?));
    }
    let at = |offset| wire::read::<u32>(&frame.bytes, offset).map(Address::v4_word);
    Some((at(26)?, at(30)?))
}

/// A frame is for the container whose address it has.
pub(super) fn arrives_at_its_owner(world: &World, frame: &Frame, verdict: Verdict) {
    let (_, dst) = ends(frame).expect("only IP is delivered");
    let owner = world.endpoints.get(&dst).expect("someone has the address");
    assert_eq!(owner.ifindex, verdict.ifindex(), "delivered to another container");
    assert_eq!(wire::read::<Mac>(&frame.bytes, 0), Some(owner.mac), "with another MAC");
}

fn network_of(world: &World, address: &Address) -> Option<(u32, Network)> {
    let index = world
        .endpoints
        .get(address)
        .map(|endpoint| endpoint.network)
        .or_else(|| world.subnet(address))?;
    Some((index, world.network(index, address.family())?))
}

/// Nothing crosses the border of an internal network.
fn stays_inside(world: &World, hook: Hook, before: &Frame, after: &Frame) {
    let (src, _) = ends(before).expect("only IP is delivered");
    let (_, dst) = ends(after).expect("only IP is delivered");
    let (receiver, policy) = network_of(world, &dst).expect("a container's network");
    let sender = network_of(world, &src);
    let same = hook == Hook::FromContainer && sender.is_some_and(|(index, _)| index == receiver);
    let internal = |policy: &Network| policy.flags & Network::INTERNAL != 0;
    if !same {
        assert!(!internal(&policy), "into an internal network from {src:?}");
    }
    if hook == Hook::FromContainer && !same {
        let (_, sender) = sender.expect("a container has a network");
        assert!(!internal(&sender), "out of an internal network to {dst:?}");
    }
}

/// No container's address leaves a network that masquerades, but towards those
/// who may reach it by that address.
fn hides_containers(world: &World, hook: Hook, frame: &Frame, verdict: Verdict) {
    let Some((src, _)) = ends(frame) else { return };
    let ip: IpAddr = src.into();
    if verdict.is_forward() {
        let scoped = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        assert!(!scoped, "{ip} leaves its link");
        let known = world.is_host_address(&src) || world.subnet(&src).is_some();
        assert!(known, "{ip} is neither the host's nor a container's");
    }
    // A gateway is the host itself, and may have been asked.
    if world.is_host_address(&src) {
        return;
    }
    let Some(index) = world.subnet(&src) else { return };
    let Some(policy) = world.network(index, src.family()) else { return };
    let by_itself = policy.flags & Network::UNPROTECTED != 0
        || [scene::UP0, scene::UP1].iter().any(|ifindex| {
            world.trusted.contains(&TrustedKey { network: index, ifindex: *ifindex })
        });
    let hidden = policy.flags & Network::MASQUERADE != 0 && !by_itself;
    assert!(!hidden, "{}: {verdict:?} with the address {ip}", hook.name());
    let internal = policy.flags & Network::INTERNAL != 0;
    assert!(!internal, "{}: {ip} leaves an internal network", hook.name());
}

/// Each entry of `FLOWS` has its other direction there.
fn flows_are_paired(world: &World) {
    for (key, flow) in &world.flows {
        let twin_key = nat::twin_key(key, flow);
        let twin = world.flows.get(&twin_key);
        let twin = twin.unwrap_or_else(|| panic!("{key:?} has no other direction"));
        assert_eq!(nat::twin_key(&twin_key, twin), *key, "twins know each other");
    }
}
