//! Protocols besides TCP, UDP and ping; extension headers; sizes; odd ones.

use core::net::IpAddr;
use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, delivered, routed, syn, udp};
use crate::{
    abi::{
        Family, Mac,
        wire::{TCP_ACK, TCP_SYN},
    },
    model::{
        DESTINATION, Datagram, Extension, Frame, HOP_BY_HOP, Layer4, ROUTING,
        scene::{
            ALIAS, CLIENT, Dual, FAR, FAR_MTU, HOST, OUTSIDE, ROUTER_MAC, UP0, UP1, UPLINK_MAC,
            WEB, frame, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromUplink, ToContainer, ToUplink},
    },
};

const GRE: Layer4 = Layer4::Raw { proto: 47 };
const ESP: Layer4 = Layer4::Raw { proto: 50 };
const SCTP: Layer4 = Layer4::Sctp { sport: 40_000, dport: 9 };

pub(super) fn cases(f: Family) -> Vec<Case> {
    let mut all = [without_ports(f), sctp(f), segments(f), odd(f)].concat();
    if f == Family::V6 {
        all.extend([extensions(), mapped()].concat());
    }
    all
}

fn arrives(datagram: &Datagram) -> Frame {
    frame(UP0, datagram.frame())
}

fn without_ports(f: Family) -> Vec<Case> {
    let mut all = vec![];
    for (what, layer4) in [("GRE", GRE), ("ESP", ESP)] {
        let sent = CLIENT.sends(OUTSIDE[f], layer4);
        let back = incoming(OUTSIDE[f], HOST[f], layer4);
        let others = WEB.sends(OUTSIDE[f], layer4);
        all.extend([
            Case::new(FromContainer, what, CLIENT.frame(&sent))
                .forwards(UP0, &routed(&sent, HOST[f], OUTSIDE[f], layer4)),
            Case::new(FromContainer, "of another container to the same end", WEB.frame(&others))
                .after(FromContainer, CLIENT.frame(&sent))
                .drops(DropReason::TupleTaken),
            Case::new(FromUplink, what, arrives(&back))
                .after(FromContainer, CLIENT.frame(&sent))
                .delivers(&CLIENT, &delivered(&back, OUTSIDE[f], &CLIENT, layer4)),
            Case::new(FromUplink, "that nobody asked for", arrives(&back)).passes(),
        ]);
    }
    let timestamp = Layer4::Icmp { kind: 13, code: 0, rest: 0 };
    let unusual =
        if f == Family::V4 { timestamp } else { Layer4::Icmp { kind: 139, code: 0, rest: 0 } };
    for (what, layer4) in [
        ("DCCP", Layer4::Raw { proto: 33 }),
        ("UDP-Lite", Layer4::Raw { proto: 136 }),
        ("ICMP that is neither echo nor error", unusual),
    ] {
        let sent = CLIENT.frame(&CLIENT.sends(OUTSIDE[f], layer4));
        let back = arrives(&incoming(OUTSIDE[f], HOST[f], layer4));
        all.extend([
            Case::new(FromContainer, what, sent).drops(DropReason::UnsupportedProtocol),
            Case::new(FromUplink, what, back).passes(),
        ]);
    }
    all
}

fn sctp(f: Family) -> Vec<Case> {
    let sent = CLIENT.sends(OUTSIDE[f], SCTP);
    let others = WEB.sends(OUTSIDE[f], SCTP);
    let back = Layer4::Sctp { sport: 9, dport: 40_000 };
    let back = incoming(OUTSIDE[f], HOST[f], back);
    let published = Layer4::Sctp { sport: 40_000, dport: 9899 };
    let asked = incoming(OUTSIDE[f], HOST[f], published);
    let hairpin = CLIENT.sends(HOST[f], published);
    vec![
        Case::new(FromContainer, "SCTP keeps its ports", CLIENT.frame(&sent))
            .forwards(UP0, &routed(&sent, HOST[f], OUTSIDE[f], SCTP)),
        Case::new(FromContainer, "SCTP by the same ports as another's", WEB.frame(&others))
            .after(FromContainer, CLIENT.frame(&sent))
            .drops(DropReason::TupleTaken),
        Case::new(FromUplink, "an answer by SCTP", arrives(&back))
            .after(FromContainer, CLIENT.frame(&sent))
            .delivers(&CLIENT, &delivered(&back, OUTSIDE[f], &CLIENT, back.layer4)),
        Case::new(FromUplink, "SCTP to a published port", arrives(&asked))
            .delivers(&WEB, &delivered(&asked, OUTSIDE[f], &WEB, published)),
        Case::new(FromContainer, "SCTP to a neighbour's published port", CLIENT.frame(&hairpin))
            .delivers(&WEB, &delivered(&hairpin, CLIENT.address[f], &WEB, published)),
    ]
}

fn segments(f: Family) -> Vec<Case> {
    let headers = if f == Family::V4 { 40 } else { 60 };
    let fits = u16::try_from(FAR_MTU).expect("an MTU") - headers;
    let of = |mss, flags| Layer4::TcpMss { sport: 40_000, dport: 443, flags, mss };
    let syn_of = |mss| CLIENT.sends(FAR[f], of(mss, TCP_SYN));
    let out = |mss, sport| {
        let layer4 = Layer4::TcpMss { sport, dport: 443, flags: TCP_SYN, mss };
        routed(&syn_of(mss), ALIAS[f], FAR[f], layer4)
    };
    let asked = incoming(FAR[f], HOST[f], syn(40_000, 8080));
    let agrees = |sport, mss| {
        let flags = TCP_SYN | TCP_ACK;
        Layer4::TcpMss { sport, dport: 40_000, flags, mss }
    };
    let reply = WEB.sends(FAR[f], agrees(80, 1460));
    let replied = routed(&reply, HOST[f], FAR[f], agrees(8080, fits));
    let unasked = CLIENT.sends(OUTSIDE[f], of(1460, TCP_SYN));
    let unchanged = Layer4::TcpMss { sport: SNAT_PORT, dport: 443, flags: TCP_SYN, mss: 1460 };
    let unchanged = routed(&unasked, HOST[f], OUTSIDE[f], unchanged);
    let wide = f == Family::V4;
    let case = |what, mss| Case::new(FromContainer, what, CLIENT.frame(&syn_of(mss)));
    let mut all = vec![
        case("a SYN whose segments the path does not take", 1460)
            .forwards(UP1, &out(fits, SNAT_PORT)),
        case("a SYN whose segments fit", 1000).forwards(UP1, &out(1000, SNAT_PORT)),
        Case::new(
            FromContainer,
            "a reply whose segments the path does not take",
            WEB.frame(&reply),
        )
        .after(FromUplink, frame(UP1, asked.frame()))
        .forwards(UP1, &replied),
    ];
    if wide {
        all.push(
            Case::new(FromContainer, "a SYN by the widest path", CLIENT.frame(&unasked))
                .forwards(UP0, &unchanged),
        );
    }
    all
}

fn odd(f: Family) -> Vec<Case> {
    let nameless = Layer4::EchoRequest { id: 0 };
    let ping = CLIENT.sends(OUTSIDE[f], nameless);
    let pong = incoming(OUTSIDE[f], HOST[f], Layer4::EchoReply { id: SNAT_PORT });
    let web = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080));
    let nowhere = Dual::new([0; 4], [0; 8])[f];
    let elsewhere = Mac::from_octets([0x02, 0, 0, 0, 0, 0x77]);
    let overheard = Datagram { dst_mac: elsewhere, ..web.clone() };
    let direct = incoming(OUTSIDE[f], WEB.address[f], syn(1, 80));
    let answer = incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let answer = Datagram { dst_mac: elsewhere, ..answer };
    vec![
        Case::new(FromContainer, "an echo whose id is 0", CLIENT.frame(&ping)).forwards(
            UP0,
            &routed(&ping, HOST[f], OUTSIDE[f], Layer4::EchoRequest { id: SNAT_PORT }),
        ),
        Case::new(FromUplink, "the answer to an echo whose id is 0", arrives(&pong))
            .after(FromContainer, CLIENT.frame(&ping))
            .delivers(&CLIENT, &delivered(&pong, OUTSIDE[f], &CLIENT, Layer4::EchoReply { id: 0 })),
        Case::new(FromUplink, "to a published port and another MAC", arrives(&overheard)).passes(),
        Case::new(FromUplink, "to a container and another MAC", {
            arrives(&Datagram { dst_mac: elsewhere, ..direct })
        })
        .passes(),
        Case::new(FromContainer, "to no address", CLIENT.frame(&CLIENT.sends(nowhere, syn(1, 80))))
            .arrives(),
        Case::new(FromUplink, "an answer to another MAC", arrives(&answer))
            .after(FromContainer, CLIENT.frame(&CLIENT.sends(OUTSIDE[f], udp(40_000, 53))))
            .passes(),
    ]
}

fn extensions() -> Vec<Case> {
    let f = Family::V6;
    let with = |kinds: &[u8], datagram: Datagram| {
        let extensions = kinds.iter().map(|kind| Extension::new(*kind, 0)).collect();
        Datagram { extensions, ..datagram }
    };
    let all_kinds = [HOP_BY_HOP, ROUTING, DESTINATION];
    let dns = with(&all_kinds, CLIENT.sends(OUTSIDE[f], udp(40_000, 53)));
    let answer = with(&all_kinds, incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT)));
    let atomic = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let atomic = Datagram { fragment: Datagram::ATOMIC, id: 5, ..atomic };
    let web = with(&[DESTINATION], incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080)));
    let told = with(&[HOP_BY_HOP], CLIENT.tells(f, &WEB, syn(40_000, 80)));
    let too_many = with(&[DESTINATION; 9], CLIENT.sends(OUTSIDE[f], udp(40_000, 53)));
    let too_many_in = with(&[DESTINATION; 9], incoming(OUTSIDE[f], HOST[f], udp(1, 5353)));
    let too_many_direct = Datagram { dst: WEB.address[f], ..too_many_in.clone() };
    let long = Extension::new(DESTINATION, 30);
    let long = Datagram { extensions: vec![long], ..CLIENT.sends(OUTSIDE[f], udp(40_000, 53)) };
    let direct = with(&all_kinds, incoming(OUTSIDE[f], WEB.address[f], syn(1, 80)));
    let next_none = CLIENT.sends(OUTSIDE[f], Layer4::Raw { proto: 59 });
    let forwarded = Datagram { src_mac: UPLINK_MAC, dst_mac: ROUTER_MAC, ..dns.clone() };
    let snat = Datagram { src: HOST[f], layer4: udp(SNAT_PORT, 53), ..forwarded.clone() };
    vec![
        Case::new(FromContainer, "extension headers", CLIENT.frame(&dns))
            .forwards(UP0, &routed(&dns, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53))),
        Case::new(FromUplink, "an answer with extension headers", arrives(&answer))
            .after(FromContainer, CLIENT.frame(&dns))
            .delivers(&CLIENT, &delivered(&answer, OUTSIDE[f], &CLIENT, udp(53, 40_000))),
        Case::new(FromContainer, "a whole datagram with a fragment header", CLIENT.frame(&atomic))
            .forwards(UP0, &routed(&atomic, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53))),
        Case::new(FromUplink, "to a published port with an extension header", arrives(&web))
            .delivers(&WEB, &delivered(&web, OUTSIDE[f], &WEB, syn(40_000, 80))),
        Case::new(FromContainer, "to a neighbour with an extension header", CLIENT.frame(&told))
            .delivers(&WEB, &told),
        Case::new(FromContainer, "too many extension headers", CLIENT.frame(&too_many))
            .drops(DropReason::Malformed),
        Case::new(FromContainer, "too long an extension header", CLIENT.frame(&long))
            .drops(DropReason::Malformed),
        Case::new(FromUplink, "to the host with too many extension headers", arrives(&too_many_in))
            .passes(),
        // The stack's to refuse, and to_container's where it does not.
        Case::new(
            FromUplink,
            "to a container with too many extension headers",
            arrives(&too_many_direct),
        )
        .passes(),
        Case::new(ToContainer, "too many extension headers, forwarded by the stack", {
            WEB.frame(&Datagram { dst_mac: WEB.mac, ..too_many_direct.clone() })
        })
        .drops(DropReason::DirectAccess),
        Case::new(FromUplink, "to a container behind extension headers", arrives(&direct))
            .drops(DropReason::DirectAccess),
        Case::new(FromContainer, "nothing after the header", CLIENT.frame(&next_none))
            .forwards(UP0, &routed(&next_none, HOST[f], OUTSIDE[f], next_none.layer4)),
        Case::new(ToUplink, "extension headers that the stack forwarded", {
            frame(UP0, forwarded.frame())
        })
        .translates(&snat),
    ]
}

/// IPv4 addresses in IPv6's clothes.
fn mapped() -> Vec<Case> {
    let f = Family::V6;
    let mapped = |container: &crate::model::scene::Container| -> IpAddr {
        container.address.v4().to_ipv6_mapped().into()
    };
    let out = CLIENT.sends(OUTSIDE[f], syn(1, 80));
    let told = CLIENT.tells(f, &WEB, syn(1, 80));
    let arrived = incoming(OUTSIDE[f], HOST[f], syn(1, 8080));
    let from = |what, datagram: &Datagram| Case::new(FromContainer, what, CLIENT.frame(datagram));
    let refused = DropReason::Malformed;
    vec![
        from("from its IPv4 address in IPv6", &Datagram { src: mapped(&CLIENT), ..out.clone() })
            .drops(refused),
        from("to a neighbour's IPv4 address in IPv6", &Datagram { dst: mapped(&WEB), ..told })
            .drops(refused),
        Case::new(FromUplink, "to a container's IPv4 address in IPv6", {
            arrives(&Datagram { dst: mapped(&WEB), ..arrived.clone() })
        })
        .passes(),
        Case::new(ToContainer, "to a container's IPv4 address in IPv6", {
            WEB.frame(&Datagram { dst: mapped(&WEB), dst_mac: WEB.mac, ..arrived })
        })
        .drops(refused),
        Case::new(ToUplink, "a container's IPv4 address in IPv6", {
            frame(UP0, Datagram { src: mapped(&CLIENT), ..out }.frame())
        })
        .drops(refused),
    ]
}
