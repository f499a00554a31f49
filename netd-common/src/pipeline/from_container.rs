//! TC ingress of a container's host-side veth: everything that it sends.

use super::{
    Scratch,
    asked::{self, Admission, Counted},
    begin_flow, flow, fragments, ndp, of_a_flow,
    open::{self, Carrier},
    policy,
};
use crate::{
    abi::{
        Address, Config, Endpoint, Family, FlowKey, Link, Network, Zone,
        wire::{
            ARP_LEN, Arp, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet,
            PROTO_ICMPV6,
        },
    },
    packet::{Headers, Kind, PacketMut, is_ip},
    tables::World,
    verdict::{DropReason, Verdict},
};

/// Neighbours, answered SNAT flows, replies of published ports, replies to the
/// host.
#[inline(always)]
pub fn from_container<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // A container's own programs could have set it.
    packet.take_translated();
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Verdict::UNDECIDED;
    };
    if !is_ip(ethernet.ethertype) || packet.has_vlan() {
        return Verdict::UNDECIDED;
    }
    let Ok(headers) = Headers::parse(packet, &ethernet, Zone::Container) else {
        return Verdict::UNDECIDED;
    };
    // Fragments, errors and neighbour discovery want a closer look.
    if !headers.is_plain() {
        return Verdict::UNDECIDED;
    }
    // To the gateway: most likely a flow, which knows its sender. To a
    // neighbour: most likely none.
    if headers.to_gateway {
        let verdict = flow::established(packet, world, &headers);
        if verdict == Verdict::PASS {
            // The flow knows its sender's link, not its network.
            return match world.endpoint(&headers.key.src).map(|sender| sender.network) {
                Some(network) => arrives(world, network, headers.family),
                None => verdict,
            };
        }
        if verdict != Verdict::UNKNOWN {
            return verdict;
        }
    }
    let now = world.now();
    let (flags, network) = match sender(packet, world, &headers, now) {
        Ok(endpoint) => (endpoint.flags, endpoint.network),
        // The slow path has the time to find out why.
        Err(_) => return Verdict::UNDECIDED,
    };
    if headers.to_gateway {
        let passes = flags & Endpoint::MEETS_HOST != 0 && asked::is_for_host(world, &headers);
        return if passes { arrives(world, network, headers.family) } else { Verdict::UNDECIDED };
    }
    // A published port's container may be answering a neighbour that came by
    // the host's address.
    if flags & Endpoint::PUBLISHED != 0 && may_be_translated(world, &headers.key) {
        let verdict = flow::established(packet, world, &headers);
        if verdict != Verdict::UNKNOWN {
            return verdict;
        }
        if world.embryo(&headers.key).is_some() {
            return Verdict::UNDECIDED;
        }
    }
    neighbour(packet, world, &headers, network)
}

/// Everything else: anti-spoofing, first packets, hairpin, ARP and its like.
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
        ETHERTYPE_IPV6 if !has_ipv6(packet, world) => {
            return Verdict::drop(DropReason::Ipv6Disabled);
        }
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {}
        ETHERTYPE_ARP => return arp(packet, world, &ethernet),
        _ => return Verdict::drop(DropReason::UnknownEthertype),
    }
    if let Err(reason) = scratch.headers.read(packet, &ethernet, Zone::Container) {
        return reason.into();
    }
    if scratch.headers.kind == Kind::Ndp {
        return ndp::from_container(packet, world, &scratch.headers);
    }
    if is_nameless_report(&scratch.headers) {
        return Verdict::PASS;
    }
    let now = world.now();
    let network = match sender(packet, world, &scratch.headers, now) {
        Ok(endpoint) => endpoint.network,
        Err(reason) => return reason.into(),
    };
    let verdict = of_a_flow(packet, world, scratch)
        .or_else(|| neighbour(packet, world, &scratch.headers, network))
        .or_else(|| first_contact(world, scratch, network))
        .or_else(|| begin_flow(packet, world, scratch));
    flow::settle_replaced(world, scratch, verdict);
    if verdict == Verdict::PASS && scratch.headers.to_gateway {
        return arrives(world, network, scratch.headers.family);
    }
    verdict
}

/// A packet to the gateway that is the stack's, whether for the host or to be
/// forwarded, arrives at the network's bridge without a way through it. All of a
/// sender's do, so that none overtakes another.
#[inline(always)]
fn arrives<W: World>(world: &W, network: u32, family: Family) -> Verdict {
    Verdict::past_bridge(world.network(network, family).map_or(0, |it| it.bridge_ifindex))
}

#[inline(always)]
fn has_ipv6<P: PacketMut, W: World>(packet: &P, world: &W) -> bool {
    world.link(packet.ifindex()).is_some_and(|link| link.flags & Link::IPV6 != 0)
}

/// What a host tells of its groups before it has an address (RFC 3590).
#[inline(always)]
fn is_nameless_report(headers: &Headers) -> bool {
    headers.family == Family::V6
        && headers.key.src == Address::ANY
        && headers.key.proto == PROTO_ICMPV6
        && headers.kind == Kind::Other
        && is_group(&headers.key.dst)
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

/// Whether a packet between neighbours may be of a flow: those have one of SNAT's
/// ports on the client's side ([`open::hairpin`]).
#[inline(always)]
fn may_be_translated<W: World>(world: &W, key: &FlowKey) -> bool {
    let tells =
        |config: &Config| config.features & Config::SNAT_PORTS_KEPT != 0 && key.is_tcp_or_udp();
    let config = world.config().filter(tells);
    config.is_none_or(|config| config.is_of_snat(key.dport.to_host()))
}

/// Delivery to an endpoint of the same network. Undecided: the destination is
/// none.
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
        return Verdict::UNDECIDED;
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
#[inline(never)]
fn first_contact<W: World>(world: &mut W, scratch: &mut Scratch, own_network: u32) -> Verdict {
    let Scratch { headers, network, .. } = scratch;
    let key = &headers.key;
    if !policy(world, own_network, headers.family, network) {
        return Verdict::drop(DropReason::NotConfigured);
    }
    let bridged = network.flags & Network::INHIBITED != 0 && !headers.to_gateway;
    if bridged || is_link_scoped(&key.dst) {
        return Verdict::PASS;
    }
    if world.is_host_address(&key.dst) {
        return to_host(world, scratch, own_network);
    }
    let other = world.subnet(&key.dst);
    // Broadcast, or an address that nobody has: the bridge's to answer.
    if other == Some(own_network) {
        return Verdict::PASS;
    }
    if network.flags & Network::INTERNAL != 0 {
        let inside = other.is_some();
        return Verdict::drop(if inside { DropReason::Isolated } else { DropReason::Internal });
    }
    match other {
        Some(other) => open::across(world, scratch, other),
        None if is_link_local(&key.src) => Verdict::drop(DropReason::Martian),
        None => open::outbound(world, scratch, own_network, Carrier::Nobody),
    }
}

#[inline(always)]
fn to_host<W: World>(world: &mut W, scratch: &mut Scratch, own_network: u32) -> Verdict {
    let Scratch { headers, asked, network, .. } = scratch;
    if network.flags & Network::ISOLATED != 0 {
        return Verdict::drop(DropReason::HostIsolated);
    }
    if asked::asks(world, headers, asked) {
        if network.flags & Network::INTERNAL != 0 {
            return Verdict::drop(DropReason::Internal);
        }
        return match asked::admit(world, headers, asked, Counted::No) {
            Ok(Admission::Opens) => open::hairpin(world, scratch, own_network),
            Ok(Admission::IsTheStacks) => Verdict::PASS,
            Err(reason) => reason.into(),
        };
    }
    if network.flags & Network::INTERNAL != 0 && headers.key.dst != network.gateway {
        return Verdict::drop(DropReason::Internal);
    }
    if headers.kind == Kind::Piece {
        fragments::give_up(world, headers);
    }
    Verdict::PASS
}

/// Multicast, the limited broadcast and link-local addresses stay on the
/// bridge.
#[inline(always)]
fn is_link_scoped(address: &Address) -> bool {
    is_group(address) || is_link_local(address)
}

#[inline(always)]
fn is_group(address: &Address) -> bool {
    match address.family() {
        Family::V4 => address.v4_octets()[0] >= 224,
        Family::V6 => address.first_octets()[0] == 0xff,
    }
}

/// RFC 4291 §2.5.6.
#[inline(always)]
fn is_link_local(address: &Address) -> bool {
    let [a, b, ..] = address.first_octets();
    a == 0xfe && b & 0xc0 == 0x80
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
