//! Datagrams that no link carries in one piece, through both translations.

use std::{collections::BTreeSet, io::ErrorKind, net::IpAddr, thread, time::Duration};

use netd_tests::{
    Agent, Container, DEADLINE, Echo, Family, NetNs, Offload, Topology, flood, topology::at,
};

const DATAGRAMS: u32 = 10_000;
/// Fewer of those that wait for what is lost.
const SWAPPED: u32 = 2000;
/// How long an echo may take where some are lost.
const PATIENCE: Duration = Duration::from_millis(200);

fn network(agent: &Agent, family: Family) {
    agent.network("mine", "172.18.0.0/16", family.pick("", "--ipv6 --subnet fd00:18::/64"));
}

fn container(agent: &Agent, name: &str, port: u16) -> Container {
    agent.container(name, &format!("--network mine -p {port}:80/udp"))
}

/// Every datagram was heard, once.
#[track_caller]
fn heard_all(server: &Echo, tag: u8) {
    let heard = server.heard();
    let numbers: BTreeSet<_> = heard.iter().map(|h| flood::large_number(&h.data, tag)).collect();
    assert_eq!((heard.len(), numbers.len()), (DATAGRAMS as usize, DATAGRAMS as usize));
}

/// Learns a neighbour's hardware address: of what waits for that, the kernel
/// throws away all but some 90 packets (`unres_qlen_bytes`).
fn meet(ns: &NetNs, neighbour: IpAddr) {
    let socket = ns.udp_to(at(neighbour, 9));
    socket.send(b"hello").expect("send it");
    // Nobody listens there.
    let answer = socket.recv(&mut [0]).expect_err("it is refused");
    assert_eq!(answer.kind(), ErrorKind::ConnectionRefused);
}

fn none_is_lost(family: Family, offload: Offload) {
    let net = Topology::new();
    let agent = net.agent();
    network(&agent, family);
    let (web, client) = (container(&agent, "web", 8080), container(&agent, "client", 8081));
    net.set_offload(offload, &[&web, &client]);
    let outside = net.outside.echo_udp(&family.any(7));
    let inside = web.ns.echo_udp(&family.any(80));

    let gateway = family.pick("172.18.0.1", "fd00:18::1").parse().expect("an address");
    meet(&web.ns, gateway);
    meet(&client.ns, gateway);
    meet(&net.outside, family.host());
    let (out_to, in_to) = (at(family.outside(), 7), at(family.host(), 8080));
    let (out, into) = thread::scope(|scope| {
        let out = scope.spawn(|| flood::large(&client.ns, out_to, DATAGRAMS, 1, DEADLINE));
        let into = scope.spawn(|| flood::large(&net.outside, in_to, DATAGRAMS, 2, DEADLINE));
        (out.join().expect("SNAT"), into.join().expect("DNAT"))
    });
    let all = flood::Fate { echoed: DATAGRAMS, lost: 0 };
    assert_eq!((out, into), (all, all));
    heard_all(&outside, 1);
    heard_all(&inside, 2);
    assert!(outside.peers().iter().all(|peer| peer.ip() == family.host()));
    assert!(inside.peers().iter().all(|peer| peer.ip() == family.outside()));
    for ns in [&net.host, &net.outside, &web.ns, &client.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn none_is_lost_ipv4() {
    none_is_lost(Family::V4, Offload::Default);
}

#[test]
fn none_is_lost_ipv6() {
    none_is_lost(Family::V6, Offload::Default);
}

#[test]
fn none_is_lost_ipv4_with_tx_off() {
    none_is_lost(Family::V4, Offload::TxOff);
}

#[test]
fn none_is_lost_ipv6_with_tx_off() {
    none_is_lost(Family::V6, Offload::TxOff);
}

/// Fragments that overtake the first of their datagram have no ports: they
/// may be lost, and are counted, but never reach another container.
fn none_is_misdelivered_by_a_hop_that_swaps_them(family: Family) {
    let (net, _hop) = Topology::behind_swapping_hop();
    let agent = net.agent();
    network(&agent, family);
    let containers = [container(&agent, "one", 8081), container(&agent, "two", 8082)];
    let servers = [1, 2].map(|tag: u8| {
        let ns = &containers[usize::from(tag) - 1].ns;
        (tag, ns.echo_udp(&family.any(80)))
    });
    let outside = net.outside.echo_udp(&family.any(7));
    let before = agent.dropped("fragment_out_of_order");

    // Both containers are spoken to, and speak, all at once.
    let fates = thread::scope(|scope| {
        let talks: Vec<_> = containers
            .iter()
            .zip([1_u8, 2])
            .flat_map(|(container, tag)| {
                let into = at(family.host(), 8080 + u16::from(tag));
                let out = at(family.outside(), 7);
                [(&net.outside, into, tag), (&container.ns, out, 10 + tag)]
            })
            .map(|(from, to, tag)| {
                scope.spawn(move || flood::large(from, to, SWAPPED, tag, PATIENCE))
            })
            .collect();
        talks.into_iter().map(|talk| talk.join().expect("an exchange")).collect::<Vec<_>>()
    });
    for (tag, server) in &servers {
        let heard = server.heard();
        assert!(!heard.is_empty(), "some arrive at {tag}");
        for heard in heard {
            flood::large_number(&heard.data, *tag);
            assert_eq!(heard.peer.ip(), family.outside());
        }
    }
    for heard in outside.heard() {
        let tag = *heard.data.last().expect("not empty");
        assert!(matches!(tag, 11 | 12), "what the outside hears is meant for it, not {tag}");
        flood::large_number(&heard.data, tag);
    }
    assert!(fates.iter().all(|fate| fate.echoed > 0), "{fates:?}");
    // About half of the datagrams have their first fragment overtaken.
    assert!(fates.iter().all(|fate| fate.lost > 0), "{fates:?}");
    agent.expect_dropped("fragment_out_of_order", before);
}

#[test]
fn none_is_misdelivered_by_a_hop_that_swaps_them_ipv4() {
    none_is_misdelivered_by_a_hop_that_swaps_them(Family::V4);
}

#[test]
fn none_is_misdelivered_by_a_hop_that_swaps_them_ipv6() {
    none_is_misdelivered_by_a_hop_that_swaps_them(Family::V6);
}
