//! Datagrams in pieces.

use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, ack, delivered, routed, udp};
use crate::{
    abi::Family,
    model::{
        DESTINATION, Datagram, Extension, Frame, HOP_BY_HOP, Layer4,
        scene::{
            ALIAS, CLIENT, FAR, HOST, OUTSIDE, ROUTER_MAC, UP0, UP1, UPLINK_MAC, WEB, frame,
            incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromUplink, ToUplink},
    },
};

/// Bytes of IP that a piece has at most.
const MTU: usize = 1280;

pub(super) fn cases(f: Family) -> Vec<Case> {
    let mut all = [outbound(f), inbound(f), misordered(f), odd(f)].concat();
    if f == Family::V4 {
        all.extend(too_long());
    } else {
        all.extend(with_extensions());
    }
    all
}

/// `datagram` with so much in it that it takes three pieces.
fn long(datagram: Datagram, id: u32) -> Datagram {
    Datagram { payload: (0..=255).cycle().take(3000).collect(), id, ..datagram }
}

fn pieces(datagram: &Datagram) -> [Datagram; 3] {
    datagram.fragments(MTU).try_into().expect("three pieces")
}

fn from_client(piece: &Datagram) -> Frame {
    CLIENT.frame(piece)
}

fn arrives(piece: &Datagram) -> Frame {
    frame(UP0, piece.frame())
}

fn outbound(f: Family) -> Vec<Case> {
    let whole = long(CLIENT.sends(OUTSIDE[f], udp(40_000, 53)), 0x0a0b_0c0d);
    let [first, second, last] = pieces(&whole);
    let out = pieces(&routed(&whole, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53)));
    let back = long(incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT)), 9);
    let answers = pieces(&back);
    let got = pieces(&delivered(&back, OUTSIDE[f], &CLIENT, udp(53, 40_000)));
    let case = |what, piece: &Datagram| Case::new(FromContainer, what, from_client(piece));
    let short = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let answer = |what, n: usize| {
        let mut case = Case::new(FromUplink, what, arrives(&answers[n]))
            .after(FromContainer, CLIENT.frame(&short));
        for piece in &answers[..n] {
            case = case.after(FromUplink, arrives(piece));
        }
        case.delivers(&CLIENT, &got[n])
    };
    vec![
        case("the first piece", &first).forwards(UP0, &out[0]),
        case("the second piece", &second)
            .after(FromContainer, from_client(&first))
            .forwards(UP0, &out[1]),
        case("the last piece", &last)
            .after(FromContainer, from_client(&first))
            .after(FromContainer, from_client(&second))
            .forwards(UP0, &out[2]),
        case("the last piece before the second", &last)
            .after(FromContainer, from_client(&first))
            .forwards(UP0, &out[2]),
        case("the second piece after the last", &second)
            .after(FromContainer, from_client(&first))
            .after(FromContainer, from_client(&last))
            .forwards(UP0, &out[1]),
        answer("the first piece of an answer", 0),
        answer("the second piece of an answer", 1),
        answer("the last piece of an answer", 2),
    ]
}

fn inbound(f: Family) -> Vec<Case> {
    let whole = long(incoming(OUTSIDE[f], HOST[f], udp(40_000, 5353)), 7);
    let other = long(incoming(OUTSIDE[f], HOST[f], udp(40_000, 22)), 8);
    let got = pieces(&delivered(&whole, OUTSIDE[f], &WEB, udp(40_000, 53)));
    let (theirs, others) = (pieces(&whole), pieces(&other));
    let reply = long(WEB.sends(OUTSIDE[f], udp(53, 40_000)), 3);
    let replies = pieces(&reply);
    let seen = pieces(&routed(&reply, HOST[f], OUTSIDE[f], udp(5353, 40_000)));
    let case = |what, piece: &Datagram| Case::new(FromUplink, what, arrives(piece));
    vec![
        case("the first piece to a published port", &theirs[0]).delivers(&WEB, &got[0]),
        case("the second piece to a published port", &theirs[1])
            .after(FromUplink, arrives(&theirs[0]))
            .delivers(&WEB, &got[1]),
        case("the last piece to a published port", &theirs[2])
            .after(FromUplink, arrives(&theirs[0]))
            .after(FromUplink, arrives(&theirs[1]))
            .delivers(&WEB, &got[2]),
        case("a piece to the host, between others", &others[1])
            .after(FromUplink, arrives(&theirs[0]))
            .after(FromUplink, arrives(&others[0]))
            .passes(),
        case("a piece to a published port, between others", &theirs[1])
            .after(FromUplink, arrives(&theirs[0]))
            .after(FromUplink, arrives(&others[0]))
            .after(FromUplink, arrives(&others[1]))
            .delivers(&WEB, &got[1]),
        Case::new(FromContainer, "the first piece of a reply", WEB.frame(&replies[0]))
            .after(FromUplink, arrives(&theirs[0]))
            .forwards(UP0, &seen[0]),
        Case::new(FromContainer, "the second piece of a reply", WEB.frame(&replies[1]))
            .after(FromUplink, arrives(&theirs[0]))
            .after(FromContainer, WEB.frame(&replies[0]))
            .forwards(UP0, &seen[1]),
    ]
}

fn misordered(f: Family) -> Vec<Case> {
    let early = DropReason::FragmentOrder;
    let out = pieces(&long(CLIENT.sends(OUTSIDE[f], udp(40_000, 53)), 5));
    let published = pieces(&long(incoming(OUTSIDE[f], HOST[f], udp(40_000, 5353)), 7));
    let to_host = pieces(&long(incoming(OUTSIDE[f], HOST[f], udp(40_000, 22)), 7));
    let reply = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let answer = pieces(&long(incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT)), 9));
    let hairpin = pieces(&long(CLIENT.sends(HOST[f], udp(40_000, 5353)), 5));
    let own_host = pieces(&long(CLIENT.sends(HOST[f], udp(40_000, 22)), 5));
    let told = pieces(&long(CLIENT.tells(f, &WEB, udp(40_000, 22)), 5));
    let again = pieces(&long(incoming(OUTSIDE[f], ALIAS[f], udp(40_000, 5353)), 7));
    let got = pieces(&delivered(
        &long(incoming(OUTSIDE[f], ALIAS[f], udp(40_000, 5353)), 7),
        OUTSIDE[f],
        &WEB,
        udp(40_000, 53),
    ));
    let from = |what, piece: &Datagram| Case::new(FromContainer, what, from_client(piece));
    let to = |what, piece: &Datagram| Case::new(FromUplink, what, arrives(piece));
    vec![
        from("a piece before the first", &out[1]).drops(early),
        from("a piece of a datagram that has gone by", &out[1])
            .after(FromContainer, from_client(&out[0]))
            .after(FromContainer, from_client(&out[1]))
            .after(FromContainer, from_client(&out[2]))
            .drops(early),
        from("a piece to a neighbour before the first", &told[1]).delivers(&WEB, &told[1]),
        from("a piece to the host before the first", &hairpin[1]).arrives(),
        from("the first piece of a hairpin after another", &hairpin[0])
            .after(FromContainer, from_client(&hairpin[1]))
            .drops(early),
        from("the first piece to the host after another", &own_host[0])
            .after(FromContainer, from_client(&own_host[1]))
            .arrives(),
        to("a piece before the first", &published[1]).passes(),
        to("the first piece to a published port after another", &published[0])
            .after(FromUplink, arrives(&published[1]))
            .drops(early),
        to("the first piece to the host after another", &to_host[0])
            .after(FromUplink, arrives(&to_host[1]))
            .passes(),
        to("a piece to the host after the first and another before it", &to_host[2])
            .after(FromUplink, arrives(&to_host[1]))
            .after(FromUplink, arrives(&to_host[0]))
            .passes(),
        to("the first piece of an answer after another", &answer[0])
            .after(FromContainer, CLIENT.frame(&reply))
            .after(FromUplink, arrives(&answer[1]))
            .drops(early),
        to("of the same id to another address", &again[0])
            .after(FromUplink, arrives(&published[1]))
            .delivers(&WEB, &got[0]),
        to("a piece to a container", &Datagram { dst: WEB.address[f], ..published[1].clone() })
            .drops(DropReason::DirectAccess),
    ]
}

fn odd(f: Family) -> Vec<Case> {
    // Too small to have the ports: nobody sends that in earnest (RFC 1858).
    let tiny = |datagram: Datagram| {
        let whole = Datagram { id: 77, ..datagram };
        let payload = whole.segment()[..8].to_vec();
        let layer4 = Layer4::Raw { proto: 6 };
        Datagram { payload, layer4, fragment: 0x2000, ..whole }
    };
    let sent = tiny(CLIENT.sends(OUTSIDE[f], ack(40_000, 80)));
    let arrived = tiny(incoming(OUTSIDE[f], HOST[f], ack(40_000, 8080)));
    let gre = CLIENT.sends(OUTSIDE[f], Layer4::Raw { proto: 47 });
    let [first, second, _] = pieces(&long(gre.clone(), 78));
    let gre_out = long(routed(&gre, HOST[f], OUTSIDE[f], Layer4::Raw { proto: 47 }), 78);
    let [first_out, second_out, _] = pieces(&gre_out);
    let echo = CLIENT.sends(OUTSIDE[f], Layer4::EchoRequest { id: 3 });
    let [ping, _, pong] = pieces(&long(echo.clone(), 79));
    let echo = routed(&echo, HOST[f], OUTSIDE[f], Layer4::EchoRequest { id: SNAT_PORT });
    let [ping_out, _, pong_out] = pieces(&long(echo, 79));
    vec![
        Case::new(FromContainer, "a first piece without its ports", from_client(&sent))
            .drops(DropReason::Malformed),
        Case::new(FromUplink, "a first piece without its ports", arrives(&arrived)).passes(),
        Case::new(FromContainer, "the first piece of GRE", from_client(&first))
            .forwards(UP0, &first_out),
        Case::new(FromContainer, "another piece of GRE", from_client(&second))
            .after(FromContainer, from_client(&first))
            .forwards(UP0, &second_out),
        Case::new(FromContainer, "the first piece of a ping", from_client(&ping))
            .forwards(UP0, &ping_out),
        Case::new(FromContainer, "the last piece of a ping", from_client(&pong))
            .after(FromContainer, from_client(&ping))
            .forwards(UP0, &pong_out),
    ]
}

/// Pieces longer than the path's MTU are the stack's to cut, and come by again
/// at the uplink.
fn too_long() -> Vec<Case> {
    let f = Family::V4;
    let whole = long(CLIENT.sends(FAR[f], udp(40_000, 53)), 0x0a0b);
    let [first, second, last]: [Datagram; 3] =
        whole.fragments(1500).try_into().expect("three pieces");
    let wire = |piece: &Datagram| {
        let piece = Datagram { src_mac: UPLINK_MAC, dst_mac: ROUTER_MAC, ..piece.clone() };
        Datagram { ttl: piece.ttl - 1, ..piece }
    };
    let cut: Vec<_> = wire(&whole).fragments(1300);
    let out = Datagram { src: ALIAS[f], layer4: udp(SNAT_PORT, 53), ..wire(&whole) };
    let out: Vec<_> = out.fragments(1300);
    let leaves = |piece: &Datagram| frame(UP1, piece.frame());
    vec![
        Case::new(FromContainer, "a first piece that the path does not take", CLIENT.frame(&first))
            .arrives(),
        Case::new(
            FromContainer,
            "another piece that the path does not take",
            CLIENT.frame(&second),
        )
        .after(FromContainer, CLIENT.frame(&first))
        .arrives(),
        Case::new(ToUplink, "the first piece of what the stack cut", leaves(&cut[0]))
            .after(FromContainer, CLIENT.frame(&first))
            .translates(&out[0]),
        Case::new(ToUplink, "the last piece of what the stack cut", leaves(&cut[2]))
            .after(FromContainer, CLIENT.frame(&first))
            .after(ToUplink, leaves(&cut[0]))
            .after(FromContainer, CLIENT.frame(&second))
            .after(ToUplink, leaves(&cut[1]))
            .after(FromContainer, CLIENT.frame(&last))
            .translates(&out[2]),
        Case::new(ToUplink, "a piece before the first", leaves(&cut[1]))
            .drops(DropReason::FragmentOrder),
    ]
}

fn with_extensions() -> Vec<Case> {
    let f = Family::V6;
    let extensions = vec![Extension::new(HOP_BY_HOP, 0), Extension::new(DESTINATION, 0)];
    let whole = long(CLIENT.sends(OUTSIDE[f], udp(40_000, 53)), 5);
    let whole = Datagram { extensions, ..whole };
    let [first, second, _] = pieces(&whole);
    let [first_out, second_out, _] =
        pieces(&routed(&whole, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53)));
    vec![
        Case::new(FromContainer, "the first piece with extension headers", from_client(&first))
            .forwards(UP0, &first_out),
        Case::new(FromContainer, "another piece with extension headers", from_client(&second))
            .after(FromContainer, from_client(&first))
            .forwards(UP0, &second_out),
    ]
}
