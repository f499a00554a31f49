//! Gateway modes, trusted links, fixed sources, allow-lists and SYN rates.

use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, ack, delivered, routed, syn, syn_ack, udp};
use crate::{
    abi::{Family, Mac},
    model::{
        Datagram, Frame, Layer4,
        scene::{
            ALIAS, APART, CLIENT, Container, DIRECT, FAR, FIXED, HOST, INHIBITED, INNER, INNER_NET,
            OPEN, OUTSIDE, QUIET, SHY, UP0, UP1, WEB, frame, gateway, incoming,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{self, FromContainer, FromUplink, ToContainer},
    },
};

const PING: Layer4 = Layer4::EchoRequest { id: 7 };

pub(super) fn cases(f: Family) -> Vec<Case> {
    let both = [unprotected, routed_mode, isolated, internal, trusted, sources, lists, rates];
    let mut all: Vec<_> = both.into_iter().flat_map(|of| of(f)).collect();
    if f == Family::V4 {
        all.extend(inhibited());
    }
    all
}

fn arrives(datagram: &Datagram) -> Frame {
    frame(UP0, datagram.frame())
}

/// From outside to a container's own address.
fn direct(what: &'static str, f: Family, to: &Container, layer4: Layer4) -> (Case, Datagram) {
    let asked = incoming(OUTSIDE[f], to.address[f], layer4);
    let got = delivered(&asked, OUTSIDE[f], to, layer4);
    (Case::new(FromUplink, what, arrives(&asked)), got)
}

/// From one container to another's own address.
fn across(
    what: &'static str,
    f: Family,
    from: &Container,
    to: &Container,
    layer4: Layer4,
) -> (Case, Datagram) {
    let asked = from.sends(to.address[f], layer4);
    let got = delivered(&asked, from.address[f], to, layer4);
    (Case::new(FromContainer, what, from.frame(&asked)), got)
}

/// What is not delivered may not be (`reason`), what is arrives unchanged.
fn reached((case, got): (Case, Datagram), to: &Container) -> Case {
    case.delivers(to, &got)
}

fn refused((case, _): (Case, Datagram), reason: DropReason) -> Case {
    case.drops(reason)
}

fn unprotected(f: Family) -> Vec<Case> {
    let asked = incoming(OUTSIDE[f], OPEN.address[f], syn(40_000, 99));
    let reply = OPEN.sends(OUTSIDE[f], syn_ack(99, 40_000));
    let own = OPEN.sends(OUTSIDE[f], udp(40_000, 53));
    let inner = across("out of an internal network to it", f, &INNER, &OPEN, syn(1, 99));
    let middle = direct("the middle of an unknown connection", f, &OPEN, ack(1, 99));
    vec![
        reached(direct("to an unprotected container", f, &OPEN, syn(40_000, 99)), &OPEN),
        reached(direct("a datagram to it", f, &OPEN, udp(40_000, 99)), &OPEN),
        reached(direct("a ping to it", f, &OPEN, PING), &OPEN),
        reached(across("from another network to it", f, &CLIENT, &OPEN, syn(1, 99)), &OPEN),
        refused(inner, DropReason::Isolated),
        refused(middle, DropReason::NoFlow),
        Case::new(FromContainer, "its answer keeps its address", OPEN.frame(&reply))
            .after(FromUplink, arrives(&asked))
            .forwards(UP0, &Datagram { ttl: 63, ..reply.clone() }),
        Case::new(FromContainer, "what it begins itself is masqueraded", OPEN.frame(&own))
            .forwards(UP0, &routed(&own, HOST[f], OUTSIDE[f], udp(SNAT_PORT, 53))),
        Case::new(ToContainer, "from outside by the stack", {
            let stacks = Datagram { dst_mac: OPEN.mac, ..asked.clone() };
            frame(OPEN.ifindex, stacks.frame())
        })
        .passes(),
    ]
}

fn routed_mode(f: Family) -> Vec<Case> {
    let own = DIRECT.sends(OUTSIDE[f], udp(40_000, 53));
    let far = incoming(FAR[f], DIRECT.address[f], syn(40_000, 443));
    let got = delivered(&far, FAR[f], &DIRECT, syn(40_000, 443));
    let listed = direct("to a listed port of a routed container", f, &DIRECT, syn(1, 443));
    let closed = direct("to a port of it that is not published", f, &DIRECT, syn(1, 81));
    let other = across("from another network to no port of it", f, &CLIENT, &DIRECT, syn(1, 81));
    let denied = across("from another network to a listed port", f, &QUIET, &DIRECT, syn(1, 443));
    vec![
        reached(
            direct("to a published port of a routed container", f, &DIRECT, syn(1, 80)),
            &DIRECT,
        ),
        reached(direct("a ping to a routed container", f, &DIRECT, PING), &DIRECT),
        reached(
            across("from another network to a port of it", f, &QUIET, &DIRECT, syn(1, 80)),
            &DIRECT,
        ),
        reached(across("from another network, listed", f, &CLIENT, &DIRECT, syn(1, 443)), &DIRECT),
        reached(across("a ping from another network", f, &CLIENT, &DIRECT, PING), &DIRECT),
        refused(closed, DropReason::DirectAccess),
        refused(other, DropReason::Isolated),
        refused(listed, DropReason::NotAllowed),
        refused(denied, DropReason::NotAllowed),
        Case::new(FromUplink, "from a listed source", arrives(&far)).delivers(&DIRECT, &got),
        Case::new(FromContainer, "a routed container keeps its address", DIRECT.frame(&own))
            .forwards(UP0, &Datagram { ttl: 63, ..own.clone() }),
    ]
}

fn isolated(f: Family) -> Vec<Case> {
    let to = |what, dst| Case::new(FromContainer, what, APART.frame(&APART.sends(dst, syn(1, 80))));
    let outside = direct("from outside to an isolated network", f, &APART, syn(1, 80));
    let other = across("from another network to it", f, &CLIENT, &APART, syn(1, 80));
    let open = across("from it to an unprotected container", f, &APART, &OPEN, syn(1, 80));
    vec![
        to("from an isolated network to the host", HOST[f]).drops(DropReason::HostIsolated),
        to("from an isolated network to a published port", ALIAS[f])
            .drops(DropReason::HostIsolated),
        to("out of an isolated network", OUTSIDE[f]).drops(DropReason::Internal),
        refused(outside, DropReason::DirectAccess),
        refused(other, DropReason::Isolated),
        refused(open, DropReason::Isolated),
    ]
}

fn internal(f: Family) -> Vec<Case> {
    let to = |what, dst| Case::new(FromContainer, what, INNER.frame(&INNER.sends(dst, syn(1, 22))));
    vec![
        to("from an internal network to its gateway", gateway(INNER_NET)[f]).arrives(),
        to("from an internal network to another address of the host's", HOST[f])
            .drops(DropReason::Internal),
        refused(across("into it from another network", f, &CLIENT, &INNER, syn(1, 70)), {
            DropReason::Isolated
        }),
        refused(across("from it to another network", f, &INNER, &WEB, syn(1, 80)), {
            DropReason::Isolated
        }),
    ]
}

fn trusted(f: Family) -> Vec<Case> {
    let asked = incoming(FAR[f], QUIET.address[f], syn(40_000, 99));
    let got = delivered(&asked, FAR[f], &QUIET, syn(40_000, 99));
    let reply = QUIET.sends(FAR[f], syn_ack(99, 40_000));
    let shy = incoming(FAR[f], SHY.address[f], PING);
    let others = incoming(FAR[f], WEB.address[f], syn(40_000, 80));
    let stolen = incoming(CLIENT.address[f], QUIET.address[f], syn(40_000, 99));
    let by = |what, datagram: &Datagram| Case::new(FromUplink, what, frame(UP1, datagram.frame()));
    let by_stack = |from: u32| {
        let datagram = Datagram { dst_mac: QUIET.mac, ..asked.clone() };
        Frame { ingress_ifindex: from, ..QUIET.frame(&datagram) }
    };
    vec![
        by("by a trusted link to a container", &asked).delivers(&QUIET, &got),
        by("a ping by a trusted link", &shy).delivers(&SHY, &delivered(&shy, FAR[f], &SHY, PING)),
        by("by a link that another network trusts", &others).drops(DropReason::DirectAccess),
        by("by a trusted link with a container's address", &stolen).drops(DropReason::Martian),
        Case::new(FromUplink, "by a link that it does not trust", arrives(&asked))
            .drops(DropReason::DirectAccess),
        Case::new(FromContainer, "the answer to a trusted link", QUIET.frame(&reply))
            .after(FromUplink, frame(UP1, asked.frame()))
            .forwards(UP1, &Datagram { ttl: 63, ..reply.clone() }),
        Case::new(ToContainer, "by a trusted link and the stack", by_stack(UP1)).passes(),
        Case::new(ToContainer, "by another link and the stack", by_stack(UP0))
            .drops(DropReason::DirectAccess),
    ]
}

fn sources(f: Family) -> Vec<Case> {
    let dns = FIXED.sends(OUTSIDE[f], udp(40_000, 53));
    let answer = incoming(OUTSIDE[f], ALIAS[f], udp(53, SNAT_PORT));
    vec![
        Case::new(FromContainer, "with the source that its network has", FIXED.frame(&dns))
            .forwards(UP0, &routed(&dns, ALIAS[f], OUTSIDE[f], udp(SNAT_PORT, 53))),
        Case::new(FromUplink, "an answer to the source of a network", arrives(&answer))
            .after(FromContainer, FIXED.frame(&dns))
            .delivers(&FIXED, &delivered(&answer, OUTSIDE[f], &FIXED, udp(53, 40_000))),
    ]
}

fn lists(f: Family) -> Vec<Case> {
    let no = DropReason::NotAllowed;
    let tcp = |src| incoming(src, HOST[f], syn(40_000, 8443));
    let dns = |src| incoming(src, HOST[f], udp(40_000, 5354));
    let case = |what, datagram: &Datagram| Case::new(FromUplink, what, arrives(datagram));
    let to_web = |d: &Datagram, layer4| delivered(d, FAR[f], &WEB, layer4);
    let hairpin = CLIENT.sends(HOST[f], syn(40_000, 8443));
    let denied = WEB.sends(HOST[f], syn(40_000, 8443));
    let other = QUIET.sends(HOST[f], udp(40_000, 5354));
    vec![
        case("to a listed port", &tcp(OUTSIDE[f])).drops(no),
        case("to a listed port from a listed source", &tcp(FAR[f]))
            .delivers(&WEB, &to_web(&tcp(FAR[f]), syn(40_000, 443))),
        case("a datagram to a listed port", &dns(OUTSIDE[f])).drops(no),
        case("a datagram to a listed port from a listed source", &dns(FAR[f]))
            .delivers(&WEB, &to_web(&dns(FAR[f]), udp(40_000, 54))),
        case("to a listed port in the middle of a connection", &{
            incoming(OUTSIDE[f], HOST[f], ack(40_000, 8443))
        })
        .drops(no),
        case("of a flow whose source is no longer listed", &dns(FAR[f]))
            .after(FromUplink, arrives(&dns(FAR[f])))
            .delivers(&WEB, &to_web(&dns(FAR[f]), udp(40_000, 54))),
        Case::new(FromContainer, "a hairpin to a listed port", CLIENT.frame(&hairpin))
            .delivers(&WEB, &delivered(&hairpin, CLIENT.address[f], &WEB, syn(SNAT_PORT, 443))),
        Case::new(FromContainer, "a hairpin that is not listed", WEB.frame(&denied)).drops(no),
        Case::new(FromContainer, "from another network, not listed", QUIET.frame(&other)).drops(no),
    ]
}

fn rates(f: Family) -> Vec<Case> {
    let syn_of = |sport| arrives(&incoming(OUTSIDE[f], HOST[f], syn(sport, 8081)));
    let asked = incoming(OUTSIDE[f], HOST[f], syn(3, 8081));
    let got = delivered(&asked, OUTSIDE[f], &WEB, syn(3, 81));
    let late = |hook: Hook| {
        let case = Case::new(hook, "a SYN above the port's rate", arrives(&asked));
        case.after(FromUplink, syn_of(1)).after(FromUplink, syn_of(2))
    };
    vec![
        late(FromUplink).drops(DropReason::SynRate),
        Case::new(FromUplink, "a SYN within the port's rate", arrives(&asked))
            .after(FromUplink, syn_of(1))
            .delivers(&WEB, &got),
        Case::new(FromUplink, "a SYN again, of a flow that is known", syn_of(2))
            .after(FromUplink, syn_of(1))
            .after(FromUplink, syn_of(2))
            .delivers(
                &WEB,
                &delivered(
                    &incoming(OUTSIDE[f], HOST[f], syn(2, 8081)),
                    OUTSIDE[f],
                    &WEB,
                    syn(2, 81),
                ),
            ),
    ]
}

/// The gateway is a machine of its own, on the bridge.
fn inhibited() -> Vec<Case> {
    let f = Family::V4;
    let out = INHIBITED.sends(OUTSIDE[f], syn(1, 80));
    let router = Mac::from_octets([0x02, 9, 9, 9, 9, 9]);
    let by_router = Datagram { dst_mac: router, ..out.clone() };
    let to_router = Datagram { dst: gateway(INHIBITED.network)[f], ..by_router.clone() };
    vec![
        Case::new(FromContainer, "by a gateway that is not the host", INHIBITED.frame(&by_router))
            .passes(),
        Case::new(FromContainer, "to a gateway that is not the host", INHIBITED.frame(&to_router))
            .passes(),
        Case::new(FromContainer, "by the host all the same", INHIBITED.frame(&out))
            .forwards(UP0, &routed(&out, HOST[f], OUTSIDE[f], syn(SNAT_PORT, 80))),
    ]
}
