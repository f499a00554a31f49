//! TC ingress of a container's host-side veth: everything that it sends.

use super::{Scratch, flow, open};
use crate::{
    abi::{
        Address, Endpoint, Family, Network, Zone,
        wire::{
            ARP_LEN, Arp, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet,
        },
    },
    packet::{Headers, Kind, PacketMut},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Neighbours, answered SNAT flows, replies of published ports.
#[inline(always)]
pub fn from_container<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // A container's own programs could have set it.
    packet.take_translated();
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::UNDECIDED;
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 || packet.has_vlan() {
        return Verdict::UNDECIDED;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Container) else {
        return Verdict::UNDECIDED;
    };
    // To the gateway: most likely a flow, which knows its sender. To a
    // neighbour: most likely none.
    let routed = ethernet.dst.is_gateway();
    let (mut network, mut published) = (0, false);
    if !routed {
        let now = world.now();
        match sender(packet, world, &headers, now) {
            Ok(endpoint) => {
                network = endpoint.network;
                published = endpoint.flags & Endpoint::PUBLISHED != 0;
            }
            Err(reason) => return reason.into(),
        }
    }
    // A published port's container may be answering a neighbour that came by
    // the host's address.
    if headers.kind == Kind::Flow && (routed || published) {
        let verdict = flow::established(packet, world, &headers);
        if verdict.is_decided() {
            return verdict;
        }
        if !routed && world.any_flow(&headers.key).is_some() {
            return Verdict::UNDECIDED;
        }
    }
    if routed {
        return Verdict::UNDECIDED;
    }
    neighbour(packet, world, &headers, network)
}

/// Everything else: anti-spoofing, first packets, hairpin, ARP.
#[inline(always)]
pub fn from_container_slow<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::drop(DropReason::Malformed);
    };
    if packet.has_vlan() {
        return Verdict::drop(DropReason::UnknownEthertype);
    }
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_ARP => return arp(packet, world, &ethernet),
        ETHERTYPE_IPV6 => return Verdict::drop(DropReason::Ipv6Disabled),
        _ => return Verdict::drop(DropReason::UnknownEthertype),
    }
    if let Err(reason) = scratch.headers.read(packet, &ethernet, Zone::Container) {
        return reason.into();
    }
    let now = world.now();
    let network = match sender(packet, world, &scratch.headers, now) {
        Ok(endpoint) => endpoint.network,
        Err(reason) => return reason.into(),
    };
    let verdict = flow::known(packet, world, scratch);
    if verdict.is_decided() {
        return verdict;
    }
    let verdict = neighbour(packet, world, &scratch.headers, network);
    if verdict.is_decided() {
        return verdict;
    }
    let verdict = first_contact(world, scratch, network);
    verdict.or_else(|| open::claim(world, scratch)).or_else(|| flow::finish(packet, world, scratch))
}

/// The endpoint that sent the packet: its address, link and MAC must agree.
#[inline(always)]
fn sender<'w, P: PacketMut, W: World>(
    packet: &P,
    world: &'w mut W,
    headers: &Headers,
    now: u32,
) -> Result<&'w Endpoint, DropReason> {
    let endpoint = world.endpoint(&headers.key.src).ok_or(DropReason::SpoofedAddress)?;
    if endpoint.ifindex != packet.ifindex() {
        return Err(DropReason::SpoofedAddress);
    }
    if endpoint.mac != headers.source_mac {
        return Err(DropReason::SpoofedMac);
    }
    if endpoint.last_seen != now {
        endpoint.last_seen = now;
    }
    Ok(endpoint)
}

/// Delivery to an endpoint of the host. Undecided: the destination is none.
#[inline(always)]
fn neighbour<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
    network: u32,
) -> Verdict {
    let Some(receiver) = world.endpoint(&headers.key.dst) else {
        return Verdict::UNDECIDED;
    };
    let (ifindex, mac) = (receiver.ifindex, receiver.mac);
    if receiver.network != network {
        return Verdict::drop(DropReason::Isolated);
    }
    if receiver.flags & Endpoint::ICC == 0 {
        return Verdict::drop(DropReason::IccDisabled);
    }
    if !packet.write(0, &mac) {
        return Verdict::drop(DropReason::EditFailed);
    }
    Verdict::deliver(ifindex)
}

/// What is neither to a neighbour nor of a known flow. Undecided: its flow is
/// drafted.
#[inline(always)]
fn first_contact<W: World>(world: &mut W, scratch: &mut Scratch, own_network: u32) -> Verdict {
    let key = &scratch.headers.key;
    let Some(network) = world.network(own_network, Family::V4) else {
        return Verdict::drop(DropReason::NotConfigured);
    };
    if world.is_host_address(&key.dst) {
        return to_host(world, scratch, &network, own_network);
    }
    match world.subnet(&key.dst) {
        // Broadcast, or an address that nobody has: the bridge's to answer.
        Some(index) if index == own_network => return Verdict::PASS,
        Some(_) => return Verdict::drop(DropReason::Isolated),
        None => {}
    }
    if is_link_scoped(&key.dst) {
        return Verdict::PASS;
    }
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    open::outbound(world, scratch, &network)
}

#[inline(always)]
fn to_host<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    network: &Network,
    own_network: u32,
) -> Verdict {
    let Some(target) = open::published_port(world, &scratch.headers) else { return Verdict::PASS };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    if !open::opens(&scratch.headers) {
        return Verdict::PASS;
    }
    open::hairpin(world, scratch, &target, own_network)
}

/// Multicast and the limited broadcast stay on the bridge.
#[inline(always)]
fn is_link_scoped(address: &Address) -> bool {
    address.v4_octets()[0] >= 224
}

/// An ARP message must speak for its sender: link, MAC and address.
#[inline(never)]
fn arp<P: PacketMut, W: World>(packet: &mut P, world: &mut W, ethernet: &Ethernet) -> Verdict {
    if !packet.ensure(ETHERNET_LEN + ARP_LEN) {
        return Verdict::drop(DropReason::Malformed);
    }
    let Some(arp) = packet.read::<Arp>(ETHERNET_LEN) else {
        return Verdict::drop(DropReason::Malformed);
    };
    if arp.hardware.to_host() != 1
        || arp.protocol != ETHERTYPE_IPV4
        || arp.lengths.to_host() != 0x0604
    {
        return Verdict::drop(DropReason::Malformed);
    }
    let ([a, b], [c, d]) = (arp.sender_ip[0].to_ne_bytes(), arp.sender_ip[1].to_ne_bytes());
    let speaks_for_itself = world.endpoint(&Address::v4([a, b, c, d])).is_some_and(|endpoint| {
        endpoint.ifindex == packet.ifindex()
            && endpoint.mac == arp.sender_mac
            && endpoint.mac == ethernet.src
    });
    if speaks_for_itself { Verdict::PASS } else { Verdict::drop(DropReason::SpoofedArp) }
}
