//! IPv6's neighbour discovery, and what else stays on a link.

use core::net::Ipv6Addr;
use std::{vec, vec::Vec};

use super::{ALL_NODES, Case, syn};
use crate::{
    abi::Family,
    model::{
        Datagram, Layer4, Ndp,
        scene::{
            CLIENT, HOST, LEGACY, NOBODY, ONE, OUTSIDE, ROUTER, ROUTER_MAC, UP0, WEB, frame,
            gateway, link_local,
        },
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromUplink, ToContainer},
    },
};

pub(super) fn cases() -> Vec<Case> {
    [honest(), spoofed(), routers(), link_scoped()].concat()
}

fn case(what: &'static str, message: Ndp) -> Case {
    Case::new(FromContainer, what, frame(CLIENT.ifindex, message.frame()))
}

fn honest() -> Vec<Case> {
    let (mac, own, web) = (CLIENT.mac, CLIENT.address.v6(), WEB.address.v6());
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let solicited = Ndp::advertisement(mac, own);
    let answer = Ndp { dst: web, dst_mac: WEB.mac, ..solicited };
    let report = Layer4::Icmp { kind: 143, code: 0, rest: 1 };
    let report =
        Datagram { ttl: 1, ..Ndp::advertisement(mac, unspecified).datagram() }.reporting(report);
    vec![
        case("a solicitation", Ndp::solicitation(mac, own, web)).passes(),
        case("a solicitation from its link-local address", {
            Ndp::solicitation(mac, CLIENT.link_local(), gateway(ONE).v6())
        })
        .passes(),
        case("whether its own address is free", Ndp::solicitation(mac, unspecified, own)).passes(),
        case("whether its link-local address is free", {
            Ndp::solicitation(mac, unspecified, CLIENT.link_local())
        })
        .passes(),
        case("an advertisement of itself", solicited).passes(),
        case("an answer to a neighbour", answer).passes(),
        case("a router solicitation", {
            Ndp::router(Ndp::ROUTER_SOLICITATION, mac, CLIENT.link_local())
        })
        .passes(),
        case("a router solicitation from nowhere", {
            let asks = Ndp::router(Ndp::ROUTER_SOLICITATION, mac, unspecified);
            Ndp { link: None, ..asks }
        })
        .passes(),
        Case::new(FromContainer, "a report of groups from nowhere", CLIENT.frame(&report)).passes(),
        Case::new(FromUplink, "a router's advertisement", {
            let router = Ndp::router(Ndp::ROUTER_ADVERTISEMENT, ROUTER_MAC, ROUTER.v6());
            frame(UP0, router.frame())
        })
        .passes(),
        Case::new(ToContainer, "a solicitation by the host", {
            let asks = Ndp::solicitation(CLIENT.gateway_mac, link_local(CLIENT.gateway_mac), own);
            frame(CLIENT.ifindex, asks.frame())
        })
        .passes(),
    ]
}

fn spoofed() -> Vec<Case> {
    let lie = DropReason::SpoofedNdp;
    let (mac, own, web) = (CLIENT.mac, CLIENT.address.v6(), WEB.address.v6());
    let asks = Ndp::solicitation(mac, own, web);
    let says = Ndp::advertisement(mac, own);
    let short = Datagram { payload: vec![0; 8], ..says.datagram() };
    vec![
        case("a solicitation from a neighbour's address", Ndp { src: web, ..asks }).drops(lie),
        case("a solicitation from nobody's address", Ndp { src: NOBODY.v6(), ..asks }).drops(lie),
        case("a solicitation that names a neighbour's MAC", {
            Ndp { link: Some(WEB.mac), ..asks }
        })
        .drops(lie),
        case("a solicitation from a neighbour's MAC", Ndp { src_mac: WEB.mac, ..asks }).drops(lie),
        case("that a neighbour's address is its own", Ndp::advertisement(mac, web)).drops(lie),
        case("that a neighbour's address is here, by its own", Ndp { target: web, ..says })
            .drops(lie),
        case("that the gateway is here", Ndp { target: gateway(ONE).v6(), ..says }).drops(lie),
        case("that it has another's MAC", Ndp { link: Some(WEB.mac), ..says }).drops(lie),
        case("whether a neighbour's address is free", {
            Ndp::solicitation(mac, Ipv6Addr::UNSPECIFIED, web)
        })
        .drops(lie),
        case("an advertisement from afar", Ndp { hop_limit: 254, ..says }).drops(lie),
        Case::new(FromContainer, "an advertisement cut short", CLIENT.frame(&short))
            .drops(DropReason::Malformed),
        Case::new(FromContainer, "on a network that has no IPv6", {
            let says = Ndp::advertisement(LEGACY.mac, LEGACY.link_local());
            frame(LEGACY.ifindex, says.frame())
        })
        .drops(DropReason::Ipv6Disabled),
    ]
}

fn routers() -> Vec<Case> {
    let rogue = DropReason::RogueRouter;
    let router = |kind| Ndp::router(kind, CLIENT.mac, CLIENT.link_local());
    vec![
        case("a router's advertisement", router(Ndp::ROUTER_ADVERTISEMENT)).drops(rogue),
        case("a router's redirect", router(Ndp::REDIRECT)).drops(rogue),
    ]
}

fn link_scoped() -> Vec<Case> {
    let f = Family::V6;
    let of = |datagram: Datagram| Datagram { src: CLIENT.link_local().into(), ..datagram };
    let neighbourly = CLIENT.tells(f, &WEB, syn(1, 80));
    let neighbourly = of(Datagram { dst: WEB.link_local().into(), ..neighbourly });
    let to_gateway = link_local(CLIENT.gateway_mac).into();
    let case = |what, datagram: &Datagram| Case::new(FromContainer, what, CLIENT.frame(datagram));
    vec![
        case("between link-local addresses", &neighbourly).delivers(&WEB, &neighbourly),
        case("to the gateway's link-local address", &of(CLIENT.sends(to_gateway, syn(1, 22))))
            .arrives(),
        case("to all of the link", &of(CLIENT.sends(ALL_NODES, Layer4::EchoRequest { id: 1 })))
            .arrives(),
        case("from a link-local address to the outside", &of(CLIENT.sends(OUTSIDE[f], syn(1, 80))))
            .drops(DropReason::Martian),
        case("from a neighbour's link-local address", &{
            let stolen = CLIENT.sends(HOST[f], syn(1, 22));
            Datagram { src: WEB.link_local().into(), ..stolen }
        })
        .drops(DropReason::SpoofedAddress),
    ]
}

impl Datagram {
    /// The same, with another message: a hop-by-hop option that asks routers to
    /// listen goes with it (RFC 3810 §5).
    fn reporting(self, layer4: Layer4) -> Self {
        let alert = crate::model::Extension { kind: 0, body: vec![5, 2, 0, 0, 1, 0] };
        Self { layer4, extensions: vec![alert], payload: vec![4, 0, 0, 0], ..self }
    }
}
