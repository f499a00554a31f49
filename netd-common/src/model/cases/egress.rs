//! What the host's own stack sends, to a container or to an uplink.

use core::net::{IpAddr, Ipv4Addr};
use std::{vec, vec::Vec};

use super::{ALL_NODES, Case, SNAT_PORT, cut_short, rst, syn, udp};
use crate::{
    abi::Family,
    model::{
        Datagram, Frame, Layer4,
        scene::{
            APART, CLIENT, Container, Dual, HOST, INNER, NOBODY, OFF, ONE, OUTSIDE, QUIET, ROUTED,
            ROUTER_MAC, UP0, UP1, UPLINK_MAC, WEB, bridge, family, frame, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromHost, FromUplink, ToContainer, ToUplink},
        Verdict,
    },
};

pub(super) fn cases(f: Family) -> Vec<Case> {
    [to_container(f), from_host(f), to_uplink(f), safety_net(f)].concat()
}

/// From `src` to the container, as the bridge sends it.
fn reaches(container: &Container, src: IpAddr, layer4: Layer4) -> Frame {
    let (src_mac, dst_mac) = (container.gateway_mac, container.mac);
    let datagram =
        Datagram { src_mac, dst_mac, ..incoming(src, container.address[family(src)], layer4) };
    container.frame(&datagram)
}

fn to_container(f: Family) -> Vec<Case> {
    let case = |what, frame| Case::new(ToContainer, what, frame);
    let lies = cut_short(reaches(&WEB, HOST[f], syn(1, 2)));
    let mut arp = reaches(&WEB, HOST[f], syn(1, 2));
    arp.bytes[12..14].copy_from_slice(&[8, 6]);
    let everyone = Ipv4Addr::new(172, 18, 255, 255).into();
    let everyone = if f == Family::V4 { everyone } else { ALL_NODES };
    let broadcast = CLIENT.sends(everyone, udp(68, 67));
    vec![
        case("from the host", reaches(&WEB, HOST[f], syn(40_000, 80))).passes(),
        case("from the gateway", reaches(&WEB, gateway(ONE)[f], syn(40_000, 80))).passes(),
        case("from a neighbour by the bridge", reaches(&WEB, CLIENT.address[f], udp(1, 2)))
            .passes(),
        case("a neighbour's broadcast", WEB.frame(&broadcast)).passes(),
        case("ARP", arp).passes(),
        case("no Ethernet header", frame(WEB.ifindex, vec![2; 13])).passes().model_only(),
        case("an IP header that lies", lies).drops(DropReason::Malformed),
        case("from another network", reaches(&WEB, QUIET.address[f], syn(1, 80)))
            .drops(DropReason::Isolated),
        case("from outside, forwarded by the stack", reaches(&WEB, OUTSIDE[f], syn(1, 80)))
            .drops(DropReason::DirectAccess),
    ]
}

/// As [`reaches`], at the bridge.
fn at_bridge(container: &Container, src: IpAddr, layer4: Layer4) -> Frame {
    Frame { ifindex: bridge(container.network), ..reaches(container, src, layer4) }
}

fn from_host(f: Family) -> Vec<Case> {
    let case = |what, frame| Case::new(FromHost, what, frame);
    let lies = cut_short(at_bridge(&WEB, HOST[f], syn(1, 2)));
    let mut arp = at_bridge(&WEB, HOST[f], syn(1, 2));
    arp.bytes[12..14].copy_from_slice(&[8, 6]);
    let mut astray = at_bridge(&WEB, HOST[f], syn(40_000, 80));
    astray.bytes[5] ^= 1;
    let mut marked = at_bridge(&WEB, QUIET.address[f], syn(1, 80));
    marked.translated = true;
    let let_in = Frame { ifindex: WEB.ifindex, ..marked.clone() };
    let guest = Frame { ingress_ifindex: UP1, ..at_bridge(&ROUTED, OUTSIDE[f], syn(1, 80)) };
    vec![
        case("from the host", at_bridge(&WEB, HOST[f], syn(40_000, 80))).goes_past_the_bridge(&WEB),
        case("from the gateway", at_bridge(&WEB, gateway(ONE)[f], udp(53, 40_000)))
            .goes_past_the_bridge(&WEB),
        case("from the host to another's MAC", astray).passes(),
        case("from outside by a link that is not trusted", guest).passes(),
        case("from the host to a network that it is no member of", {
            at_bridge(&APART, HOST[f], syn(40_000, 80))
        })
        .passes(),
        case("ARP", arp).passes(),
        case("an IP header that lies", lies).passes(),
        case("from another network", at_bridge(&WEB, QUIET.address[f], syn(1, 80))).passes(),
        case("from another network, under netd's mark", marked).passes().model_only(),
        case("from outside, forwarded by the stack", at_bridge(&WEB, OUTSIDE[f], syn(1, 80)))
            .passes(),
        Case::new(ToContainer, "let in at the bridge", let_in).passes().model_only(),
    ]
}

/// `datagram` as the stack forwards it to the uplink.
fn leaves(datagram: &Datagram) -> Frame {
    let on_the_wire = wire(datagram);
    frame(UP0, on_the_wire.frame())
}

fn wire(datagram: &Datagram) -> Datagram {
    Datagram { src_mac: UPLINK_MAC, dst_mac: ROUTER_MAC, ..datagram.clone() }
}

fn to_uplink(f: Family) -> Vec<Case> {
    let case = |what, datagram: &Datagram| Case::new(ToUplink, what, leaves(datagram));
    let dns = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let out = Datagram { src: HOST[f], layer4: udp(SNAT_PORT, 53), ..wire(&dns) };
    let fragment = Datagram { fragment: 0x2000, ..ROUTED.sends(OUTSIDE[f], udp(1, 53)) };
    let own = incoming(HOST[f], OUTSIDE[f], syn(40_000, 443));
    let mut arp = leaves(&own);
    arp.bytes[12..14].copy_from_slice(&[8, 6]);
    let mut sent = leaves(&out);
    sent.translated = true;
    let mut marked = Case::new(ToUplink, "a container's address under netd's mark", leaves(&dns))
        .becomes(Verdict::PASS)
        .model_only();
    marked.frame.translated = true;
    vec![
        case("the host's own", &own).passes(),
        Case::new(ToUplink, "what netd translated", sent).passes().model_only(),
        marked,
        Case::new(ToUplink, "ARP", arp).passes(),
        Case::new(ToUplink, "no Ethernet header", frame(UP0, vec![2; 13])).passes().model_only(),
        Case::new(ToUplink, "no IP header", frame(UP0, leaves(&own).bytes[..20].to_vec()))
            .passes()
            .model_only(),
        case("what the stack forwarded", &dns).translates(&out),
        case("what the stack forwarded of a known flow", &dns)
            .after(FromContainer, CLIENT.frame(&dns))
            .translates(&out),
        case("from a network that does not masquerade", &ROUTED.sends(OUTSIDE[f], udp(1, 53)))
            .passes(),
        case("a fragment from a network that does not masquerade", &fragment).passes(),
    ]
}

fn safety_net(f: Family) -> Vec<Case> {
    let case = |what, datagram: &Datagram| Case::new(ToUplink, what, leaves(datagram));
    let dns = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let own = WEB.sends(HOST[f], syn(40_000, 8080));
    let nobody = Datagram { src: NOBODY[f], ..dns.clone() };
    let lies = cut_short(leaves(&dns));
    let group = Dual::new([224, 0, 0, 251], [0xff05, 0, 0, 0, 0, 0, 0, 0xfb])[f];
    let unasked = CLIENT.sends(OUTSIDE[f], Layer4::EchoReply { id: 7 });
    vec![
        Case::new(ToUplink, "a container's header that lies", lies).drops(DropReason::Malformed),
        case("a container's address that nobody has", &nobody).drops(DropReason::SpoofedAddress),
        case("out of an internal network", &INNER.sends(OUTSIDE[f], udp(1, 53)))
            .drops(DropReason::Internal),
        case("to where another route leads", &CLIENT.sends(OFF[f], udp(1, 53)))
            .drops(DropReason::NoUplink),
        case("to a container of another network", &CLIENT.sends(APART.address[f], udp(1, 53)))
            .drops(DropReason::Isolated),
        case("to a group", &CLIENT.sends(group, udp(1, 5353))).drops(DropReason::NoUplink),
        case("to the host itself", &CLIENT.sends(HOST[f], syn(1, 22))).drops(DropReason::NoUplink),
        case("of a flow between containers", &own)
            .after(FromContainer, WEB.frame(&own))
            .drops(DropReason::NoUplink),
        case("DCCP", &CLIENT.sends(OUTSIDE[f], Layer4::Raw { proto: 33 }))
            .drops(DropReason::UnsupportedProtocol),
        case("an echo reply that nobody asked for", &unasked).drops(DropReason::NoFlow),
        case("a RST of no flow", &CLIENT.sends(OUTSIDE[f], rst(1, 443))).drops(DropReason::NoFlow),
        case("two flows for one port", &dns)
            .after(FromContainer, WEB.frame(&WEB.sends(OUTSIDE[f], udp(40_000, 53))))
            .drops(DropReason::PortsExhausted),
        case("without a configuration", &dns)
            .given(|world| world.config = None)
            .drops(DropReason::NotConfigured),
        case("from a network that is not known", &dns)
            .given(|world| world.networks.clear())
            .drops(DropReason::NotConfigured),
        case("an edit that fails", &dns).refusing_edits().drops(DropReason::EditFailed),
        Case::new(
            FromUplink,
            "an edit of a published port's that fails",
            frame(UP0, incoming(OUTSIDE[f], HOST[f], syn(1, 8080)).frame()),
        )
        .refusing_edits()
        .drops(DropReason::EditFailed),
    ]
}
