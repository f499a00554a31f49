//! Published ports: where they listen, what they lead to, who holds them.

use std::{io::ErrorKind, net::SocketAddr};

use netd_tests::{
    Agent, DEADLINE, NetNs, SILENCE, Topology, exchange,
    json::{number, rows, text},
    topology::{HOST, at},
};
use serde_json::Value;

const ANY: [u8; 4] = [0, 0, 0, 0];

fn any(port: u16) -> SocketAddr {
    (ANY, port).into()
}

/// `port ls` as (host address, host port, container port, protocol).
fn listed(agent: &Agent, container: &str) -> Vec<(String, u16, u16, String)> {
    let rows_of = agent.json(&format!("port ls {container}"));
    let row = |row: &Value| {
        let port = |key| u16::try_from(number(row, key)).expect("a port");
        assert_eq!(text(row, "/Container"), container);
        let (host, inner) = (port("/HostPort"), port("/ContainerPort"));
        (text(row, "/HostIp").to_owned(), host, inner, text(row, "/Protocol").to_owned())
    };
    rows(&rows_of).iter().map(row).collect()
}

#[track_caller]
fn tcp_in_use(ns: &NetNs, at: SocketAddr) {
    let error = ns.can_bind_tcp(at).expect_err("netd holds the port");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[track_caller]
fn udp_in_use(ns: &NetNs, at: SocketAddr) {
    let error = ns.can_bind_udp(at).expect_err("netd holds the port");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

fn ephemeral(ns: &NetNs) -> std::ops::RangeInclusive<u16> {
    let range = ns.sysctl("net/ipv4/ip_local_port_range");
    let mut ends = range.split_whitespace().map(|end| end.parse().expect("a port"));
    let (first, last) = (ends.next().expect("its start"), ends.next().expect("its end"));
    first..=last
}

#[test]
fn tcp_and_udp_of_one_number_lead_to_their_own_ports() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80 -p 8080:53/udp");
    let (tcp, udp) = (web.ns.echo_tcp("0.0.0.0:80"), web.ns.echo_udp("0.0.0.0:53"));

    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, b"hello");
    assert!(net.outside.udp_echoes(at(HOST, 8080), DEADLINE));
    assert_eq!(tcp.peers(), [stream.local_addr().unwrap()]);
    assert_eq!(udp.peers()[0].ip(), netd_tests::topology::OUTSIDE);
}

#[test]
fn a_range_leads_port_by_port() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 9000-9002:90-92");
    let tcp = |host, inner| ("0.0.0.0".to_owned(), host, inner, "tcp".to_owned());
    assert_eq!(listed(&agent, "web"), [tcp(9000, 90), tcp(9001, 91), tcp(9002, 92)]);

    for n in 0..3 {
        let server = web.ns.echo_tcp(&format!("0.0.0.0:{}", 90 + n));
        exchange(&mut net.outside.connect(at(HOST, 9000 + n)), b"hello");
        assert_eq!(server.peers().len(), 1);
    }
}

#[test]
fn a_range_for_one_port_gives_any_free_one_of_it() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("one", "-p 9100-9101:80");
    agent.container("two", "-p 9100-9101:80");
    let mut given = [listed(&agent, "one")[0].1, listed(&agent, "two")[0].1];
    given.sort_unstable();
    assert_eq!(given, [9100, 9101]);
}

#[test]
fn a_port_of_one_host_address_is_not_on_the_others() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    let agent = net.agent();
    let web = agent.container("web", "-p 192.0.2.9:8080:80");
    let server = web.ns.echo_tcp("0.0.0.0:80");

    exchange(&mut net.outside.connect("192.0.2.9:8080".parse().unwrap()), b"hello");
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    assert_eq!(server.peers().len(), 1);

    // The same number of another address leads elsewhere.
    let other = agent.container("other", "-p 192.0.2.1:8080:81");
    let second = other.ns.echo_tcp("0.0.0.0:81");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!((server.peers().len(), second.peers().len()), (1, 1));
}

#[test]
fn publish_all_gives_each_exposed_port_a_free_one() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-P --expose 80 --expose 53/udp");
    let rows = listed(&agent, "web");
    let range = ephemeral(&net.host);
    assert!(rows.iter().all(|row| range.contains(&row.1)), "{rows:?} in {range:?}");
    let of = |proto: &str| rows.iter().find(|row| row.3 == proto).expect("a row of each");
    assert_eq!((of("tcp").2, of("udp").2, rows.len()), (80, 53, 2));

    let _tcp = web.ns.echo_tcp("0.0.0.0:80");
    let _udp = web.ns.echo_udp("0.0.0.0:53");
    exchange(&mut net.outside.connect(at(HOST, of("tcp").1)), b"hello");
    assert!(net.outside.udp_echoes(at(HOST, of("udp").1), DEADLINE));
}

#[test]
fn a_bare_container_port_gets_a_free_host_port() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 80");
    let other = agent.container("other", "-p 80");
    let (first, second) = (listed(&agent, "web")[0].1, listed(&agent, "other")[0].1);
    assert_ne!(first, second);
    assert!(ephemeral(&net.host).contains(&first));

    let (web, _other) = (web.ns.echo_tcp("0.0.0.0:80"), other.ns.echo_tcp("0.0.0.0:80"));
    exchange(&mut net.outside.connect(at(HOST, first)), b"hello");
    assert_eq!(web.peers().len(), 1);
}

#[test]
fn a_free_host_port_is_none_that_the_host_reserves_however_many_it_does() {
    let net = Topology::new();
    let agent = net.agent();
    net.host.set_sysctl("net/ipv4/ip_local_port_range", "40000 40019");
    let elsewhere: Vec<_> = (0..100).map(|n| (20_000 + 2 * n).to_string()).collect();
    let reserved = format!("{},40000-40016,40018-40019", elsewhere.join(","));
    net.host.set_sysctl("net/ipv4/ip_local_reserved_ports", &reserved);
    agent.container("web", "-p 80");
    assert_eq!(listed(&agent, "web").iter().map(|row| row.1).collect::<Vec<_>>(), [40_017]);
}

#[test]
fn ports_come_and_go_on_a_running_container() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "");
    let before = agent.snapshot();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());

    agent.netd("port add web 8080:80 8081:80/udp").ok();
    let mut kept = net.outside.connect(at(HOST, 8080));
    exchange(&mut kept, b"hello");
    assert_eq!(listed(&agent, "web").len(), 2);

    agent.netd("port rm web 8080:80 8081:80/udp").ok();
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    assert_eq!(server.peers().len(), 1);
    drop(kept);
    agent.snapshot().assert_same(&before);
}

#[test]
fn nobody_else_can_take_a_published_port() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 8080:80 -p 8081:81/udp -p 192.0.2.1:8082:82");

    tcp_in_use(&net.host, any(8080));
    tcp_in_use(&net.host, at(HOST, 8080));
    udp_in_use(&net.host, any(8081));
    tcp_in_use(&net.host, at(HOST, 8082));
    let loopback = "127.0.0.1:8082".parse().unwrap();
    assert!(net.host.can_bind_tcp(loopback).is_ok(), "only the address that was named");
    assert!(net.host.can_bind_udp(any(8080)).is_ok(), "only the protocol that was named");

    agent.netd("rm -f web").ok();
    for port in [8080, 8082] {
        net.host.can_bind_tcp(any(port)).unwrap();
    }
    net.host.can_bind_udp(any(8081)).unwrap();
}

#[test]
fn a_reserved_port_never_answers_by_itself() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 8080:80");
    // Nobody listens in the container, so the reset is the container's.
    let error = net.outside.connect_tcp(at(HOST, 8080), DEADLINE).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_that_moves_never_leads_to_its_old_container() {
    let net = Topology::new();
    let agent = net.agent();
    let old = agent.container("old", "-p 8080:80/udp");
    let old_server = old.ns.echo_udp("0.0.0.0:80");
    // One client socket all along: its flow must not outlive the mapping.
    let client = net.outside.udp_to(at(HOST, 8080));
    let ask = |data: &[u8]| {
        client.send(data).expect("send");
        client.recv(&mut [0; 16]).expect("an echo")
    };
    ask(b"old");

    agent.netd("port rm old 8080:80/udp").ok();
    let new = agent.container("new", "-p 8080:80/udp");
    let new_server = new.ns.echo_udp("0.0.0.0:80");
    ask(b"new");
    assert_eq!(old_server.heard().len(), 1);
    assert_eq!(new_server.heard()[0].data, b"new");
}

#[test]
fn two_published_ports_may_lead_to_one_container_port() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80/udp -p 8081:80/udp");
    let server = web.ns.echo_udp("0.0.0.0:80");

    // One client port asks both: the replies must come from whom it asked.
    let client = net.outside.run(|| std::net::UdpSocket::bind("192.0.2.2:4000")).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    for port in [8080, 8081] {
        client.send_to(b"hello", at(HOST, port)).unwrap();
        let (_, from) = client.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from, at(HOST, port));
    }
    let peers = server.peers();
    assert_ne!(peers[0], peers[1], "the server tells them apart");
}

#[test]
fn the_port_column_reads_like_dockers() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 8080:80");
    let containers = agent.json("ps");
    assert_eq!(rows(&containers)[0]["Ports"], serde_json::json!(["0.0.0.0:8080->80/tcp"]));
}
