//! What comes from outside.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{vec, vec::Vec};

use super::{ALL_NODES, Case, SNAT_PORT, ack, cut_short, delivered, rst, syn, syn_ack, udp};
use crate::{
    abi::{Family, Mac},
    model::{
        Datagram, Frame, Layer4,
        scene::{
            ALIAS, CLIENT, Dual, HOST, HOST1, INNER, LOCALHOST, NOBODY, OUTSIDE, QUIET, ROUTED,
            UP0, UP1, WEB, frame, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{self, FromContainer, FromUplink},
    },
};

fn case(what: &'static str, datagram: &Datagram) -> Case {
    Case::new(Hook::FromUplink, what, arrives(datagram))
}

fn arrives(datagram: &Datagram) -> Frame {
    frame(UP0, datagram.frame())
}

pub(super) fn cases(f: Family) -> Vec<Case> {
    [answers(f), published(f), foreign(f), refusals(f)].concat()
}

/// With no hop taken off.
fn arrived(delivered: Datagram) -> Datagram {
    Datagram { ttl: delivered.ttl + 1, ..delivered }
}

fn answers(f: Family) -> Vec<Case> {
    let tcp = incoming(OUTSIDE[f], HOST[f], syn_ack(443, SNAT_PORT));
    let dns = incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let echo = incoming(OUTSIDE[f], HOST[f], Layer4::EchoReply { id: SNAT_PORT });
    let unmasked = incoming(OUTSIDE[f], ROUTED.address[f], udp(53, 40_000));
    let reset = incoming(OUTSIDE[f], HOST[f], rst(443, SNAT_PORT));
    let last_hop = Datagram { ttl: 1, ..dns.clone() };
    let asked = |layer4| (FromContainer, CLIENT.frame(&CLIENT.sends(OUTSIDE[f], layer4)));
    let to_client = |d: &Datagram, layer4| delivered(d, OUTSIDE[f], &CLIENT, layer4);
    let case_after =
        |what, datagram: &Datagram, (hook, frame)| case(what, datagram).after(hook, frame);
    vec![
        case_after("the answer to a SYN", &tcp, asked(syn(40_000, 443)))
            .delivers(&CLIENT, &to_client(&tcp, syn_ack(443, 40_000))),
        case_after("a RST in answer to a SYN", &reset, asked(syn(40_000, 443)))
            .delivers(&CLIENT, &to_client(&reset, rst(443, 40_000))),
        case_after("the answer to a datagram", &dns, asked(udp(40_000, 53)))
            .delivers(&CLIENT, &to_client(&dns, udp(53, 40_000))),
        case_after("an answer after the first", &dns, asked(udp(40_000, 53)))
            .after(FromUplink, arrives(&dns))
            .delivers(&CLIENT, &to_client(&dns, udp(53, 40_000))),
        case_after("an echo reply", &echo, asked(Layer4::EchoRequest { id: 7 }))
            .delivers(&CLIENT, &to_client(&echo, Layer4::EchoReply { id: 7 })),
        case("an answer to a network that does not masquerade", &unmasked)
            .after(FromContainer, ROUTED.frame(&ROUTED.sends(OUTSIDE[f], udp(40_000, 53))))
            .delivers(&ROUTED, &delivered(&unmasked, OUTSIDE[f], &ROUTED, udp(53, 40_000))),
        // It was sent to the host, and has arrived.
        case_after("an answer with its last hop", &last_hop, asked(udp(40_000, 53)))
            .delivers(&CLIENT, &arrived(to_client(&last_hop, udp(53, 40_000)))),
        case(
            "an answer with its last hop, to a container",
            &Datagram { ttl: 1, ..unmasked.clone() },
        )
        .after(FromContainer, ROUTED.frame(&ROUTED.sends(OUTSIDE[f], udp(40_000, 53))))
        .drops(DropReason::TtlExpired),
        case_after("an answer whose edit fails", &dns, asked(udp(40_000, 53)))
            .refusing_edits()
            .drops(DropReason::EditFailed),
    ]
}

fn published(f: Family) -> Vec<Case> {
    let web = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080));
    let web_alias = incoming(OUTSIDE[f], ALIAS[f], syn(40_000, 8080));
    let web_other = incoming(OUTSIDE[f], HOST1[f], syn(40_000, 8080));
    let dns = incoming(OUTSIDE[f], ALIAS[f], udp(40_000, 5353));
    let quiet = incoming(OUTSIDE[f], ALIAS[f], syn(40_000, 9090));
    let to_web = |d: &Datagram, layer4| delivered(d, OUTSIDE[f], &WEB, layer4);
    let last_hop = Datagram { ttl: 1, ..web.clone() };
    vec![
        case("a SYN to a published port", &web).delivers(&WEB, &to_web(&web, syn(40_000, 80))),
        case("a datagram to a published port", &dns).delivers(&WEB, &to_web(&dns, udp(40_000, 53))),
        case("to a port of one address", &quiet)
            .delivers(&QUIET, &delivered(&quiet, OUTSIDE[f], &QUIET, syn(40_000, 90))),
        case("to that port of another address", &incoming(OUTSIDE[f], HOST[f], syn(40_000, 9090)))
            .passes(),
        case("from one client port by two addresses", &web_alias)
            .after(FromUplink, arrives(&web))
            .delivers(&WEB, &to_web(&web_alias, syn(SNAT_PORT, 80))),
        case("from one client port by three addresses", &web_other)
            .after(FromUplink, arrives(&web))
            .after(FromUplink, arrives(&web_alias))
            .drops(DropReason::PortsExhausted),
        case(
            "to a published port in the middle of a connection",
            &incoming(OUTSIDE[f], HOST[f], ack(40_000, 8080)),
        )
        .passes(),
        case(
            "to a port whose container is gone",
            &incoming(OUTSIDE[f], HOST[f], syn(40_000, 6060)),
        )
        .drops(DropReason::NoEndpoint),
        case("to a port of an internal network", &incoming(OUTSIDE[f], HOST[f], syn(40_000, 7070)))
            .drops(DropReason::Internal),
        case("to a published port with its last hop", &last_hop)
            .delivers(&WEB, &arrived(to_web(&last_hop, syn(40_000, 80)))),
        case("to a published port before there is a configuration", &web)
            .given(|world| world.config = None)
            .drops(DropReason::NotConfigured),
    ]
}

fn foreign(f: Family) -> Vec<Case> {
    let host = incoming(OUTSIDE[f], HOST[f], syn(40_000, 22));
    let group = Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]);
    let behind = Dual::new([8, 8, 8, 8], [0x2001, 0x4860, 0, 0, 0, 0, 0, 0x88])[f];
    let mut arp = arrives(&host);
    arp.bytes[12..14].copy_from_slice(&[8, 6]);
    let short = frame(UP1, vec![2; 13]);
    vec![
        case("to the host", &host).passes(),
        case(
            "an echo request to the host",
            &incoming(OUTSIDE[f], HOST[f], Layer4::EchoRequest { id: 7 }),
        )
        .passes(),
        case("to someone behind the host", &incoming(OUTSIDE[f], behind, udp(1, 2))).passes(),
        case("multicast", &Datagram { dst_mac: group, ..host.clone() }).passes(),
        case("a fragment to the host", &Datagram { fragment: 0x2000, ..host.clone() }).passes(),
        Case::new(FromUplink, "ARP", arp).passes(),
        Case::new(FromUplink, "an IP header that lies", cut_short(arrives(&host))).passes(),
        Case::new(FromUplink, "no Ethernet header", short).passes().model_only(),
        Case::new(FromUplink, "a VLAN tag set aside", Frame { vlan: true, ..arrives(&host) })
            .passes()
            .model_only(),
    ]
}

fn refusals(f: Family) -> Vec<Case> {
    let direct = |layer4| incoming(OUTSIDE[f], WEB.address[f], layer4);
    let (nowhere, group): (IpAddr, IpAddr) = match f {
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(224, 0, 0, 1).into()),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), ALL_NODES),
    };
    let martian = |what, src| case(what, &incoming(src, HOST[f], syn(40_000, 8080)));
    let mut all = vec![
        case("to a container's address", &direct(syn(40_000, 80))).drops(DropReason::DirectAccess),
        case("an echo request to a container", &direct(Layer4::EchoRequest { id: 7 }))
            .drops(DropReason::DirectAccess),
        case(
            "a fragment to a container",
            &Datagram { fragment: 0x00b9, ..direct(udp(40_000, 53)) },
        )
        .drops(DropReason::DirectAccess),
        case("GRE to a container", &direct(Layer4::Raw { proto: 47 }))
            .drops(DropReason::DirectAccess),
        case(
            "to an address of a network that nobody has",
            &incoming(OUTSIDE[f], NOBODY[f], syn(40_000, 80)),
        )
        .drops(DropReason::DirectAccess),
        case("to an internal network", &incoming(OUTSIDE[f], INNER.address[f], syn(40_000, 70)))
            .drops(DropReason::DirectAccess),
        martian("from the host's own address", HOST1[f]).drops(DropReason::Martian),
        martian("from a container's address", CLIENT.address[f]).drops(DropReason::Martian),
        martian("from a gateway", gateway(1)[f]).drops(DropReason::Martian),
        martian("from loopback", LOCALHOST[f]).drops(DropReason::Martian),
        martian("from nowhere", nowhere).drops(DropReason::Martian),
        martian("from a group", group).drops(DropReason::Martian),
    ];
    if f == Family::V4 {
        let other_loopback = Ipv4Addr::new(127, 0, 0, 9).into();
        all.extend([
            martian("from all of loopback", other_loopback).drops(DropReason::Martian),
            martian("from everyone", Ipv4Addr::BROADCAST.into()).drops(DropReason::Martian),
        ]);
    }
    all
}
