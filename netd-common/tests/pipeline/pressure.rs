//! What happens when there is room for no further flow: none in the table, or
//! none in a container's quota.

use netd_common::{
    abi::{
        Family, Flow,
        wire::{TCP_ACK, TCP_SYN},
    },
    model::{
        Datagram, World,
        cases::FAMILIES,
        scene::{self, CLIENT, HOST, OUTSIDE, WEB, incoming},
    },
    verdict::{DropReason, Verdict},
};

use crate::talk::{
    answer, answered, delivered, flagged, forwarded, from_container, from_uplink, limited, tcp, udp,
};

const FULL: Verdict = Verdict::drop(DropReason::FlowTableFull);
const QUOTA: Verdict = Verdict::drop(DropReason::FlowQuota);

fn syn(f: Family, sport: u16) -> Datagram {
    CLIENT.sends(OUTSIDE[f], tcp(sport, 443, TCP_SYN))
}

/// A connection of the client's to the outside: its SYN, the answer to it, and
/// the answer to that.
#[track_caller]
fn connect(f: Family, world: &mut World, sport: u16) -> (Datagram, Datagram) {
    let asked = syn(f, sport);
    let out = forwarded(from_container(world, &CLIENT, &asked));
    let back = flagged(&answer(&out), TCP_SYN | TCP_ACK);
    delivered(&CLIENT, from_uplink(world, &back));
    forwarded(from_container(world, &CLIENT, &flagged(&asked, TCP_ACK)));
    (asked, back)
}

#[test]
fn a_full_table_takes_no_connection_until_there_is_room() {
    for f in FAMILIES {
        for room in [0, 1] {
            let mut world = scene::world();
            world.flows_capacity = room;
            let asked = syn(f, 40_000);
            let out = forwarded(from_container(&mut world, &CLIENT, &asked));
            let back = flagged(&answer(&out), TCP_SYN | TCP_ACK);
            for _ in 0..3 {
                let answered = from_uplink(&mut world, &back);
                if room == 0 {
                    assert_eq!(answered.0, FULL);
                } else {
                    // There is room for one direction, which is found later.
                    delivered(&CLIENT, answered);
                    let last = flagged(&asked, TCP_ACK);
                    assert_eq!(from_container(&mut world, &CLIENT, &last).0, FULL);
                }
                forwarded(from_container(&mut world, &CLIENT, &asked));
            }
            assert_eq!((world.flows.len(), world.embryonic.len()), (0, 2));
            world.flows_capacity = 2;
            delivered(&CLIENT, from_uplink(&mut world, &back));
            forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
            assert_eq!((world.flows.len(), world.embryonic.len()), (2, 0));
        }
    }
}

#[test]
fn a_full_table_breaks_no_connection_that_is_in_it() {
    for f in FAMILIES {
        let mut world = scene::world();
        let (asked, back) = connect(f, &mut world, 40_000);
        world.flows_capacity = 2;
        let out = forwarded(from_container(&mut world, &CLIENT, &syn(f, 40_001)));
        assert_eq!(from_uplink(&mut world, &flagged(&answer(&out), TCP_SYN | TCP_ACK)).0, FULL);
        forwarded(from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
        delivered(&CLIENT, from_uplink(&mut world, &flagged(&back, TCP_ACK)));
    }
}

#[test]
fn what_has_no_connections_does_without_a_place_in_the_table() {
    for f in FAMILIES {
        let mut world = scene::world();
        world.flows_capacity = 0;
        let asked = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        for _ in 0..3 {
            let out = forwarded(from_container(&mut world, &CLIENT, &asked));
            delivered(&CLIENT, from_uplink(&mut world, &answer(&out)));
        }
        assert_eq!((world.flows.len(), world.embryonic.len()), (0, 2));
    }
}

#[test]
fn a_container_opens_as_many_flows_as_its_quota_says() {
    for f in FAMILIES {
        let mut world = limited(2, &[&CLIENT]);
        let kept = connect(f, &mut world, 40_000);
        connect(f, &mut world, 40_001);
        assert_eq!(answered(&world, &CLIENT), 2);
        assert_eq!(from_container(&mut world, &CLIENT, &syn(f, 40_002)).0, QUOTA);
        let query = CLIENT.sends(OUTSIDE[f], udp(40_000, 53));
        assert_eq!(from_container(&mut world, &CLIENT, &query).0, QUOTA);
        // What it has goes on, and others are not concerned.
        forwarded(from_container(&mut world, &CLIENT, &flagged(&kept.0, TCP_ACK)));
        forwarded(from_container(&mut world, &WEB, &WEB.sends(OUTSIDE[f], udp(40_000, 53))));
    }
}

#[test]
fn flows_that_were_asked_for_at_once_do_not_pass_the_quota_together() {
    for f in FAMILIES {
        let mut world = limited(1, &[&CLIENT]);
        let outs = [1, 2].map(|port| forwarded(from_container(&mut world, &CLIENT, &syn(f, port))));
        let [one, other] = outs.map(|out| flagged(&answer(&out), TCP_SYN | TCP_ACK));
        delivered(&CLIENT, from_uplink(&mut world, &one));
        forwarded(from_container(&mut world, &CLIENT, &flagged(&syn(f, 1), TCP_ACK)));
        assert_eq!(from_uplink(&mut world, &other).0, QUOTA);
        assert_eq!(answered(&world, &CLIENT), 1);
    }
}

#[test]
fn flows_from_outside_count_towards_the_quota_of_whoever_answers() {
    for f in FAMILIES {
        let mut world = limited(1, &[&WEB]);
        let syn = |sport| incoming(OUTSIDE[f], HOST[f], tcp(sport, 8080, TCP_SYN));
        let got = delivered(&WEB, from_uplink(&mut world, &syn(50_000)));
        let back = Datagram { src_mac: WEB.mac, dst_mac: got.src_mac, ..got.answer() };
        forwarded(from_container(&mut world, &WEB, &flagged(&back, TCP_SYN | TCP_ACK)));
        delivered(&WEB, from_uplink(&mut world, &flagged(&syn(50_000), TCP_ACK)));
        assert_eq!(answered(&world, &WEB), 1);
        assert_eq!(from_uplink(&mut world, &syn(50_001)).0, QUOTA);
    }
}

#[test]
fn a_flow_between_two_containers_counts_for_both() {
    for f in FAMILIES {
        let mut world = limited(1, &[&WEB, &CLIENT]);
        let asked = CLIENT.sends(HOST[f], tcp(40_000, 8080, TCP_SYN));
        let got = delivered(&WEB, from_container(&mut world, &CLIENT, &asked));
        let back = Datagram { src_mac: WEB.mac, dst_mac: got.src_mac, ..got.answer() };
        delivered(&CLIENT, from_container(&mut world, &WEB, &flagged(&back, TCP_SYN | TCP_ACK)));
        delivered(&WEB, from_container(&mut world, &CLIENT, &flagged(&asked, TCP_ACK)));
        assert_eq!([&WEB, &CLIENT].map(|it| answered(&world, it)), [1, 1]);
        assert_eq!(from_container(&mut world, &CLIENT, &syn(f, 1)).0, QUOTA);
    }
}

#[test]
fn a_connection_in_the_place_of_a_closed_one_is_counted_once() {
    use netd_common::abi::wire::TCP_RST;
    for f in FAMILIES {
        let mut world = limited(2, &[&CLIENT]);
        for _ in 0..5 {
            let (_, back) = connect(f, &mut world, 40_000);
            delivered(&CLIENT, from_uplink(&mut world, &flagged(&back, TCP_RST)));
        }
        assert_eq!(answered(&world, &CLIENT), 1);
    }
}

#[test]
fn what_the_agent_has_forgotten_makes_room() {
    let mut world = limited(1, &[&CLIENT]);
    connect(Family::V4, &mut world, 40_000);
    world.flows.retain(|_, flow: &mut Flow| flow.in_ifindex == u32::MAX);
    world.quotas.get_mut(&CLIENT.ifindex).expect("a quota").forgotten = 1;
    connect(Family::V4, &mut world, 40_001);
}
