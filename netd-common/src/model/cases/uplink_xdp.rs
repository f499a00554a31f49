//! What is refused before the kernel makes a packet of it.

use std::{vec, vec::Vec};

use super::{Case, ack, cut_short, syn, syn_ack, udp};
use crate::{
    abi::{
        Config, Family, Mac, Uplink,
        wire::{EXT_DESTINATION, TCP_RST},
    },
    model::{
        Datagram, Extension, Frame, Layer4, World,
        scene::{
            CLIENT, FAR, HOST, LOCALHOST, OUTSIDE, ROUTER_MAC, SYN_RATE, UP0, WEB, frame, incoming,
            link_local,
        },
        std,
    },
    verdict::{DropReason, Hook},
};

fn case(what: &'static str, datagram: &Datagram) -> Case {
    Case::new(Hook::UplinkXdp, what, arrives(datagram))
}

fn arrives(datagram: &Datagram) -> Frame {
    frame(UP0, datagram.frame())
}

pub(super) fn cases(f: Family) -> Vec<Case> {
    [allow_lists(f), rates(f), martians(f), left_to_others(f)].concat()
}

fn udp_is_listed(world: &mut World) {
    world.config_mut().features |= Config::UDP_LISTED;
}

fn is_behind_xdp(world: &mut World) {
    world.uplinks.values_mut().for_each(|uplink| uplink.flags |= Uplink::XDP);
}

fn allow_lists(f: Family) -> Vec<Case> {
    let from = |src, layer4| incoming(src, HOST[f], layer4);
    vec![
        case("a SYN of an allowed source", &from(FAR[f], syn(40_000, 8443))).passes(),
        case("a SYN of a source that is not allowed", &from(OUTSIDE[f], syn(40_000, 8443)))
            .drops(DropReason::NotAllowed),
        case("its later segments", &from(OUTSIDE[f], ack(40_000, 8443))).passes(),
        case("a datagram of an allowed source", &from(FAR[f], udp(40_000, 5354)))
            .given(udp_is_listed)
            .passes(),
        case("a datagram of a source that is not allowed", &from(OUTSIDE[f], udp(40_000, 5354)))
            .given(udp_is_listed)
            .drops(DropReason::NotAllowed),
        case("a datagram while no list is said to be", &from(OUTSIDE[f], udp(40_000, 5354)))
            .passes(),
        case("a datagram to a port without a list", &from(OUTSIDE[f], udp(40_000, 5353)))
            .given(udp_is_listed)
            .passes(),
    ]
}

fn rates(f: Family) -> Vec<Case> {
    let first = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8081));
    let full = |case: Case| {
        (0..SYN_RATE).fold(case, |case, _| case.after(Hook::UplinkXdp, arrives(&first)))
    };
    let other = incoming(FAR[f], HOST[f], syn(40_001, 8081));
    let known = incoming(OUTSIDE[f], HOST[f], ack(40_000, 8081));
    let mut cases = vec![
        case("a SYN within its port's rate", &first)
            .after(Hook::UplinkXdp, arrives(&other))
            .passes(),
        full(case("a SYN over its port's rate", &other)).drops(DropReason::SynRate),
        full(case("a segment of a connection there", &known)).passes(),
    ];
    if f == Family::V6 {
        let arrives_extended = |sport| {
            let extensions = vec![Extension::new(EXT_DESTINATION, 0)];
            let plain = incoming(OUTSIDE[f], HOST[f], syn(sport, 8081));
            arrives(&Datagram { extensions, ..plain })
        };
        let what = "a SYN over its port's rate that XDP did not count";
        let case = Case::new(Hook::FromUplink, what, arrives_extended(1));
        let full = (0..SYN_RATE).fold(case, |case, n| {
            let sport = 2 + u16::try_from(n).expect("a small rate");
            case.after(Hook::FromUplink, arrives_extended(sport))
        });
        cases.push(full.given(is_behind_xdp).drops(DropReason::SynRate));
    }
    cases
}

fn martians(f: Family) -> Vec<Case> {
    let from = |src, layer4| incoming(src, HOST[f], layer4);
    let echo = Layer4::EchoRequest { id: 7 };
    let neighbour = link_local(ROUTER_MAC);
    let mut cases = vec![
        case("a container's address, from outside", &from(CLIENT.address[f], syn(40_000, 22)))
            .drops(DropReason::Martian),
        case("the host's own, from outside", &from(HOST[f], echo)).drops(DropReason::Martian),
        case("loopback, from outside", &from(LOCALHOST[f], echo)).drops(DropReason::Martian),
        case("a container's to a published port", &from(CLIENT.address[f], syn(40_000, 8080)))
            .drops(DropReason::Martian),
        case("a container's in a datagram to one", &from(CLIENT.address[f], udp(40_000, 5354)))
            .given(udp_is_listed)
            .drops(DropReason::Martian),
        case("an echo request of the outside", &from(OUTSIDE[f], echo)).passes(),
        case("a SYN to the host itself", &from(OUTSIDE[f], syn(40_000, 22))).passes(),
        case("to a container's own address", &incoming(OUTSIDE[f], WEB.address[f], syn(1, 80)))
            .passes(),
    ];
    if f == Family::V6 {
        cases.extend([
            case("a neighbour's ping", &from(neighbour.into(), echo)).passes(),
            case("a neighbour at a published port", &from(neighbour.into(), syn(40_000, 8080)))
                .drops(DropReason::Martian),
        ]);
    }
    cases
}

/// TC's to decide, and what they refuse they refuse there.
fn left_to_others(f: Family) -> Vec<Case> {
    let refused = incoming(OUTSIDE[f], HOST[f], syn(40_000, 8443));
    let martian = incoming(CLIENT.address[f], HOST[f], syn(40_000, 8443));
    let reset = Layer4::Tcp { sport: 40_000, dport: 8443, flags: TCP_RST };
    let other = Mac::from_octets([2, 0, 0, 0, 0, 9]);
    let tagged = |datagram: &Datagram| {
        let mut frame = arrives(datagram);
        frame.bytes.splice(12..12, [0x81, 0, 0, 5]);
        Case::new(Hook::UplinkXdp, "a VLAN's frame", frame)
    };
    let mut cases = vec![
        case("for another MAC", &Datagram { dst_mac: other, ..refused.clone() }).passes(),
        case("for all", &Datagram { dst_mac: Mac([0xffff; 3]), ..martian.clone() }).passes(),
        tagged(&martian).passes(),
        case("an answer to a SYN", &incoming(OUTSIDE[f], HOST[f], syn_ack(443, 8443))).passes(),
        case("a RST", &incoming(OUTSIDE[f], HOST[f], reset)).passes(),
        case("an echo reply", &incoming(LOCALHOST[f], HOST[f], Layer4::EchoReply { id: 7 }))
            .passes(),
        case("another protocol", &incoming(LOCALHOST[f], HOST[f], Layer4::Raw { proto: 47 }))
            .passes(),
        case("a fragment", &Datagram { fragment: 0x2000, ..refused.clone() }).passes(),
        Case::new(Hook::UplinkXdp, "a header that lies", cut_short(arrives(&refused))).passes(),
        case("at a link that is no uplink", &refused).given(|world| world.uplinks.clear()).passes(),
        case("with no configuration", &incoming(OUTSIDE[f], HOST[f], udp(40_000, 5354)))
            .given(|world| world.config = None)
            .passes(),
    ];
    if f == Family::V6 {
        let extension = Extension::new(EXT_DESTINATION, 0);
        let extended = Datagram { extensions: vec![extension], ..refused };
        cases.push(case("behind an extension header", &extended).passes());
    } else {
        let extended = Datagram { options: vec![1; 8], ..refused };
        cases.push(case("behind IP options", &extended).drops(DropReason::NotAllowed));
    }
    cases
}
