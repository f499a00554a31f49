//! What a container sends.

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, ack, cut_short, delivered, routed, rst, syn, syn_ack, udp};
use crate::{
    abi::Uplink,
    model::{
        Arp, Datagram, Frame, Layer4,
        scene::{
            ALIAS, CLIENT, FAR, HOST, INNER, OFF, ONE, OUTSIDE, QUIET, ROUTED, SHY, UNREACHABLE,
            UP0, UP1, UPLINK_MAC, WEB, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{self, FromContainer, FromUplink},
    },
};

fn case(what: &'static str, frame: Frame) -> Case {
    Case::new(Hook::FromContainer, what, frame)
}

/// `frame` with other bytes where its Ethernet type is.
fn typed(mut frame: Frame, ethertype: u16) -> Frame {
    frame.bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

pub(super) fn cases() -> Vec<Case> {
    [neighbours(), outbound(), limits(), hairpins(), spoofing(), refusals(), unset()].concat()
}

fn neighbours() -> Vec<Case> {
    let tells = CLIENT.tells(&WEB, syn(40_000, 80));
    let by_gateway = CLIENT.sends(WEB.address, syn(40_000, 80));
    let resolved = Datagram { dst_mac: WEB.mac, ..by_gateway.clone() };
    let answer = WEB.tells(&CLIENT, udp(53, 40_000));
    let broadcast = CLIENT.sends(Ipv4Addr::new(172, 18, 255, 255), udp(68, 67));
    vec![
        case("to a neighbour", CLIENT.frame(&tells)).delivers(&WEB, &tells),
        case("to a neighbour by the gateway", CLIENT.frame(&by_gateway)).delivers(&WEB, &resolved),
        case("from a published container to its neighbour", WEB.frame(&answer))
            .delivers(&CLIENT, &answer),
        case("broadcast in the subnet", CLIENT.frame(&broadcast)).passes(),
        case("to a neighbour that may not", QUIET.frame(&QUIET.tells(&SHY, syn(1, 80))))
            .drops(DropReason::IccDisabled),
        case(
            "by the fast path to a neighbour that may not",
            SHY.frame(&SHY.tells(&QUIET, syn(1, 80))),
        )
        .drops(DropReason::IccDisabled),
        case(
            "to a container of another network",
            CLIENT.frame(&CLIENT.sends(QUIET.address, syn(1, 80))),
        )
        .drops(DropReason::Isolated),
        case(
            "to another network's container as if on-link",
            CLIENT.frame(&CLIENT.tells(&QUIET, syn(1, 80))),
        )
        .drops(DropReason::Isolated),
        case(
            "to an address of another network that nobody has",
            CLIENT.frame(&CLIENT.sends(Ipv4Addr::new(172, 19, 9, 9), syn(1, 80))),
        )
        .drops(DropReason::Isolated),
    ]
}

fn outbound() -> Vec<Case> {
    let tcp = CLIENT.sends(OUTSIDE, syn(40_000, 443));
    let dns = CLIENT.sends(OUTSIDE, udp(40_000, 53));
    let dns_out = routed(&dns, HOST, OUTSIDE, udp(SNAT_PORT, 53));
    let zero = summing_up_to_zero(&dns);
    let bare = CLIENT.sends(OUTSIDE, Layer4::BareUdp { sport: 40_000, dport: 53 });
    let bare_out = Layer4::BareUdp { sport: SNAT_PORT, dport: 53 };
    let echo = CLIENT.sends(OUTSIDE, Layer4::EchoRequest { id: 7 });
    let options = Datagram { options: vec![1; 40], ..tcp.clone() };
    let far = CLIENT.sends(FAR, udp(40_000, 53));
    let unmasked = ROUTED.sends(OUTSIDE, udp(40_000, 53));
    let answer = incoming(OUTSIDE, HOST, udp(53, SNAT_PORT));
    vec![
        case("TCP to the outside", CLIENT.frame(&tcp))
            .forwards(UP0, &routed(&tcp, HOST, OUTSIDE, syn(SNAT_PORT, 443))),
        case("UDP to the outside", CLIENT.frame(&dns)).forwards(UP0, &dns_out),
        case("UDP to the outside, answered before", CLIENT.frame(&dns))
            .after(FromContainer, CLIENT.frame(&dns))
            .after(FromUplink, Frame::new(UP0, answer.frame()))
            .forwards(UP0, &dns_out),
        case("UDP whose new checksum is zero, which is sent as ffff", CLIENT.frame(&zero))
            .forwards(UP0, &routed(&zero, HOST, OUTSIDE, udp(SNAT_PORT, 53))),
        case("UDP without a checksum", CLIENT.frame(&bare))
            .forwards(UP0, &routed(&bare, HOST, OUTSIDE, bare_out)),
        case("an echo request", CLIENT.frame(&echo))
            .forwards(UP0, &routed(&echo, HOST, OUTSIDE, Layer4::EchoRequest { id: SNAT_PORT })),
        case("the longest IP header", CLIENT.frame(&options))
            .forwards(UP0, &routed(&options, HOST, OUTSIDE, syn(SNAT_PORT, 443))),
        case("by a route with a source of its own", CLIENT.frame(&far))
            .forwards(UP1, &routed(&far, ALIAS, FAR, udp(SNAT_PORT, 53))),
        case("from a network that does not masquerade", ROUTED.frame(&unmasked))
            .forwards(UP0, &routed(&unmasked, ROUTED.address, OUTSIDE, udp(40_000, 53))),
        case(
            "to what the host can't reach",
            CLIENT.frame(&CLIENT.sends(UNREACHABLE, udp(40_000, 53))),
        )
        .passes(),
        case("multicast", CLIENT.frame(&CLIENT.sends(Ipv4Addr::new(224, 0, 0, 251), udp(1, 2))))
            .passes(),
        case("to the host itself", CLIENT.frame(&CLIENT.sends(HOST, syn(40_000, 22)))).passes(),
    ]
}

/// With a payload that makes the sum zero once `datagram` is translated.
fn summing_up_to_zero(datagram: &Datagram) -> Datagram {
    let checksum = |datagram: &Datagram| {
        let frame = routed(datagram, HOST, OUTSIDE, udp(SNAT_PORT, 53)).frame();
        frame[40..42].to_vec()
    };
    let of_nothing = checksum(&Datagram { payload: vec![0; 2], ..datagram.clone() });
    let zero = Datagram { payload: of_nothing, ..datagram.clone() };
    assert_eq!(checksum(&zero), [0xff, 0xff]);
    zero
}

fn limits() -> Vec<Case> {
    let last_hop = Datagram { ttl: 1, ..CLIENT.sends(OUTSIDE, udp(40_000, 53)) };
    let long = Datagram { payload: vec![7; 1290], ..CLIENT.sends(FAR, udp(40_000, 53)) };
    let burst = Datagram { payload: vec![7; 2000], ..CLIENT.sends(FAR, syn(40_000, 443)) };
    let burst_of = |gso_size| Frame { gso_size, ..CLIENT.frame(&burst) };
    vec![
        case("with its last hop", CLIENT.frame(&last_hop)).passes(),
        case("longer than the path's MTU", CLIENT.frame(&long)).passes(),
        case("a burst of segments that fit", burst_of(1260))
            .forwards(UP1, &routed(&burst, ALIAS, FAR, syn(SNAT_PORT, 443))),
        case("a burst of segments too long", burst_of(1261)).passes(),
    ]
}

fn hairpins() -> Vec<Case> {
    let other = CLIENT.sends(ALIAS, syn(40_000, 9090));
    let same = CLIENT.sends(HOST, syn(40_000, 8080));
    let own = WEB.sends(HOST, syn(40_000, 8080));
    let inbound = incoming(OUTSIDE, HOST, syn(40_000, 8080));
    let reply = WEB.sends(OUTSIDE, syn_ack(80, 40_000));
    vec![
        case("to a port of another network", CLIENT.frame(&other))
            .delivers(&QUIET, &delivered(&other, CLIENT.address, &QUIET, syn(40_000, 90))),
        case("to a neighbour's port", CLIENT.frame(&same))
            .delivers(&WEB, &delivered(&same, CLIENT.address, &WEB, syn(SNAT_PORT, 80))),
        case("to its own port", WEB.frame(&own))
            .delivers(&WEB, &delivered(&own, gateway(ONE), &WEB, syn(40_000, 80))),
        case(
            "to a published port in the middle of a connection",
            CLIENT.frame(&CLIENT.sends(HOST, ack(40_000, 8080))),
        )
        .passes(),
        case("the answer of a published port", WEB.frame(&reply))
            .after(FromUplink, Frame::new(UP0, inbound.frame()))
            .forwards(UP0, &routed(&reply, HOST, OUTSIDE, syn_ack(8080, 40_000))),
        case(
            "to a port of an internal network",
            CLIENT.frame(&CLIENT.sends(HOST, syn(40_000, 7070))),
        )
        .drops(DropReason::Internal),
        case(
            "from an internal network to a port",
            INNER.frame(&INNER.sends(HOST, syn(40_000, 8080))),
        )
        .drops(DropReason::Internal),
        case(
            "to a port whose container is gone",
            CLIENT.frame(&CLIENT.sends(HOST, syn(40_000, 6060))),
        )
        .drops(DropReason::NoEndpoint),
    ]
}

fn spoofing() -> Vec<Case> {
    let honest = CLIENT.sends(OUTSIDE, udp(40_000, 53));
    let stolen = Datagram { src: WEB.address, ..honest.clone() };
    let unknown = Datagram { src: Ipv4Addr::new(10, 0, 0, 1), ..honest.clone() };
    let masked = Datagram { src_mac: WEB.mac, ..honest.clone() };
    let masked_neighbour = Datagram { src_mac: WEB.mac, ..CLIENT.tells(&WEB, udp(1, 2)) };
    let answer = incoming(OUTSIDE, HOST, udp(53, SNAT_PORT));
    let answered = |what, frame| {
        case(what, frame)
            .after(FromContainer, CLIENT.frame(&honest))
            .after(FromUplink, Frame::new(UP0, answer.frame()))
    };
    let arp = Arp {
        src_mac: CLIENT.mac,
        sender_mac: CLIENT.mac,
        sender: CLIENT.address,
        target: gateway(ONE),
    };
    let arp_case = |what, arp: Arp| case(what, Frame::new(CLIENT.ifindex, arp.frame()));
    let mut token_ring = Frame::new(CLIENT.ifindex, arp.frame());
    token_ring.bytes[15] = 6;
    let mut short_arp = Frame::new(CLIENT.ifindex, arp.frame());
    short_arp.bytes.truncate(30);
    vec![
        case("with a neighbour's address", CLIENT.frame(&stolen)).drops(DropReason::SpoofedAddress),
        case("with nobody's address", CLIENT.frame(&unknown)).drops(DropReason::SpoofedAddress),
        case("with a neighbour's MAC", CLIENT.frame(&masked)).drops(DropReason::SpoofedMac),
        case("to a neighbour with that one's MAC", CLIENT.frame(&masked_neighbour))
            .drops(DropReason::SpoofedMac),
        answered("with the address of an answered flow", WEB.frame(&honest))
            .drops(DropReason::SpoofedAddress),
        answered("in an answered flow with another MAC", CLIENT.frame(&masked))
            .drops(DropReason::SpoofedMac),
        arp_case("an honest ARP request", arp).passes(),
        arp_case("ARP for another's address", Arp { sender: WEB.address, ..arp })
            .drops(DropReason::SpoofedArp),
        arp_case("ARP with another's MAC", Arp { sender_mac: UPLINK_MAC, ..arp })
            .drops(DropReason::SpoofedArp),
        arp_case("ARP from another MAC", Arp { src_mac: UPLINK_MAC, ..arp })
            .drops(DropReason::SpoofedArp),
        case("ARP of another link layer", token_ring).drops(DropReason::Malformed),
        case("ARP cut short", short_arp).drops(DropReason::Malformed),
    ]
}

fn refusals() -> Vec<Case> {
    let dns = CLIENT.sends(OUTSIDE, udp(40_000, 53));
    let fragment = Datagram { fragment: 0x2000, ..dns.clone() };
    let to = |dst, layer4| CLIENT.frame(&CLIENT.sends(dst, layer4));
    // As long as the shortest IPv6 packet.
    let long = Datagram { payload: vec![0; 60], ..dns.clone() };
    vec![
        case("an IP header that lies", cut_short(CLIENT.frame(&dns))).drops(DropReason::Malformed),
        case("no Ethernet header", Frame::new(CLIENT.ifindex, vec![2; 13]))
            .drops(DropReason::Malformed)
            .model_only(),
        case("a VLAN tag", typed(CLIENT.frame(&dns), 0x8100)).drops(DropReason::UnknownEthertype),
        case("a VLAN tag set aside", Frame { vlan: true, ..CLIENT.frame(&dns) })
            .drops(DropReason::UnknownEthertype)
            .model_only(),
        case("IPv6", typed(CLIENT.frame(&long), 0x86dd)).drops(DropReason::Ipv6Disabled),
        case("out of an internal network", INNER.frame(&INNER.sends(OUTSIDE, udp(1, 53))))
            .drops(DropReason::Internal),
        case("two flows for one port", WEB.frame(&WEB.sends(OUTSIDE, udp(40_000, 53))))
            .after(FromContainer, CLIENT.frame(&dns))
            .drops(DropReason::PortsExhausted),
        case("by a link that is no uplink", to(OFF, udp(1, 53))).drops(DropReason::NoUplink),
        case("GRE", to(OUTSIDE, Layer4::Raw { proto: 47 })).drops(DropReason::UnsupportedProtocol),
        case("ICMP that is no echo", to(OUTSIDE, Layer4::Raw { proto: 1 }))
            .drops(DropReason::UnsupportedProtocol),
        case("a fragment", CLIENT.frame(&fragment)).drops(DropReason::Fragment),
        case("an echo reply that nobody asked for", to(OUTSIDE, Layer4::EchoReply { id: 7 }))
            .drops(DropReason::NoFlow),
        case("a RST of no flow", to(OUTSIDE, rst(40_000, 443))).drops(DropReason::NoFlow),
        case("an edit that fails", CLIENT.frame(&dns))
            .refusing_edits()
            .drops(DropReason::EditFailed),
    ]
}

fn unset() -> Vec<Case> {
    let dns = CLIENT.sends(OUTSIDE, udp(40_000, 53));
    vec![
        case("without a configuration", CLIENT.frame(&dns))
            .given(|world| world.config = None)
            .drops(DropReason::NotConfigured),
        case("from a network that is not known", CLIENT.frame(&dns))
            .given(|world| world.networks.clear())
            .drops(DropReason::NotConfigured),
        case("by an uplink without an address", CLIENT.frame(&dns))
            .given(|world| {
                world.config_mut().features = 0;
                let none = Uplink::default();
                world.uplinks.insert(UP0, none);
            })
            .drops(DropReason::NoUplink),
    ]
}
