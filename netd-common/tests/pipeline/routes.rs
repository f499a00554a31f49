//! Routes that change under a flow.

use netd_common::{
    abi::{
        Family, NetworkKey,
        wire::{TCP_ACK, TCP_SYN},
    },
    model::{
        Datagram, Layer4, Route, World,
        scene::{self, CLIENT, FAR, HOST, OFF0, ONE, OUTSIDE, ROUTER1, UP0, UP1, WEB, incoming},
    },
    verdict::{DropReason, Verdict},
};

use crate::talk::{answer, delivered, flagged, forwarded, from_container, from_uplink, tcp, udp};

/// The default route leads by another link, and the datapath is told.
fn reroute(world: &mut World, ifindex: u32) {
    let route = world.routes.iter_mut().find(|route| route.to.bits == 96).expect("a default");
    let hop = route.by.as_mut().expect("a next hop");
    (hop.ifindex, hop.gateway) = (ifindex, Some(ROUTER1.into()));
    world.raise_generation();
}

fn asked() -> Datagram {
    CLIENT.sends(OUTSIDE, udp(40_000, 53))
}

#[test]
fn a_flow_keeps_its_route_until_the_routes_change() {
    let mut world = scene::world();
    let first = from_container(&mut world, &CLIENT, &asked());
    assert_eq!(first.0, Verdict::forward(UP0));
    let out = forwarded(first);
    delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
    world.routes.clear();
    assert_eq!(from_container(&mut world, &CLIENT, &asked()).0, Verdict::forward(UP0));
}

#[test]
fn an_answered_flow_follows_its_new_route_with_its_old_address() {
    let mut world = scene::world();
    let out = forwarded(from_container(&mut world, &CLIENT, &asked()));
    delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
    reroute(&mut world, UP1);
    for _ in 0..2 {
        let (verdict, again) = from_container(&mut world, &CLIENT, &asked());
        assert_eq!(verdict, Verdict::forward(UP1));
        assert_eq!(again, out);
    }
}

#[test]
fn an_unanswered_flow_follows_its_new_route() {
    let mut world = scene::world();
    forwarded(from_container(&mut world, &CLIENT, &asked()));
    reroute(&mut world, UP1);
    assert_eq!(from_container(&mut world, &CLIENT, &asked()).0, Verdict::forward(UP1));
}

#[test]
fn a_flow_without_a_route_goes_to_the_stack_as_it_is() {
    let mut world = scene::world();
    forwarded(from_container(&mut world, &CLIENT, &asked()));
    world.routes.clear();
    world.raise_generation();
    let (verdict, left) = from_container(&mut world, &CLIENT, &asked());
    assert_eq!((verdict, left), (Verdict::PASS, asked()));
}

#[test]
fn a_flow_never_leaves_by_a_link_that_is_no_uplink() {
    let mut world = scene::world();
    forwarded(from_container(&mut world, &CLIENT, &asked()));
    reroute(&mut world, OFF0);
    let (verdict, _) = from_container(&mut world, &CLIENT, &asked());
    assert_eq!(verdict, Verdict::drop(DropReason::NoUplink));
}

#[test]
fn a_flow_whose_network_is_gone_ends() {
    let mut world = scene::world();
    forwarded(from_container(&mut world, &CLIENT, &asked()));
    world.networks.remove(&NetworkKey::new(ONE, Family::V4));
    world.raise_generation();
    let (verdict, _) = from_container(&mut world, &CLIENT, &asked());
    assert_eq!(verdict, Verdict::drop(DropReason::NoEndpoint));
}

#[test]
fn a_published_ports_answer_looks_its_route_up_first() {
    let mut world = scene::world();
    let asked = incoming(FAR, HOST, tcp(40_000, 8080, TCP_SYN));
    let received = delivered(&WEB, from_uplink(&mut world, &asked));
    let back = received.answer();
    let (verdict, out) = from_container(&mut world, &WEB, &back);
    assert_eq!(verdict, Verdict::forward(UP1), "by the client's own route");
    assert_eq!(out.src, HOST, "from the address that was asked");
    world.routes = Vec::<Route>::new();
    let later = flagged(&back, TCP_ACK);
    assert_eq!(from_container(&mut world, &WEB, &later).0, Verdict::forward(UP1));
}

#[test]
fn the_paths_mtu_is_looked_up_with_the_route() {
    let mut world = scene::world();
    let long = Datagram { payload: vec![0; 1400], ..CLIENT.sends(FAR, udp(40_000, 53)) };
    assert_eq!(from_container(&mut world, &CLIENT, &long), (Verdict::PASS, long.clone()));
    for route in &mut world.routes {
        if let Some(hop) = &mut route.by {
            hop.mtu = 1500;
        }
    }
    world.raise_generation();
    forwarded(from_container(&mut world, &CLIENT, &long));
}

#[test]
fn a_last_hop_is_the_stacks_to_refuse() {
    let mut world = scene::world();
    let echo = CLIENT.sends(OUTSIDE, Layer4::EchoRequest { id: 7 });
    let last = Datagram { ttl: 1, ..echo };
    assert_eq!(from_container(&mut world, &CLIENT, &last), (Verdict::PASS, last));
}
