//! TC ingress of a container's host-side veth: everything that it sends.

use super::{flow, open};
use crate::{
    abi::{
        Address, Endpoint, Network, Zone,
        wire::{ARP_LEN, Arp, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet},
    },
    packet::{Headers, Kind, Packet},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Anti-spoofing, delivery within the network, SNAT to the outside, hairpin,
/// and the replies of published ports.
#[inline(always)]
pub fn from_container<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
) -> Verdict {
    // A container's own programs could have set it.
    packet.take_translated();
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    if packet.has_vlan() {
        return Verdict::Drop(DropReason::UnknownEthertype);
    }
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, world, &ethernet),
        ETHERTYPE_ARP => arp(packet, world, &ethernet),
        ETHERTYPE_IPV6 => Verdict::Drop(DropReason::Ipv6Disabled),
        _ => Verdict::Drop(DropReason::UnknownEthertype),
    }
}

#[inline(always)]
fn ipv4<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    ethernet: &Ethernet,
) -> Verdict {
    let headers = match Headers::parse(packet, ethernet, Zone::Container) {
        Ok(headers) => headers,
        Err(reason) => return Verdict::Drop(reason),
    };
    // To the gateway: most likely a flow. To a neighbour: most likely none.
    let routed = ethernet.dst.is_gateway() && headers.kind == Kind::Flow;
    if routed && let Some(verdict) = flow::established(packet, world, &headers) {
        return verdict;
    }
    let endpoint = match sender(packet, world, &headers, world.now()) {
        Ok(endpoint) => endpoint,
        Err(reason) => return Verdict::Drop(reason),
    };
    if endpoint.flags & Endpoint::PUBLISHED != 0
        && !routed
        && headers.kind == Kind::Flow
        && let Some(verdict) = flow::established(packet, world, &headers)
            .or_else(|| flow::embryonic(packet, world, &headers))
    {
        return verdict;
    }
    if !routed && let Some(verdict) = neighbour(packet, world, &headers, ethernet, &endpoint) {
        return verdict;
    }
    first_contact(packet, world, &headers, &endpoint)
}

/// The endpoint that sent the packet: its address, link and MAC must agree.
#[inline(always)]
fn sender<P: Packet, W: World>(
    packet: &P,
    world: &mut W,
    headers: &Headers,
    now: u32,
) -> Result<Endpoint, DropReason> {
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
    Ok(*endpoint)
}

/// Delivery to an endpoint of the host. `None`: the destination is none.
#[inline(always)]
fn neighbour<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
    ethernet: &Ethernet,
    sender: &Endpoint,
) -> Option<Verdict> {
    let receiver = world.endpoint(&headers.key.dst)?;
    let (ifindex, mac, network) = (receiver.ifindex, receiver.mac, receiver.network);
    if network != sender.network {
        return Some(Verdict::Drop(DropReason::Isolated));
    }
    // Every network is registered before its first endpoint.
    let icc = world.network(network).is_some_and(|network| network.flags & Network::ICC != 0);
    if !icc {
        return Some(Verdict::Drop(DropReason::IccDisabled));
    }
    if ethernet.dst != mac && !packet.write(0, &mac) {
        return Some(Verdict::Drop(DropReason::EditFailed));
    }
    Some(Verdict::Deliver { ifindex })
}

/// What is neither to a neighbour nor of an answered flow.
#[inline(never)]
fn first_contact<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
    endpoint: &Endpoint,
) -> Verdict {
    let key = &headers.key;
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    if headers.kind == Kind::Flow
        && let Some(verdict) = flow::embryonic(packet, world, headers)
    {
        return verdict;
    }
    // A bridge with a MAC that is not netd's own: not tried yet.
    if !ethernet.dst.is_gateway()
        && headers.kind == Kind::Flow
        && let Some(verdict) = flow::established(packet, world, headers)
    {
        return verdict;
    }
    if let Some(verdict) = neighbour(packet, world, headers, &ethernet, endpoint) {
        return verdict;
    }
    let Some(network) = world.network(endpoint.network) else {
        return Verdict::Drop(DropReason::NotConfigured);
    };
    if world.is_host_address(&key.dst) {
        return to_host(packet, world, headers, endpoint, &network);
    }
    match world.subnet(&key.dst) {
        // Broadcast, or an address that nobody has: the bridge's to answer.
        Some(index) if index == endpoint.network => return Verdict::Pass,
        Some(_) => return Verdict::Drop(DropReason::Isolated),
        None => {}
    }
    if is_link_scoped(&key.dst) {
        return Verdict::Pass;
    }
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::Drop(DropReason::Internal);
    }
    match open::outbound(world, headers, endpoint, &network) {
        Ok(()) => flow::opened(packet, world, headers),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn to_host<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
    endpoint: &Endpoint,
    network: &Network,
) -> Verdict {
    let Some(target) = open::published(world, headers) else { return Verdict::Pass };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::Drop(DropReason::Internal);
    }
    if !open::opens(headers) {
        return Verdict::Pass;
    }
    match open::hairpin(world, headers, endpoint, &target) {
        Ok(()) => flow::opened(packet, world, headers),
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Multicast and the limited broadcast stay on the bridge.
#[inline(always)]
fn is_link_scoped(address: &Address) -> bool {
    address.v4_octets()[0] >= 224
}

/// An ARP message must speak for its sender: link, MAC and address.
#[inline(never)]
fn arp<P: Packet, W: World>(packet: &mut P, world: &mut W, ethernet: &Ethernet) -> Verdict {
    if !packet.ensure(ETHERNET_LEN + ARP_LEN) {
        return Verdict::Drop(DropReason::Malformed);
    }
    let Some(arp) = packet.read::<Arp>(ETHERNET_LEN) else {
        return Verdict::Drop(DropReason::Malformed);
    };
    if arp.hardware.to_host() != 1
        || arp.protocol != ETHERTYPE_IPV4
        || arp.lengths.to_host() != 0x0604
    {
        return Verdict::Drop(DropReason::Malformed);
    }
    let ([a, b], [c, d]) = (arp.sender_ip[0].to_ne_bytes(), arp.sender_ip[1].to_ne_bytes());
    let speaks_for_itself = world.endpoint(&Address::v4([a, b, c, d])).is_some_and(|endpoint| {
        endpoint.ifindex == packet.ifindex()
            && endpoint.mac == arp.sender_mac
            && endpoint.mac == ethernet.src
    });
    if speaks_for_itself { Verdict::Pass } else { Verdict::Drop(DropReason::SpoofedArp) }
}
