//! Claims of tuples: no two flows share an answer.

use std::collections::HashMap;

use netd_common::{
    abi::{
        Address, Be16, Family, PortKey, PortRange,
        wire::{PROTO_UDP, TCP_SYN},
    },
    model::{
        Datagram, Layer4, World,
        cases::FAMILIES,
        scene::{self, ALIAS, CLIENT, CONTAINERS, HOST, HOST1, OUTSIDE, QUIET, WEB, incoming},
    },
    verdict::{DropReason, Verdict},
};
use proptest::prelude::*;

use crate::talk::{
    answer, delivered, families, forwarded, from_container, from_uplink, outside, tcp, udp,
};

fn few_ports(world: &mut World, count: u16) {
    let config = world.config_mut();
    config.snat_low = PortRange { first: 2000, last: 1999 + count };
    config.snat_high = PortRange::EMPTY;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_answer_reaches_the_flow_that_asked(
        f in families(),
        seed: u32,
        ports in 1u16..300,
        asked in proptest::collection::vec((0usize..4, 1u16..60, 1u8..4, 0u8..4), 1..400),
    ) {
        let mut world = scene::world();
        world.config_mut().seed = seed;
        few_ports(&mut world, ports);
        let mut flows: HashMap<Vec<u8>, (usize, Datagram)> = HashMap::new();
        for (who, sport, host, kind) in asked {
            let dst = outside(f, host);
            let layer4 = match kind {
                0 => tcp(sport, 443, TCP_SYN),
                1 => udp(sport, 53),
                2 => tcp(sport, 80, TCP_SYN),
                _ => Layer4::EchoRequest { id: sport },
            };
            let asked = CONTAINERS[who].sends(dst, layer4);
            let (verdict, out) = from_container(&mut world, &CONTAINERS[who], &asked);
            if verdict == Verdict::drop(DropReason::PortsExhausted) {
                continue;
            }
            prop_assert!(verdict.is_forward(), "{verdict:?}");
            let back = answer(&out);
            // The same answer may only ever belong to the same question.
            let owner = flows.entry(back.frame()).or_insert((who, asked.clone()));
            prop_assert_eq!(&*owner, &(who, asked));
        }
        for (who, asked) in flows.into_values() {
            let out = forwarded(from_container(&mut world, &CONTAINERS[who], &asked));
            let got = delivered(&CONTAINERS[who], from_uplink(&mut world, &answer(&out)));
            prop_assert_eq!(got.layer4, asked.answer().layer4);
        }
    }

    #[test]
    fn every_answer_of_a_published_port_goes_where_its_client_asked(
        f in families(),
        asked in proptest::collection::vec((0usize..3, 1u16..20, 0u8..3), 1..200),
    ) {
        let mut world = scene::world();
        let mut replies = HashMap::new();
        for (at, sport, host) in asked {
            let client = outside(f, host);
            let dst = [HOST[f], ALIAS[f], HOST1[f]][at];
            let asked = incoming(client, dst, tcp(sport, 8080, TCP_SYN));
            let received = delivered(&WEB, from_uplink(&mut world, &asked));
            let back = received.answer();
            let owner = replies.entry(back.frame()).or_insert(asked.clone());
            prop_assert_eq!(&*owner, &asked);
            let out = forwarded(from_container(&mut world, &WEB, &back));
            prop_assert_eq!((out.src, out.dst), (dst, client));
            prop_assert_eq!(out.layer4, asked.answer().layer4);
        }
    }
}

#[test]
fn ports_that_are_reserved_are_never_taken() {
    for f in FAMILIES {
        let mut world = scene::world();
        few_ports(&mut world, 4);
        world.reserved_ports.extend([2000, 2001, 2002]);
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_eq!(out.layer4, udp(2003, 53));
        // An echo's identifier is no port of the host's.
        let config = world.config_mut();
        config.snat_low.last = 2000;
        let echo = CLIENT.sends(OUTSIDE[f], Layer4::EchoRequest { id: 7 });
        let out = forwarded(from_container(&mut world, &CLIENT, &echo));
        assert_eq!(out.layer4, Layer4::EchoRequest { id: 2000 });
    }
}

#[test]
fn without_any_port_there_is_no_snat() {
    for f in FAMILIES {
        let mut world = scene::world();
        few_ports(&mut world, 0);
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let (verdict, left) = from_container(&mut world, &CLIENT, &asked);
        assert_eq!(verdict, Verdict::drop(DropReason::PortsExhausted));
        assert_eq!(left, asked, "a dropped packet is left as it was");
        assert!(world.embryonic.is_empty(), "nothing of it is left");
    }
}

#[test]
fn a_port_is_free_again_when_its_flow_is_gone() {
    for f in FAMILIES {
        let mut world = scene::world();
        few_ports(&mut world, 1);
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let other = WEB.sends(OUTSIDE[f], udp(40_000, 53));
        forwarded(from_container(&mut world, &CLIENT, &asked));
        let (refused, _) = from_container(&mut world, &WEB, &other);
        assert_eq!(refused, Verdict::drop(DropReason::PortsExhausted));
        world.embryonic.clear();
        forwarded(from_container(&mut world, &WEB, &other));
    }
}

#[test]
fn an_answered_flow_keeps_its_port_from_new_ones() {
    for f in FAMILIES {
        let mut world = scene::world();
        few_ports(&mut world, 1);
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        forwarded(from_container(&mut world, &CLIENT, &asked));
        assert!(world.embryonic.is_empty());
        let other = WEB.sends(OUTSIDE[f], udp(40_000, 53));
        let (refused, _) = from_container(&mut world, &WEB, &other);
        assert_eq!(refused, Verdict::drop(DropReason::PortsExhausted));
        assert!(world.embryonic.is_empty(), "the attempt leaves nothing");
    }
}

#[test]
fn two_published_ports_of_one_container_port_are_told_apart() {
    for f in FAMILIES {
        let mut world = scene::world();
        let target = world.ports[&port_key(f, 5353)];
        world.publish(port_key(f, 5354), target);
        for (dport, expected) in [(5353, 40_000), (5354, 40_000)] {
            let asked = incoming(OUTSIDE[f], HOST[f], udp(40_000, dport));
            let received = delivered(&WEB, from_uplink(&mut world, &asked));
            let Layer4::Udp { sport, .. } = received.layer4 else { panic!("{received:?}") };
            assert_eq!(sport == expected, dport == 5353, "the second one's port is translated");
            let out = forwarded(from_container(&mut world, &WEB, &received.answer()));
            assert_eq!(out.layer4, udp(dport, 40_000));
        }
    }
}

fn port_key(f: Family, port: u16) -> PortKey {
    let addr = if f == Family::V4 { Address::ANY } else { Address::ANY6 };
    PortKey { addr, port: Be16::from_host(port), proto: PROTO_UDP, ..PortKey::default() }
}

#[test]
fn a_port_of_one_address_comes_before_one_of_any() {
    for f in FAMILIES {
        let mut world = scene::world();
        let target = world.ports[&port_key(f, 5353)];
        let quiet = netd_common::abi::PortTarget { addr: QUIET.address[f].into(), ..target };
        world.publish(PortKey { addr: ALIAS[f].into(), ..port_key(f, 5353) }, quiet);
        let to = |dst| incoming(OUTSIDE[f], dst, udp(40_000, 5353));
        delivered(&QUIET, from_uplink(&mut world, &to(ALIAS[f])));
        delivered(&WEB, from_uplink(&mut world, &to(HOST[f])));
    }
}

#[test]
fn a_container_does_not_take_over_what_the_host_is_sent() {
    for f in FAMILIES {
        for layer4 in [Layer4::Raw { proto: 47 }, Layer4::EchoReply { id: 7 }] {
            let mut world = scene::world();
            few_ports(&mut world, 0);
            world.config_mut().snat_low = PortRange { first: 7, last: 7 };
            let to_host = incoming(OUTSIDE[f], HOST[f], layer4);
            assert_eq!(from_uplink(&mut world, &to_host).0, Verdict::PASS);
            let asked = match layer4 {
                Layer4::EchoReply { id } => Layer4::EchoRequest { id },
                other => other,
            };
            let (verdict, _) =
                from_container(&mut world, &CLIENT, &CLIENT.sends(OUTSIDE[f], asked));
            assert!(verdict.is_drop(), "{verdict:?}");
            assert_eq!(from_uplink(&mut world, &to_host).0, Verdict::PASS);
        }
    }
}
