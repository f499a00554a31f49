//! There and back: the answer reaches the asker as if nothing were between.

use netd_common::{
    abi::{
        Address, Config, Family, PortRange,
        wire::{TCP_ACK, TCP_SYN},
    },
    model::{
        self, Complaint, DESTINATION, Datagram, Extension, Layer4, World,
        cases::FAMILIES,
        scene::{
            self, ALIAS, CLIENT, Container, DIRECT, Dual, HOST, ONE, OUTSIDE, QUIET, ROUTER,
            ROUTER_MAC, UP0, UPLINK_MAC, WEB, gateway, incoming,
        },
    },
    verdict::{DropReason, Hook, Verdict},
};
use proptest::prelude::*;

use crate::talk::{
    answer, delivered, families, flagged, forwarded, from_container, from_uplink, outside, tcp, udp,
};

/// The answer as the asker expects it: from where it sent to, one hop closer.
fn expected(asked: &Datagram, answered: &Datagram, to: &Container) -> Datagram {
    Datagram {
        src_mac: to.gateway_mac,
        dst_mac: to.mac,
        ttl: answered.ttl - 1,
        payload: answered.payload.clone(),
        ..asked.answer()
    }
}

#[track_caller]
fn out_and_back(world: &mut World, container: &Container, asked: &Datagram) {
    for _ in 0..3 {
        let out = forwarded(from_container(world, container, asked));
        assert_eq!((out.src, out.ttl), (HOST[asked.family()], asked.ttl - 1));
        assert_eq!((out.dst, &out.payload), (asked.dst, &asked.payload));
        let back = answer(&out);
        let received = delivered(container, from_uplink(world, &back));
        assert_eq!(received.frame(), expected(asked, &back, container).frame());
    }
}

#[track_caller]
fn in_and_back(world: &mut World, asked: &Datagram, server: &Container, port: u16) {
    for _ in 0..3 {
        let received = delivered(server, from_uplink(world, asked));
        assert_eq!((received.src, received.ttl), (asked.src, asked.ttl - 1));
        let (Layer4::Tcp { dport, .. } | Layer4::Udp { dport, .. }) = received.layer4 else {
            panic!("{received:?}")
        };
        assert_eq!(dport, port);
        let back = received.answer();
        let out = forwarded(from_container(world, server, &back));
        let (src_mac, dst_mac) = (back.src_mac, back.dst_mac);
        let wanted = Datagram { src_mac, dst_mac, ttl: 63, ..asked.answer() };
        assert_eq!(out.frame(), wanted.frame());
    }
}

/// Between two containers by the host's address; gives the server's view.
#[track_caller]
fn hairpin_and_back(
    world: &mut World,
    client: &Container,
    asked: &Datagram,
    server: &Container,
) -> Datagram {
    let mut seen = None;
    for _ in 0..3 {
        let received = delivered(server, from_container(world, client, asked));
        let back = received.answer();
        let got = delivered(client, from_container(world, server, &back));
        assert_eq!(got.frame(), expected(asked, &back, client).frame());
        seen = Some(received);
    }
    seen.expect("it was seen")
}

fn layer4() -> impl Strategy<Value = Layer4> {
    prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(sport, dport)| tcp(sport, dport, TCP_SYN)),
        (any::<u16>(), any::<u16>()).prop_map(|(sport, dport)| udp(sport, dport)),
        (any::<u16>(), any::<u16>()).prop_map(|(sport, dport)| Layer4::BareUdp { sport, dport }),
        any::<u16>().prop_map(|id| Layer4::EchoRequest { id }),
        (any::<u16>(), any::<u16>()).prop_map(|(sport, dport)| Layer4::Sctp { sport, dport }),
        proptest::sample::select(vec![2, 41, 47, 50, 51, 89, 112, 253])
            .prop_map(|proto| Layer4::Raw { proto }),
    ]
}

proptest! {
    #[test]
    fn an_answer_to_snat_is_restored_to_the_byte(
        f in families(),
        layer4 in layer4(),
        host in 1u8..=254,
        ttl in 2u8..,
        seed: u32,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        words in 0usize..=10,
    ) {
        let mut world = scene::world();
        world.config_mut().seed = seed;
        let dst = outside(f, host);
        let asked = Datagram { ttl, payload, ..CLIENT.sends(dst, layer4) };
        let asked = match f {
            Family::V4 => Datagram { options: vec![1; words * 4], ..asked },
            Family::V6 if words == 0 => asked,
            Family::V6 => {
                let extensions = vec![Extension::new(DESTINATION, words - 1)];
                Datagram { extensions, ..asked }
            }
        };
        out_and_back(&mut world, &CLIENT, &asked);
    }

    #[test]
    fn an_answer_of_a_published_port_is_restored_to_the_byte(
        f in families(),
        sport: u16,
        src in 1u16..,
        ttl in 2u8..,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let [a, b] = src.to_be_bytes();
        let src = Dual::new([9, 0, a, b], [0x2001, 0xdb8, 9, 9, 0, 0, 0, src])[f];
        for (dport, port) in [(8080, 80), (5353, 53)] {
            let layer4 = if port == 80 { tcp(sport, dport, TCP_SYN) } else { udp(sport, dport) };
            let mut world = scene::world();
            let payload = payload.clone();
            let asked = Datagram { ttl, payload, ..incoming(src, ALIAS[f], layer4) };
            in_and_back(&mut world, &asked, &WEB, port);
        }
    }

    #[test]
    fn an_error_that_quotes_any_number_of_bytes_is_in_the_askers_words(
        f in families(),
        layer4 in layer4(),
        seed: u32,
        // 17 bytes end in the middle of TCP's checksum, which stays as it is.
        quoted in prop_oneof![8usize..17, 18usize..40],
        words in 0usize..=3,
        payload in proptest::collection::vec(any::<u8>(), 0..16),
        complaint in proptest::sample::select(&Complaint::ALL[..5]),
    ) {
        let mut world = scene::world();
        world.config_mut().seed = seed;
        let asked = Datagram { payload, ..CLIENT.sends(OUTSIDE[f], layer4) };
        let asked = match f {
            Family::V4 => Datagram { options: vec![1; words * 4], ..asked },
            Family::V6 if words == 0 => asked,
            Family::V6 => {
                Datagram { extensions: vec![Extension::new(DESTINATION, words - 1)], ..asked }
            }
        };
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        let error = out.complaint(ROUTER[f], complaint, quoted);
        let error = Datagram { src_mac: ROUTER_MAC, dst_mac: UPLINK_MAC, ..error };
        let got = delivered(&CLIENT, from_uplink(&mut world, &error));
        let inside = Datagram { ttl: out.ttl, ..asked };
        let told = inside.complaint(ROUTER[f], complaint, quoted);
        let (src_mac, dst_mac) = (CLIENT.gateway_mac, CLIENT.mac);
        let told = Datagram { src_mac, dst_mac, ttl: 63, id: got.id, ..told };
        prop_assert_eq!(got, told);
    }

    #[test]
    fn a_hairpin_is_restored_to_the_byte(f in families(), sport: u16, seed: u32) {
        let mut world = scene::world();
        world.config_mut().seed = seed;
        for (client, at, port, server) in [
            (CLIENT, HOST[f], 8080, WEB),
            (QUIET, HOST[f], 8080, WEB),
            (CLIENT, ALIAS[f], 9090, QUIET),
            (WEB, HOST[f], 8080, WEB),
        ] {
            let asked = client.sends(at, tcp(sport, port, TCP_SYN));
            hairpin_and_back(&mut world, &client, &asked, &server);
        }
    }
}

#[test]
fn a_hairpin_keeps_the_clients_address() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(ALIAS[f], tcp(40_000, 9090, TCP_SYN));
        let seen = hairpin_and_back(&mut world, &CLIENT, &asked, &QUIET);
        assert_eq!((seen.src, seen.layer4), (CLIENT.address[f], tcp(40_000, 90, TCP_SYN)));
    }
}

#[test]
fn a_hairpin_to_a_neighbour_keeps_apart_from_their_own_talk() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(HOST[f], tcp(40_000, 8080, TCP_SYN));
        let seen = hairpin_and_back(&mut world, &CLIENT, &asked, &WEB);
        assert_eq!(seen.src, CLIENT.address[f]);
        // The same two ports, on-link: no flow, no translation.
        let direct = CLIENT.tells(f, &WEB, tcp(40_000, 80, TCP_SYN));
        assert_eq!(delivered(&WEB, from_container(&mut world, &CLIENT, &direct)), direct);
        let back = direct.answer();
        assert_eq!(delivered(&CLIENT, from_container(&mut world, &WEB, &back)), back);
    }
}

#[test]
fn a_hairpin_to_a_neighbour_outlives_its_port_of_snat() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(HOST[f], tcp(40_000, 8080, TCP_SYN));
        let before = hairpin_and_back(&mut world, &CLIENT, &asked, &WEB);
        world.config_mut().leave_ports((1024, u16::MAX));
        let later = flagged(&asked, TCP_ACK);
        let after = hairpin_and_back(&mut world, &CLIENT, &later, &WEB);
        assert_eq!(after.layer4, flagged(&before, TCP_ACK).layer4);
    }
}

#[test]
fn what_a_published_containers_neighbour_asks_directly_is_soon_answered() {
    for f in FAMILIES {
        let mut world = scene::world();
        let direct = CLIENT.tells(f, &WEB, tcp(40_000, 80, TCP_SYN)).answer();
        let cost = |features| {
            world.config_mut().features = features;
            let before = world.map_operations.get();
            delivered(&CLIENT, from_container(&mut world, &WEB, &direct));
            world.map_operations.get() - before
        };
        // The two endpoints and the configuration: neither table of flows, and no
        // routes' generation.
        assert_eq!([Config::SNAT_PORTS_KEPT, 0].map(cost), [3, 6]);
    }
}

#[test]
fn a_container_that_reaches_itself_sees_its_gateway() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = WEB.sends(HOST[f], tcp(40_000, 8080, TCP_SYN));
        let seen = hairpin_and_back(&mut world, &WEB, &asked, &WEB);
        assert_eq!((seen.src, seen.layer4), (gateway(ONE)[f], tcp(40_000, 80, TCP_SYN)));
    }
}

#[test]
fn one_port_of_snat_serves_many_destinations() {
    for f in FAMILIES {
        let mut world = scene::world();
        let config = world.config_mut();
        (config.snat_low.first, config.snat_low.last) = (5000, 5000);
        config.snat_high = PortRange::EMPTY;
        for host in 1..200 {
            let dst = outside(f, host);
            let asked = CLIENT.sends(dst, tcp(40_000, 443, TCP_SYN));
            let out = forwarded(from_container(&mut world, &CLIENT, &asked));
            assert_eq!(out.layer4, tcp(5000, 443, TCP_SYN));
        }
    }
}

#[test]
fn netds_own_packets_carry_its_mark_and_next_hop() {
    for f in FAMILIES {
        use netd_common::{
            model::run,
            verdict::{Hook, Verdict},
        };
        let mut world = scene::world();
        let asked = CLIENT.sends(OUTSIDE[f], tcp(40_000, 443, TCP_ACK));
        let mut frame = CLIENT.frame(&asked);
        assert_eq!(run(Hook::FromContainer, &mut frame, &mut world), Verdict::forward(UP0));
        assert!(frame.translated);
        assert_eq!(frame.next_hop, Address::from(scene::ROUTER[f]));
        frame.ifindex = UP0;
        assert_eq!(run(Hook::ToUplink, &mut frame, &mut world), Verdict::PASS);
        assert!(!frame.translated, "the mark goes no further");
    }
}

#[test]
fn a_container_that_asks_from_a_listed_port_of_its_own_is_answered() {
    for family in FAMILIES {
        let mut world = scene::world();
        let asked = DIRECT.sends(OUTSIDE[family], tcp(443, 40_000, TCP_SYN));
        let out = forwarded(from_container(&mut world, &DIRECT, &asked));
        // Both ends open at once (RFC 9293, figure 8).
        let back = flagged(&answer(&out), TCP_SYN);
        let mut frame = scene::frame(UP0, back.frame());
        assert_eq!(model::run(Hook::UplinkXdp, &mut frame, &mut world), Verdict::PASS);
        delivered(&DIRECT, from_uplink(&mut world, &back));

        let other = incoming(OUTSIDE[family], DIRECT.address[family], tcp(40_001, 443, TCP_SYN));
        let mut frame = scene::frame(UP0, other.frame());
        let refused = Verdict::drop(DropReason::NotAllowed);
        assert_eq!(model::run(Hook::UplinkXdp, &mut frame, &mut world), refused);
    }
}
