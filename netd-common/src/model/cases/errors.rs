//! ICMP errors: about flows, in the words of whoever hears them; and others.

use core::net::IpAddr;
use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, ack, routed, syn, syn_ack, udp};
use crate::{
    abi::{Family, Mac},
    model::{
        Complaint, Datagram, Frame, Layer4,
        scene::{
            ALIAS, CLIENT, Container, HOST, OUTSIDE, QUIET, ROUTED, ROUTER, ROUTER_MAC, UP0,
            UPLINK_MAC, WEB, frame, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromUplink, ToContainer, ToUplink},
    },
};

/// Bytes that an error quotes after the IP header.
const ALL: usize = usize::MAX;
const EIGHT: usize = 8;

pub(super) fn cases(f: Family) -> Vec<Case> {
    [of_snat(f), of_published_ports(f), of_hairpins(f), unrelated(f)].concat()
}

fn between(error: Datagram, src_mac: Mac, dst_mac: Mac) -> Datagram {
    Datagram { src_mac, dst_mac, ..error }
}

/// `error` as it comes in by the uplink.
fn arrives(error: Datagram) -> Frame {
    frame(UP0, between(error, ROUTER_MAC, UPLINK_MAC).frame())
}

/// As the container hears it, one hop later.
fn heard(error: Datagram, by: &Container) -> Datagram {
    let error = between(error, by.gateway_mac, by.mac);
    Datagram { ttl: error.ttl - 1, ..error }
}

/// `datagram`, quoted with other ends.
fn known_as(datagram: &Datagram, src: IpAddr, dst: IpAddr, layer4: Layer4) -> Datagram {
    Datagram { src, dst, layer4, ..datagram.clone() }
}

fn of_snat(f: Family) -> Vec<Case> {
    let port_unreachable = Complaint::PortUnreachable;
    let mut all = vec![];
    let kinds = [
        ("about TCP", syn(40_000, 443)),
        ("about UDP", udp(40_000, 53)),
        ("about an echo", Layer4::EchoRequest { id: 7 }),
        ("about SCTP", Layer4::Sctp { sport: 40_000, dport: 9 }),
        ("about GRE", Layer4::Raw { proto: 47 }),
    ];
    for (what, layer4) in kinds {
        let asked = CLIENT.sends(OUTSIDE[f], layer4);
        let outside = match layer4 {
            Layer4::Sctp { .. } => layer4,
            _ => layer4.with_ports(SNAT_PORT, layer4.ports().map_or(0, |ports| ports.1)),
        };
        let out = routed(&asked, HOST[f], OUTSIDE[f], outside);
        let inside = known_as(&out, CLIENT.address[f], OUTSIDE[f], layer4);
        for complaint in Complaint::ALL {
            // Nobody sends a source quench any more (RFC 6633).
            let quench = complaint == Complaint::Other && f == Family::V4;
            for quoted in [EIGHT, ALL] {
                let error = out.complaint(ROUTER[f], complaint, quoted);
                let case = Case::new(FromUplink, what, arrives(error))
                    .after(FromContainer, CLIENT.frame(&asked));
                let told = inside.complaint(ROUTER[f], complaint, quoted);
                all.push(if quench {
                    case.passes()
                } else {
                    case.delivers(&CLIENT, &heard(told, &CLIENT))
                });
            }
        }
    }
    let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let out = routed(&asked, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53));
    let inside = known_as(&out, CLIENT.address[f], OUTSIDE[f], udp(40_000, 53));
    let answer = incoming(OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let asked_and = |case: Case| case.after(FromContainer, CLIENT.frame(&asked));
    let by_other_end = out.complaint(OUTSIDE[f], port_unreachable, ALL);
    let last_hop = Datagram { ttl: 1, ..by_other_end.clone() };
    let told = heard(inside.complaint(OUTSIDE[f], port_unreachable, ALL), &CLIENT);
    // The answer as the client got it, and what it says of it.
    let got = known_as(&answer, OUTSIDE[f], CLIENT.address[f], udp(53, 40_000));
    let got = Datagram { src_mac: CLIENT.gateway_mac, dst_mac: CLIENT.mac, ttl: 63, ..got };
    let refused = got.complaint(CLIENT.address[f], port_unreachable, ALL);
    let seen = known_as(&got, OUTSIDE[f], HOST[f], udp(53, SNAT_PORT));
    let refusal = seen.complaint(HOST[f], port_unreachable, ALL);
    let refusal = Datagram { ttl: 63, ..refusal };
    let refusal = between(refusal, CLIENT.mac, CLIENT.gateway_mac);
    let foreign = between(refused.clone(), WEB.mac, WEB.gateway_mac);
    let foreign = Datagram { src: WEB.address[f], ..foreign };
    all.extend([
        asked_and(Case::new(FromUplink, "an error by the other end", arrives(by_other_end)))
            .delivers(&CLIENT, &told),
        asked_and(Case::new(FromUplink, "an error with its last hop", arrives(last_hop)))
            .delivers(&CLIENT, &Datagram { ttl: 1, ..told.clone() }),
        asked_and(Case::new(FromContainer, "an error about an answer", CLIENT.frame(&refused)))
            .after(FromUplink, frame(UP0, answer.frame()))
            .forwards(UP0, &refusal),
        asked_and(Case::new(FromContainer, "an error about another's answer", WEB.frame(&foreign)))
            .after(FromUplink, frame(UP0, answer.frame()))
            .drops(DropReason::SpoofedAddress),
    ]);
    let unmasked = ROUTED.sends(OUTSIDE[f], udp(40_000, 53));
    let out = Datagram { ttl: 63, ..unmasked.clone() };
    let error = out.complaint(ROUTER[f], Complaint::TooBig { mtu: 1280 }, ALL);
    all.push(
        Case::new(FromUplink, "of a network that does not masquerade", arrives(error.clone()))
            .after(FromContainer, ROUTED.frame(&unmasked))
            .delivers(&ROUTED, &heard(error, &ROUTED)),
    );
    all
}

fn of_published_ports(f: Family) -> Vec<Case> {
    let mut all = vec![];
    let too_big = Complaint::TooBig { mtu: 1300 };
    let asked = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080));
    let reply = WEB.sends(OUTSIDE[f], syn_ack(80, 40_000));
    let out = routed(&reply, HOST[f], OUTSIDE[f], syn_ack(8080, 40_000));
    let inside = known_as(&out, WEB.address[f], OUTSIDE[f], syn_ack(80, 40_000));
    for (what, quoted) in [("all of a reply", ALL), ("the first bytes of a reply", EIGHT)] {
        let error = arrives(out.complaint(ROUTER[f], too_big, quoted));
        all.push(
            Case::new(FromUplink, what, error)
                .after(FromUplink, frame(UP0, asked.frame()))
                .after(FromContainer, WEB.frame(&reply))
                .delivers(&WEB, &heard(inside.complaint(ROUTER[f], too_big, quoted), &WEB)),
        );
    }
    let asked = incoming(OUTSIDE[f], HOST[f], udp(40_000, 5353));
    let got = super::delivered(&asked, OUTSIDE[f], &WEB, udp(40_000, 53));
    let seen = known_as(&got, OUTSIDE[f], HOST[f], udp(40_000, 5353));
    for (what, quoted) in
        [("by a container whose port is closed", ALL), ("by one that quotes little", EIGHT)]
    {
        let error = got.complaint(WEB.address[f], Complaint::PortUnreachable, quoted);
        let told = seen.complaint(HOST[f], Complaint::PortUnreachable, quoted);
        let told = between(told, WEB.mac, WEB.gateway_mac);
        all.push(
            Case::new(FromContainer, what, WEB.frame(&error))
                .after(FromUplink, frame(UP0, asked.frame()))
                .forwards(UP0, &Datagram { ttl: 63, ..told }),
        );
    }
    all
}

fn of_hairpins(f: Family) -> Vec<Case> {
    let refuses = Complaint::PortUnreachable;
    let said = |server: &Container, got: &Datagram| {
        let error = got.complaint(server.address[f], refuses, ALL);
        between(error, server.mac, server.gateway_mac)
    };
    let other = CLIENT.sends(ALIAS[f], syn(40_000, 9090));
    let got_other = super::delivered(&other, CLIENT.address[f], &QUIET, syn(40_000, 90));
    let told_other = known_as(&got_other, CLIENT.address[f], ALIAS[f], syn(40_000, 9090));
    let told_other = heard(told_other.complaint(ALIAS[f], refuses, ALL), &CLIENT);
    let same = CLIENT.sends(HOST[f], syn(40_000, 8080));
    let got_same = super::delivered(&same, CLIENT.address[f], &WEB, syn(SNAT_PORT, 80));
    let told_same = known_as(&got_same, CLIENT.address[f], HOST[f], syn(40_000, 8080));
    let told_same = heard(told_same.complaint(HOST[f], refuses, ALL), &CLIENT);
    let on_link = between(said(&WEB, &got_same), WEB.mac, CLIENT.mac);
    let own = WEB.sends(HOST[f], syn(40_000, 8080));
    let got_own = super::delivered(&own, gateway(1)[f], &WEB, syn(40_000, 80));
    let told_own = known_as(&got_own, WEB.address[f], HOST[f], syn(40_000, 8080));
    let told_own = heard(told_own.complaint(HOST[f], refuses, ALL), &WEB);
    vec![
        Case::new(
            FromContainer,
            "by a port of another network",
            QUIET.frame(&said(&QUIET, &got_other)),
        )
        .after(FromContainer, CLIENT.frame(&other))
        .delivers(&CLIENT, &told_other),
        Case::new(FromContainer, "by a neighbour's port", WEB.frame(&said(&WEB, &got_same)))
            .after(FromContainer, CLIENT.frame(&same))
            .delivers(&CLIENT, &told_same),
        Case::new(FromContainer, "by a neighbour's port, on-link", WEB.frame(&on_link))
            .after(FromContainer, CLIENT.frame(&same))
            .delivers(&CLIENT, &told_same),
        Case::new(FromContainer, "by its own port", WEB.frame(&said(&WEB, &got_own)))
            .after(FromContainer, WEB.frame(&own))
            .delivers(&WEB, &told_own),
    ]
}

fn unrelated(f: Family) -> Vec<Case> {
    let refuses = Complaint::PortUnreachable;
    let never_sent = incoming(HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53));
    let to_host = never_sent.complaint(ROUTER[f], refuses, ALL);
    let to_container = Datagram { dst: CLIENT.address[f], ..to_host.clone() };
    let elsewhere = Datagram { dst: ALIAS[f], ..to_host.clone() };
    let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
    let never_got = incoming(OUTSIDE[f], CLIENT.address[f], udp(53, 40_000));
    let by_client = never_got.complaint(CLIENT.address[f], refuses, ALL);
    let by_client = between(by_client, CLIENT.mac, CLIENT.gateway_mac);
    let neighbourly = WEB.tells(f, &CLIENT, ack(1, 2));
    let neighbourly = neighbourly.complaint(CLIENT.address[f], refuses, ALL);
    let empty = Datagram { payload: vec![], ..by_client.clone() };
    let nonsense = Datagram { payload: vec![0x45; 24], ..by_client.clone() };
    let to_the_host = Datagram { dst: HOST[f], ..by_client.clone() };
    let of_the_host = CLIENT.sends(HOST[f], ack(1, 22));
    let of_the_host = of_the_host.complaint(HOST[f], refuses, ALL);
    let of_the_host = between(of_the_host, CLIENT.gateway_mac, CLIENT.mac);
    let passed_on = between(by_client.clone(), UPLINK_MAC, ROUTER_MAC);
    let dropped = DropReason::UnrelatedError;
    let from = |what, error: &Datagram| Case::new(FromContainer, what, CLIENT.frame(error));
    vec![
        Case::new(FromUplink, "an error about nothing", arrives(to_host.clone())).passes(),
        Case::new(FromUplink, "about a flow of another address", arrives(elsewhere))
            .after(FromContainer, CLIENT.frame(&asked))
            .passes(),
        Case::new(FromUplink, "about nothing, to a container", arrives(to_container))
            .drops(DropReason::DirectAccess),
        from("an error about nothing", &by_client).drops(dropped),
        from("an error that quotes nothing", &empty).drops(dropped),
        from("an error that quotes nonsense", &nonsense).drops(dropped),
        from("an error to the host", &to_the_host).arrives(),
        from("an error to a neighbour", &neighbourly).delivers(&WEB, &neighbourly),
        Case::new(ToContainer, "an error of the host's", CLIENT.frame(&of_the_host)).passes(),
        Case::new(ToUplink, "an error that the stack forwarded", frame(UP0, passed_on.frame()))
            .drops(dropped),
    ]
}
