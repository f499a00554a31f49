//! What a container sends.

use core::net::{IpAddr, Ipv4Addr};
use std::{vec, vec::Vec};

use super::{
    ALL_NODES, Case, SNAT_PORT, ack, cut_short, delivered, routed, rst, syn, syn_ack, udp,
};
use crate::{
    abi::{Family, Uplink},
    model::{
        Arp, Datagram, Frame, Layer4,
        scene::{
            ALIAS, CLIENT, Dual, FAR, HOST, INNER, LEGACY, OFF, ONE, OUTSIDE, QUIET, ROUTED, SHY,
            UNREACHABLE, UP0, UP1, UPLINK_MAC, WEB, frame, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{self, FromContainer, FromUplink},
    },
};

const BROADCAST: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 255, 255));

fn case(what: &'static str, frame: Frame) -> Case {
    Case::new(Hook::FromContainer, what, frame)
}

/// `frame` with other bytes where its Ethernet type is.
fn typed(mut frame: Frame, ethertype: u16) -> Frame {
    frame.bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

pub(super) fn cases(f: Family) -> Vec<Case> {
    let both = [neighbours, outbound, limits, hairpins, spoofing, refusals, unset];
    let mut all: Vec<_> = both.into_iter().flat_map(|of| of(f)).collect();
    if f == Family::V4 {
        all.extend(arp());
        all.extend(without_ipv6());
    }
    all
}

fn without_ipv6() -> Vec<Case> {
    let dns = LEGACY.sends(OUTSIDE[Family::V6], udp(40_000, 53));
    vec![case("on a network that has none", LEGACY.frame(&dns)).drops(DropReason::Ipv6Disabled)]
}

fn neighbours(f: Family) -> Vec<Case> {
    let tells = CLIENT.tells(f, &WEB, syn(40_000, 80));
    let by_gateway = CLIENT.sends(WEB.address[f], syn(40_000, 80));
    let resolved = Datagram { dst_mac: WEB.mac, ..by_gateway.clone() };
    let answer = WEB.tells(f, &CLIENT, udp(53, 40_000));
    let everyone = if f == Family::V4 { BROADCAST } else { ALL_NODES };
    let broadcast = CLIENT.sends(everyone, udp(68, 67));
    let quiet_nobody = Dual::new([172, 19, 9, 9], [0xfd00, 0, 0, 2, 0, 0, 9, 9])[f];
    vec![
        case("to a neighbour", CLIENT.frame(&tells)).delivers(&WEB, &tells),
        case("to a neighbour by the gateway", CLIENT.frame(&by_gateway)).delivers(&WEB, &resolved),
        case("from a published container to its neighbour", WEB.frame(&answer))
            .delivers(&CLIENT, &answer),
        case("to all of the link", CLIENT.frame(&broadcast)).arrives(),
        case("to a neighbour that may not", QUIET.frame(&QUIET.tells(f, &SHY, syn(1, 80))))
            .drops(DropReason::IccDisabled),
        case(
            "by the fast path to a neighbour that may not",
            SHY.frame(&SHY.tells(f, &QUIET, syn(1, 80))),
        )
        .drops(DropReason::IccDisabled),
        case(
            "to a container of another network",
            CLIENT.frame(&CLIENT.sends(QUIET.address[f], syn(1, 80))),
        )
        .drops(DropReason::Isolated),
        case(
            "to another network's container as if on-link",
            CLIENT.frame(&CLIENT.tells(f, &QUIET, syn(1, 80))),
        )
        .drops(DropReason::Isolated),
        case(
            "to an address of another network that nobody has",
            CLIENT.frame(&CLIENT.sends(quiet_nobody, syn(1, 80))),
        )
        .drops(DropReason::Isolated),
    ]
}

fn outbound(f: Family) -> Vec<Case> {
    let tcp = CLIENT.sends(OUTSIDE[f], syn(40_000, 443));
    let dns = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let dns_out = routed(&dns, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53));
    let zero = summing_up_to_zero(&dns);
    let bare = CLIENT.sends(OUTSIDE[f], Layer4::BareUdp { sport: 40_000, dport: 53 });
    let bare_out = Layer4::BareUdp { sport: SNAT_PORT, dport: 53 };
    let echo = CLIENT.sends(OUTSIDE[f], Layer4::EchoRequest { id: 7 });
    let options = Datagram { options: vec![1; 40], ..tcp.clone() };
    let far = CLIENT.sends(FAR[f], udp(40_000, 53));
    let group = Dual::new([224, 0, 0, 251], [0xff05, 0, 0, 0, 0, 0, 0, 0xfb])[f];
    let unmasked = ROUTED.sends(OUTSIDE[f], udp(40_000, 53));
    let answer = incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let mut all = vec![
        case("TCP to the outside", CLIENT.frame(&tcp))
            .forwards(UP0, &routed(&tcp, HOST[f], OUTSIDE[f], syn(SNAT_PORT, 443))),
        case("UDP to the outside", CLIENT.frame(&dns)).forwards(UP0, &dns_out),
        case("UDP to the outside, answered before", CLIENT.frame(&dns))
            .after(FromContainer, CLIENT.frame(&dns))
            .after(FromUplink, frame(UP0, answer.frame()))
            .forwards(UP0, &dns_out),
        case("UDP whose new checksum is zero, which is sent as ffff", CLIENT.frame(&zero))
            .forwards(UP0, &routed(&zero, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53))),
        case("an echo request", CLIENT.frame(&echo)).forwards(
            UP0,
            &routed(&echo, HOST[f], OUTSIDE[f], Layer4::EchoRequest { id: SNAT_PORT }),
        ),
        case("by a route with a source of its own", CLIENT.frame(&far))
            .forwards(UP1, &routed(&far, ALIAS[f], FAR[f], udp(SNAT_PORT, 53))),
        case("from a network that does not masquerade", ROUTED.frame(&unmasked))
            .forwards(UP0, &routed(&unmasked, ROUTED.address[f], OUTSIDE[f], udp(40_000, 53))),
        case(
            "to what the host can't reach",
            CLIENT.frame(&CLIENT.sends(UNREACHABLE[f], udp(40_000, 53))),
        )
        .arrives(),
        case("multicast", CLIENT.frame(&CLIENT.sends(group, udp(1, 2)))).arrives(),
        case("to the host itself", CLIENT.frame(&CLIENT.sends(HOST[f], syn(40_000, 22)))).arrives(),
    ];
    if f == Family::V4 {
        all.extend([
            case("UDP without a checksum", CLIENT.frame(&bare))
                .forwards(UP0, &routed(&bare, HOST[f], OUTSIDE[f], bare_out)),
            case("the longest IP header", CLIENT.frame(&options))
                .forwards(UP0, &routed(&options, HOST[f], OUTSIDE[f], syn(SNAT_PORT, 443))),
        ]);
    }
    all
}

/// With a payload that makes the sum zero once `datagram` is translated.
fn summing_up_to_zero(datagram: &Datagram) -> Datagram {
    let f = datagram.family();
    let checksum = |datagram: &Datagram| {
        routed(datagram, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53)).segment()[6..8].to_vec()
    };
    let of_nothing = checksum(&Datagram { payload: vec![0; 2], ..datagram.clone() });
    let zero = Datagram { payload: of_nothing, ..datagram.clone() };
    assert_eq!(checksum(&zero), [0xff, 0xff]);
    zero
}

fn limits(f: Family) -> Vec<Case> {
    let last_hop = Datagram { ttl: 1, ..CLIENT.sends(OUTSIDE[f], udp(40_000, 53)) };
    let long = Datagram { payload: vec![7; 1290], ..CLIENT.sends(FAR[f], udp(40_000, 53)) };
    let burst = Datagram { payload: vec![7; 2000], ..CLIENT.sends(FAR[f], syn(40_000, 443)) };
    // Headers of 40 or 60 bytes.
    let fits = if f == Family::V4 { 1260 } else { 1240 };
    let burst_of = |gso_size| Frame { gso_size, ..CLIENT.frame(&burst) };
    vec![
        case("with its last hop", CLIENT.frame(&last_hop)).arrives(),
        case("longer than the path's MTU", CLIENT.frame(&long)).arrives(),
        case("a burst of segments that fit", burst_of(fits))
            .forwards(UP1, &routed(&burst, ALIAS[f], FAR[f], syn(SNAT_PORT, 443))),
        case("a burst of segments too long", burst_of(fits + 1)).arrives(),
    ]
}

fn hairpins(f: Family) -> Vec<Case> {
    let other = CLIENT.sends(ALIAS[f], syn(40_000, 9090));
    let same = CLIENT.sends(HOST[f], syn(40_000, 8080));
    let own = WEB.sends(HOST[f], syn(40_000, 8080));
    let inbound = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080));
    let reply = WEB.sends(OUTSIDE[f], syn_ack(80, 40_000));
    vec![
        case("to a port of another network", CLIENT.frame(&other))
            .delivers(&QUIET, &delivered(&other, CLIENT.address[f], &QUIET, syn(40_000, 90))),
        case("to a neighbour's port", CLIENT.frame(&same))
            .delivers(&WEB, &delivered(&same, CLIENT.address[f], &WEB, syn(SNAT_PORT, 80))),
        case("to its own port", WEB.frame(&own))
            .delivers(&WEB, &delivered(&own, gateway(ONE)[f], &WEB, syn(40_000, 80))),
        case(
            "to a published port in the middle of a connection",
            CLIENT.frame(&CLIENT.sends(HOST[f], ack(40_000, 8080))),
        )
        .arrives(),
        case("the answer of a published port", WEB.frame(&reply))
            .after(FromUplink, frame(UP0, inbound.frame()))
            .forwards(UP0, &routed(&reply, HOST[f], OUTSIDE[f], syn_ack(8080, 40_000))),
        case(
            "to a port of an internal network",
            CLIENT.frame(&CLIENT.sends(HOST[f], syn(40_000, 7070))),
        )
        .drops(DropReason::Internal),
        case(
            "from an internal network to a port",
            INNER.frame(&INNER.sends(HOST[f], syn(40_000, 8080))),
        )
        .drops(DropReason::Internal),
        case(
            "to a port whose container is gone",
            CLIENT.frame(&CLIENT.sends(HOST[f], syn(40_000, 6060))),
        )
        .drops(DropReason::NoEndpoint),
    ]
}

fn spoofing(f: Family) -> Vec<Case> {
    let honest = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let stolen = Datagram { src: WEB.address[f], ..honest.clone() };
    let nobody = Dual::new([10, 0, 0, 1], [0xfd77, 0, 0, 0, 0, 0, 0, 1])[f];
    let unknown = Datagram { src: nobody, ..honest.clone() };
    let masked = Datagram { src_mac: WEB.mac, ..honest.clone() };
    let masked_neighbour = Datagram { src_mac: WEB.mac, ..CLIENT.tells(f, &WEB, udp(1, 2)) };
    let answer = incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let answered = |what, sent| {
        case(what, sent)
            .after(FromContainer, CLIENT.frame(&honest))
            .after(FromUplink, frame(UP0, answer.frame()))
    };
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
    ]
}

fn arp() -> Vec<Case> {
    let arp = Arp {
        src_mac: CLIENT.mac,
        sender_mac: CLIENT.mac,
        sender: CLIENT.address.v4(),
        target: gateway(ONE).v4(),
    };
    let arp_case = |what, arp: Arp| case(what, frame(CLIENT.ifindex, arp.frame()));
    let mut token_ring = frame(CLIENT.ifindex, arp.frame());
    token_ring.bytes[15] = 6;
    let mut short_arp = frame(CLIENT.ifindex, arp.frame());
    short_arp.bytes.truncate(30);
    vec![
        arp_case("an honest ARP request", arp).passes(),
        arp_case("ARP for another's address", Arp { sender: WEB.address.v4(), ..arp })
            .drops(DropReason::SpoofedArp),
        arp_case("ARP with another's MAC", Arp { sender_mac: UPLINK_MAC, ..arp })
            .drops(DropReason::SpoofedArp),
        arp_case("ARP from another MAC", Arp { src_mac: UPLINK_MAC, ..arp })
            .drops(DropReason::SpoofedArp),
        case("ARP of another link layer", token_ring).drops(DropReason::Malformed),
        case("ARP cut short", short_arp).drops(DropReason::Malformed),
    ]
}

fn refusals(f: Family) -> Vec<Case> {
    let dns = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let to = |dst, layer4| CLIENT.frame(&CLIENT.sends(dst, layer4));
    vec![
        case("an IP header that lies", cut_short(CLIENT.frame(&dns))).drops(DropReason::Malformed),
        case("no Ethernet header", frame(CLIENT.ifindex, vec![2; 13]))
            .drops(DropReason::Malformed)
            .model_only(),
        case("a VLAN tag", typed(CLIENT.frame(&dns), 0x8100)).drops(DropReason::UnknownEthertype),
        case("a VLAN tag set aside", Frame { vlan: true, ..CLIENT.frame(&dns) })
            .drops(DropReason::UnknownEthertype)
            .model_only(),
        case("out of an internal network", INNER.frame(&INNER.sends(OUTSIDE[f], udp(1, 53))))
            .drops(DropReason::Internal),
        case("two flows for one port", WEB.frame(&WEB.sends(OUTSIDE[f], udp(40_000, 53))))
            .after(FromContainer, CLIENT.frame(&dns))
            .drops(DropReason::PortsExhausted),
        case("by a link that is no uplink", to(OFF[f], udp(1, 53))).drops(DropReason::NoUplink),
        case("ICMP that is no echo", to(OUTSIDE[f], Layer4::Raw { proto: 1 }))
            .drops(DropReason::UnsupportedProtocol),
        case("an echo reply that nobody asked for", to(OUTSIDE[f], Layer4::EchoReply { id: 7 }))
            .drops(DropReason::NoFlow),
        case("a RST of no flow", to(OUTSIDE[f], rst(40_000, 443))).drops(DropReason::NoFlow),
        case("an edit that fails", CLIENT.frame(&dns))
            .refusing_edits()
            .drops(DropReason::EditFailed),
    ]
}

fn unset(f: Family) -> Vec<Case> {
    let dns = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
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
