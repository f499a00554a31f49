//! Routes that change under a flow.

use netd_common::{
    abi::{
        Family, NetworkKey,
        wire::{TCP_ACK, TCP_SYN},
    },
    model::{
        Datagram, Layer4, Route, World,
        cases::FAMILIES,
        scene::{
            self, CLIENT, Container, FAR, HOST, OFF0, ONE, OUTSIDE, ROUTER1, UP0, UP1, WEB,
            incoming,
        },
    },
    tables::Tables as _,
    verdict::{DropReason, Verdict},
};

use crate::talk::{
    answer, close_in, connect_in, delivered, flagged, forwarded, from_container, from_uplink, tcp,
    udp,
};

/// The stack's, past the bridge.
fn to_the_stack(container: &Container) -> Verdict {
    Verdict::past_bridge(scene::bridge_of(container.ifindex))
}

/// The default route leads by another link, and the datapath is told.
fn reroute(f: Family, world: &mut World, ifindex: u32) {
    let route = world.routes.iter_mut().find(|route| route.is_default(f)).expect("a default");
    let hop = route.by.as_mut().expect("a next hop");
    (hop.ifindex, hop.gateway) = (ifindex, Some(ROUTER1[f].into()));
    world.raise_generation();
}

fn asked(f: Family) -> Datagram {
    CLIENT.sends(OUTSIDE[f], udp(40_000, 53))
}

#[test]
fn a_flow_keeps_its_route_until_the_routes_change() {
    for f in FAMILIES {
        let mut world = scene::world();
        let first = from_container(&mut world, &CLIENT, &asked(f));
        assert_eq!(first.0, Verdict::forward(UP0));
        let out = forwarded(first);
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        world.routes.clear();
        assert_eq!(from_container(&mut world, &CLIENT, &asked(f)).0, Verdict::forward(UP0));
    }
}

#[test]
fn an_answered_flow_follows_its_new_route_with_its_old_address() {
    for f in FAMILIES {
        let mut world = scene::world();
        let out = forwarded(from_container(&mut world, &CLIENT, &asked(f)));
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        reroute(f, &mut world, UP1);
        for _ in 0..2 {
            let (verdict, again) = from_container(&mut world, &CLIENT, &asked(f));
            assert_eq!(verdict, Verdict::forward(UP1));
            assert_eq!(again, out);
        }
    }
}

#[test]
fn an_unanswered_flow_follows_its_new_route() {
    for f in FAMILIES {
        let mut world = scene::world();
        forwarded(from_container(&mut world, &CLIENT, &asked(f)));
        reroute(f, &mut world, UP1);
        assert_eq!(from_container(&mut world, &CLIENT, &asked(f)).0, Verdict::forward(UP1));
    }
}

#[test]
fn a_flow_without_a_route_goes_to_the_stack_as_it_is() {
    for f in FAMILIES {
        let mut world = scene::world();
        forwarded(from_container(&mut world, &CLIENT, &asked(f)));
        world.routes.clear();
        world.raise_generation();
        let (verdict, left) = from_container(&mut world, &CLIENT, &asked(f));
        assert_eq!((verdict, left), (to_the_stack(&CLIENT), asked(f)));
    }
}

#[test]
fn a_flow_never_leaves_by_a_link_that_is_no_uplink() {
    for f in FAMILIES {
        let mut world = scene::world();
        forwarded(from_container(&mut world, &CLIENT, &asked(f)));
        reroute(f, &mut world, OFF0);
        let (verdict, _) = from_container(&mut world, &CLIENT, &asked(f));
        assert_eq!(verdict, Verdict::drop(DropReason::NoUplink));
    }
}

#[test]
fn a_flow_whose_network_is_gone_ends() {
    for f in FAMILIES {
        let mut world = scene::world();
        forwarded(from_container(&mut world, &CLIENT, &asked(f)));
        world.networks.remove(&NetworkKey::new(ONE, f));
        world.raise_generation();
        let (verdict, _) = from_container(&mut world, &CLIENT, &asked(f));
        assert_eq!(verdict, Verdict::drop(DropReason::NoEndpoint));
    }
}

#[test]
fn a_published_ports_answer_looks_its_route_up_first() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = incoming(FAR[f], HOST[f], tcp(40_000, 8080, TCP_SYN));
        let received = delivered(&WEB, from_uplink(&mut world, &asked));
        let back = received.answer();
        let (verdict, out) = from_container(&mut world, &WEB, &back);
        assert_eq!(verdict, Verdict::forward(UP1), "by the client's own route");
        assert_eq!(out.src, HOST[f], "from the address that was asked");
        world.routes = Vec::<Route>::new();
        let later = flagged(&back, TCP_ACK);
        assert_eq!(from_container(&mut world, &WEB, &later).0, Verdict::forward(UP1));
    }
}

#[test]
fn the_next_connection_under_a_tuple_looks_its_route_up_anew() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, received) = connect_in(f, &mut world);
        let back = flagged(&received.answer(), TCP_ACK);
        assert_eq!(from_container(&mut world, &WEB, &back).0, Verdict::forward(UP0));
        close_in(&mut world, &asked, &received);

        // Nobody tells the datapath of it, as while no agent runs.
        let generation = world.route_generation();
        reroute(f, &mut world, UP1);
        world.config_mut().route_generation = generation;
        delivered(&WEB, from_uplink(&mut world, &asked));
        let back = flagged(&back, TCP_SYN | TCP_ACK);
        assert_eq!(from_container(&mut world, &WEB, &back).0, Verdict::forward(UP1));
    }
}

#[test]
fn the_paths_mtu_is_looked_up_with_the_route() {
    for f in FAMILIES {
        let mut world = scene::world();
        let long = Datagram { payload: vec![0; 1400], ..CLIENT.sends(FAR[f], udp(40_000, 53)) };
        let passed = (to_the_stack(&CLIENT), long.clone());
        assert_eq!(from_container(&mut world, &CLIENT, &long), passed);
        for route in &mut world.routes {
            if let Some(hop) = &mut route.by {
                hop.mtu = 1500;
            }
        }
        world.raise_generation();
        forwarded(from_container(&mut world, &CLIENT, &long));
    }
}

#[test]
fn a_last_hop_is_the_stacks_to_refuse() {
    for f in FAMILIES {
        let mut world = scene::world();
        let echo = CLIENT.sends(OUTSIDE[f], Layer4::EchoRequest { id: 7 });
        let last = Datagram { ttl: 1, ..echo };
        assert_eq!(from_container(&mut world, &CLIENT, &last), (to_the_stack(&CLIENT), last));
    }
}
