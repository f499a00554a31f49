//! The life of a flow: born unanswered, promoted in pairs once it is a
//! conversation, closed, reborn.

use netd_common::{
    abi::{
        Family, Flow, FlowKey, PortRange,
        wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    },
    conntrack::State,
    model::{
        Datagram, Layer4, World,
        cases::FAMILIES,
        scene::{self, CLIENT, Container, HOST, OUTSIDE, WEB, incoming},
    },
    nat,
    verdict::{DropReason, Verdict},
};

use crate::talk::{
    answer, answered, close_in, connect_in, delivered, flagged, forwarded, from_container,
    from_uplink, limited, outside, tcp, udp,
};

/// A connection of the client's to the outside: its SYN, and what left.
fn syn(f: Family, world: &mut World) -> (Datagram, Datagram) {
    let asked = CLIENT.sends(OUTSIDE[f], tcp(40_000, 443, TCP_SYN));
    let out = forwarded(from_container(world, &CLIENT, &asked));
    (asked, out)
}

/// As [`syn`], and the answer came, and the answer to that went.
fn connect(f: Family, world: &mut World) -> (Datagram, Datagram) {
    let (asked, out) = syn(f, world);
    shake_hands(world, &CLIENT, &asked, &out);
    (flagged(&asked, TCP_ACK), flagged(&answer(&out), TCP_ACK))
}

/// What comes after a SYN, which left as `out`.
#[track_caller]
fn shake_hands(world: &mut World, client: &Container, asked: &Datagram, out: &Datagram) {
    delivered(client, from_uplink(world, &flagged(&answer(out), TCP_SYN | TCP_ACK)));
    forwarded(from_container(world, client, &flagged(asked, TCP_ACK)));
}

/// Each entry has its twin in the same table, in the same state.
#[track_caller]
fn assert_pairs(world: &World) {
    for table in [&world.flows, &world.embryonic] {
        for (key, flow) in table {
            let twin_key = nat::twin_key(key, flow);
            let twin = table.get(&twin_key).expect("its twin is there");
            assert_eq!(nat::twin_key(&twin_key, twin), *key, "twins know each other");
            assert_eq!(twin.state, flow.state);
            assert_ne!(twin.has(Flow::ORIGINAL), flow.has(Flow::ORIGINAL));
        }
    }
}

#[track_caller]
fn assert_state(world: &World, state: State) {
    assert_eq!((world.flows.len(), world.embryonic.len()), (2, 0));
    assert_pairs(world);
    assert!(world.flows.values().all(|flow| flow.state == state as u8), "{:?}", world.flows);
}

#[track_caller]
fn assert_embryonic(world: &World, state: State) {
    assert_eq!((world.flows.len(), world.embryonic.len()), (0, 2));
    assert_pairs(world);
    assert!(world.embryonic.values().all(|it| it.state == state as u8), "{:?}", world.embryonic);
}

#[test]
fn a_connection_is_embryonic_until_its_handshake_is_done() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = syn(f, &mut world);
        forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_embryonic(&world, State::New);
        let back = flagged(&answer(&out), TCP_SYN | TCP_ACK);
        for _ in 0..2 {
            delivered(&CLIENT, from_uplink(&mut world, &back));
            assert_embryonic(&world, State::Answered);
            forwarded(from_container(&mut world, &CLIENT, &asked));
            assert_embryonic(&world, State::Answered);
        }
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
        assert_state(&world, State::Established);
        let original = world.flows.values().find(|flow| flow.has(Flow::ORIGINAL)).unwrap();
        assert_eq!(original.counted(), (5, 5 * asked.frame().len() as u64));
    }
}

#[test]
fn a_connection_that_ends_with_its_handshake_is_half_closed() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = syn(f, &mut world);
        delivered(&CLIENT, from_uplink(&mut world, &flagged(&answer(&out), TCP_SYN | TCP_ACK)));
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_FIN | TCP_ACK)));
        assert_state(&world, State::HalfClosed);
    }
}

#[test]
fn a_connection_that_is_met_in_its_middle_is_one_when_it_is_answered() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(OUTSIDE[f], tcp(40_000, 443, TCP_ACK));
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        delivered(&CLIENT, from_uplink(&mut world, &flagged(&answer(&out), TCP_ACK)));
        assert_state(&world, State::Established);
    }
}

#[test]
fn who_asks_in_the_name_of_others_takes_no_place_of_a_connections() {
    for f in FAMILIES {
        let mut world = scene::world();
        for client in 0..100 {
            let from = outside(f, client);
            let asked = incoming(from, HOST[f], tcp(40_000, 8080, TCP_SYN));
            let received = delivered(&WEB, from_uplink(&mut world, &asked));
            let answer = flagged(&received.answer(), TCP_SYN | TCP_ACK);
            forwarded(from_container(&mut world, &WEB, &answer));
            // Some are there, and say that they have not asked.
            let reset = incoming(from, HOST[f], tcp(40_000, 8080, TCP_RST));
            delivered(&WEB, from_uplink(&mut world, &reset));
            let asked = incoming(from, HOST[f], udp(40_000, 5353));
            let received = delivered(&WEB, from_uplink(&mut world, &asked));
            forwarded(from_container(&mut world, &WEB, &received.answer()));
        }
        assert_eq!((world.flows.len(), world.embryonic.len()), (0, 400));
        assert_pairs(&world);
    }
}

#[test]
fn a_published_flow_is_embryonic_until_it_is_a_conversation() {
    for f in FAMILIES {
        for (own, more) in [(tcp(40_000, 8080, TCP_SYN), tcp(40_000, 8080, TCP_ACK)), {
            let datagram = udp(40_000, 5353);
            (datagram, datagram)
        }] {
            let mut world = scene::world();
            let asked = incoming(OUTSIDE[f], HOST[f], own);
            let received = delivered(&WEB, from_uplink(&mut world, &asked));
            assert_embryonic(&world, State::New);
            let back = flagged(&received.answer(), TCP_SYN | TCP_ACK);
            forwarded(from_container(&mut world, &WEB, &back));
            assert_embryonic(&world, State::Answered);
            delivered(&WEB, from_uplink(&mut world, &incoming(OUTSIDE[f], HOST[f], more)));
            assert_state(&world, State::Established);
        }
    }
}

#[test]
fn an_answer_of_many_datagrams_is_a_conversation() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        assert_embryonic(&world, State::Answered);
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_refused_connection_is_never_promoted() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (_, out) = syn(f, &mut world);
        let reset = flagged(&answer(&out), TCP_RST | TCP_ACK);
        delivered(&CLIENT, from_uplink(&mut world, &reset));
        assert_eq!((world.flows.len(), world.embryonic.len()), (0, 2));
    }
}

#[test]
fn a_flood_of_unanswered_flows_does_not_touch_the_answered() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, _) = connect(f, &mut world);
        for port in 1..2000 {
            let flood = CLIENT.sends(OUTSIDE[f], tcp(port, 443, TCP_SYN));
            forwarded(from_container(&mut world, &CLIENT, &flood));
        }
        world.embryonic.clear();
        forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_reset_does_not_kill_a_flow() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, back) = connect(f, &mut world);
        delivered(&CLIENT, from_uplink(&mut world, &flagged(&back, TCP_RST)));
        assert_state(&world, State::Reset);
        delivered(&CLIENT, from_uplink(&mut world, &back));
        assert_state(&world, State::Established);
        forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_flow_closes_when_both_sides_are_done() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, _) = close(f, &mut world);
        // The last ACK of a close still gets through.
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
        assert_state(&world, State::Closing);
    }
}

/// A connection of the client's to the outside that both sides have ended: its
/// SYN, and what left.
fn close(f: Family, world: &mut World) -> (Datagram, Datagram) {
    let (asked, out) = syn(f, world);
    shake_hands(world, &CLIENT, &asked, &out);
    forwarded(from_container(world, &CLIENT, &flagged(&asked, TCP_FIN | TCP_ACK)));
    assert_state(world, State::HalfClosed);
    delivered(&CLIENT, from_uplink(world, &flagged(&answer(&out), TCP_FIN | TCP_ACK)));
    assert_state(world, State::Closing);
    (asked, out)
}

#[test]
fn a_syn_on_a_closing_flow_starts_a_new_one_in_its_place() {
    for f in FAMILIES {
        let mut world = limited(1, &[&CLIENT]);
        let (asked, out) = close(f, &mut world);
        // No other would find room.
        world.flows_capacity = 2;
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_eq!(again, out, "the same port");
        assert_state(&world, State::Reopened);
        assert!(!world.flows.values().any(|flow| flow.has(Flow::FIN)));
        assert_eq!(world.flows[&key_of(&world.flows, true)].counted().0, 1);
        assert_eq!(world.flows[&key_of(&world.flows, false)].counted().0, 0);

        for _ in 0..2 {
            forwarded(from_container(&mut world, &CLIENT, &asked));
            let back = flagged(&answer(&out), TCP_SYN | TCP_ACK);
            delivered(&CLIENT, from_uplink(&mut world, &back));
            assert_state(&world, State::Reopened);
        }
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
        assert_state(&world, State::Established);
        assert!(!world.flows.values().any(|flow| flow.has(Flow::FIN)));
        assert_eq!(answered(&world, &CLIENT), 1, "one in another's place");
    }
}

#[test]
fn a_refused_connection_in_the_place_of_another_can_be_tried_again() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = close(f, &mut world);
        for _ in 0..2 {
            forwarded(from_container(&mut world, &CLIENT, &asked));
            let refused = flagged(&answer(&out), TCP_RST | TCP_ACK);
            delivered(&CLIENT, from_uplink(&mut world, &refused));
            assert_state(&world, State::Reset);
        }
    }
}

#[test]
fn a_published_flow_is_reopened_in_its_place() {
    for f in FAMILIES {
        let mut world = limited(1, &[&WEB]);
        let (asked, received) = connect_in(f, &mut world);
        close_in(&mut world, &asked, &received);
        assert_state(&world, State::Closing);

        assert_eq!(delivered(&WEB, from_uplink(&mut world, &asked)), received);
        assert_state(&world, State::Reopened);
        let back = flagged(&received.answer(), TCP_SYN | TCP_ACK);
        forwarded(from_container(&mut world, &WEB, &back));
        assert_state(&world, State::Reopened);
        delivered(&WEB, from_uplink(&mut world, &flagged(&asked, TCP_ACK)));
        assert_state(&world, State::Established);
        close_in(&mut world, &asked, &received);

        // Its port is another's by now: nothing of the old one may remain.
        world.ports.retain(|key, _| key.port.to_host() != 8080);
        assert_eq!(from_uplink(&mut world, &asked).0, Verdict::PASS);
        assert_eq!((world.flows.len(), world.embryonic.len()), (0, 0));
        assert_eq!(answered(&world, &WEB), 0);
    }
}

#[test]
fn a_syn_on_a_closing_flow_whose_port_is_taken_gets_another() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = close(f, &mut world);
        let Layer4::Tcp { sport, .. } = out.layer4 else { panic!("{out:?}") };
        world.reserved_ports.insert(sport);
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_ne!(again.layer4, out.layer4);
        assert_embryonic(&world, State::New);
        shake_hands(&mut world, &CLIENT, &asked, &again);
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_syn_on_a_closing_flow_that_the_agent_is_ending_starts_one_of_its_own() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, _) = close(f, &mut world);
        let reply = key_of(&world.flows, false);
        world.flows.remove(&reply);
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_embryonic(&world, State::New);
        shake_hands(&mut world, &CLIENT, &asked, &again);
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_reset_and_a_syn_of_anybody_end_no_connection() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, back) = connect(f, &mut world);
        delivered(&CLIENT, from_uplink(&mut world, &flagged(&back, TCP_RST)));
        assert_eq!(from_uplink(&mut world, &flagged(&back, TCP_SYN)).0, Verdict::PASS);
        assert_state(&world, State::Reset);
        forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_reset_and_a_syn_that_is_refused_end_no_connection() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, received) = connect_in(f, &mut world);
        for target in world.ports.values_mut() {
            target.allow = 77;
        }
        delivered(&WEB, from_uplink(&mut world, &flagged(&asked, TCP_RST)));
        let refused = from_uplink(&mut world, &asked).0;
        assert_eq!(refused, Verdict::drop(DropReason::NotAllowed));
        assert_state(&world, State::Reset);
        forwarded(from_container(&mut world, &WEB, &flagged(&received.answer(), TCP_ACK)));
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_syn_on_a_living_flow_is_part_of_it() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, _) = connect(f, &mut world);
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_SYN)));
        assert_state(&world, State::Established);
    }
}

fn key_of(table: &std::collections::HashMap<FlowKey, Flow>, original: bool) -> FlowKey {
    *table.iter().find(|(_, flow)| flow.has(Flow::ORIGINAL) == original).expect("it is there").0
}

#[test]
fn a_lost_reply_entry_is_put_back() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = syn(f, &mut world);
        let reply = key_of(&world.embryonic, false);
        world.embryonic.remove(&reply);
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_eq!(again, out, "the same port");
        assert_pairs(&world);
        shake_hands(&mut world, &CLIENT, &asked, &again);
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_lost_original_entry_is_put_back() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, out) = syn(f, &mut world);
        let original = key_of(&world.embryonic, true);
        world.embryonic.remove(&original);
        // An answer gets through meanwhile, but can't make half a flow.
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        assert!(world.flows.is_empty());
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_eq!(again, out, "the same port");
        shake_hands(&mut world, &CLIENT, &asked, &again);
        assert_state(&world, State::Established);
    }
}

#[test]
fn a_lost_reply_entry_whose_port_went_to_another_gets_a_new_port() {
    for f in FAMILIES {
        let mut world = scene::world();
        let config = world.config_mut();
        (config.snat_low.first, config.snat_low.last) = (5000, 5000);
        config.snat_high = PortRange::EMPTY;
        let (asked, out) = syn(f, &mut world);
        let reply = key_of(&world.embryonic, false);
        world.embryonic.remove(&reply);
        let other = WEB.sends(OUTSIDE[f], tcp(40_000, 443, TCP_SYN));
        let others = forwarded(from_container(&mut world, &WEB, &other));
        assert_eq!(others.layer4, out.layer4, "the one port there is");

        world.config_mut().snat_low.last = 5001;
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_eq!(again.layer4, tcp(5001, 443, TCP_SYN), "not the other's port");
        shake_hands(&mut world, &CLIENT, &asked, &again);
        shake_hands(&mut world, &WEB, &other, &others);
        assert_eq!(world.flows.len(), 4);
        assert_pairs(&world);
    }
}

#[test]
fn a_late_answer_to_a_port_given_up_makes_no_pair_with_the_new_one() {
    for f in FAMILIES {
        let mut world = scene::world();
        let config = world.config_mut();
        (config.snat_low.first, config.snat_low.last) = (5000, 5001);
        config.snat_high = PortRange::EMPTY;
        let (asked, out) = syn(f, &mut world);
        let original = key_of(&world.embryonic, true);
        world.embryonic.remove(&original);
        let Layer4::Tcp { sport, .. } = out.layer4 else { panic!("{out:?}") };
        world.reserved_ports.insert(sport);
        let again = forwarded(from_container(&mut world, &CLIENT, &asked));
        assert_ne!(again.layer4, out.layer4);
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        assert!(world.flows.is_empty());
        shake_hands(&mut world, &CLIENT, &asked, &again);
        assert_eq!(world.flows.len(), 2);
        for (key, flow) in &world.flows {
            assert!(world.flows.contains_key(&nat::twin_key(key, flow)));
        }
    }
}

#[test]
fn times_are_those_of_the_last_packet() {
    for f in FAMILIES {
        let mut world = scene::world();
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        let out = forwarded(from_container(&mut world, &CLIENT, &asked));
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        forwarded(from_container(&mut world, &CLIENT, &asked));
        world.now += 5;
        delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        world.now += 5;
        forwarded(from_container(&mut world, &CLIENT, &asked));
        let seen = |original| world.flows[&key_of(&world.flows, original)].last_seen;
        assert_eq!((seen(true), seen(false)), (world.now, world.now - 5));
        let sender = world.endpoints[&CLIENT.address[f].into()];
        assert_eq!(sender.last_seen, world.now - 10, "a known flow says nothing new");
    }
}

#[test]
fn unanswered_packets_do_not_open_a_way_in() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (_, out) = syn(f, &mut world);
        let stranger = Datagram { src: scene::FAR[f], ..answer(&out) };
        assert_eq!(from_uplink(&mut world, &stranger).0, Verdict::PASS);
        let other_port = Datagram { layer4: tcp(444, 40_000, TCP_ACK), ..answer(&out) };
        assert_eq!(from_uplink(&mut world, &other_port).0, Verdict::PASS);
    }
}
