//! Traffic in bulk, through every kind of translation at once: nothing is
//! lost, nothing arrives at the wrong place, every checksum is right.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use netd_tests::{
    Agent, Container, DEADLINE, Offload, Topology, eventually, exchange, flood,
    json::{rows, text},
    topology::{HOST, OUTSIDE, at},
};
use serde_json::Value;

const CONNECTIONS: u32 = 1000;
const DATAGRAMS: u32 = 10_000;

/// `web` publishes its port 80 as 8080, `client` publishes nothing.
fn web_and_client(agent: &Agent) -> (Container, Container) {
    agent.network("mine", "172.18.0.0/16", "");
    let web = agent.container("web", "--network mine -p 8080:80 -p 8080:80/udp");
    let client = agent.container("client", "--network mine");
    (web, client)
}

fn floods_pass_both_ways_at_once(offload: Offload) {
    let net = Topology::new();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    net.set_offload(offload, &[&web, &client]);
    let outside = (net.outside.echo_tcp("0.0.0.0:7"), net.outside.echo_udp("0.0.0.0:7"));
    let inside = (web.ns.echo_tcp("0.0.0.0:80"), web.ns.echo_udp("0.0.0.0:80"));

    let (out_to, in_to) = (at(OUTSIDE, 7), at(HOST, 8080));
    let (out_tcp, out_udp, in_tcp, in_udp) = thread::scope(|scope| {
        let out_tcp = scope.spawn(|| flood::tcp(&client.ns, out_to, CONNECTIONS));
        let out_udp = scope.spawn(|| flood::udp(&client.ns, out_to, DATAGRAMS));
        let in_tcp = scope.spawn(|| flood::tcp(&net.outside, in_to, CONNECTIONS));
        let in_udp = scope.spawn(|| flood::udp(&net.outside, in_to, DATAGRAMS));
        let end = |flood: thread::ScopedJoinHandle<'_, _>| flood.join().expect("the flood passes");
        (end(out_tcp), end(out_udp), end(in_tcp), end(in_udp))
    });

    // The outside sees the host's address, and one port for each socket.
    for (server, sent, count) in
        [(&outside.0, &out_tcp, CONNECTIONS), (&outside.1, &out_udp, DATAGRAMS)]
    {
        let heard = flood::heard_all(server, count);
        assert!(sent.values().all(|sender| sender.ip() == client.ip));
        assert!(heard.values().all(|peer| peer.ip() == HOST), "the host's address is seen");
        let pairs: BTreeSet<_> = sent.values().zip(heard.values()).collect();
        let senders: BTreeSet<_> = sent.values().collect();
        let peers: BTreeSet<_> = heard.values().collect();
        assert_eq!(peers.len(), senders.len(), "no two sockets share a port");
        assert_eq!(pairs.len(), senders.len(), "a socket keeps its port");
    }
    // The server sees the client's address and port.
    assert_eq!(flood::heard_all(&inside.0, CONNECTIONS), in_tcp);
    assert_eq!(flood::heard_all(&inside.1, DATAGRAMS), in_udp);

    for ns in [&net.host, &net.outside, &web.ns, &client.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn floods_pass_both_ways_at_once_with_offload() {
    floods_pass_both_ways_at_once(Offload::Default);
}

#[test]
fn floods_pass_both_ways_at_once_with_tx_off() {
    floods_pass_both_ways_at_once(Offload::TxOff);
}

/// Who was seen to send what: by address and port, or by address alone.
fn seen(senders: flood::Senders, address_only: bool) -> flood::Senders {
    let port = |peer: SocketAddr| if address_only { 0 } else { peer.port() };
    senders.into_iter().map(|(n, peer)| (n, SocketAddr::new(peer.ip(), port(peer)))).collect()
}

fn floods_pass_between_containers(offload: Offload) {
    let net = Topology::new();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    net.set_offload(offload, &[&web, &client]);

    // By its address, and by its published port on the host's. There netd picks
    // the client's port: with its own, the two conversations could be confused.
    for to in [web.at(80), at(HOST, 8080)] {
        let (tcp, udp) = (web.ns.echo_tcp("0.0.0.0:80"), web.ns.echo_udp("0.0.0.0:80"));
        let sent_tcp = flood::tcp(&client.ns, to, 200);
        let sent_udp = flood::udp(&client.ns, to, 2000);
        let hairpin = to.port() == 8080;
        assert_eq!(seen(flood::heard_all(&tcp, 200), hairpin), seen(sent_tcp, hairpin));
        assert_eq!(seen(flood::heard_all(&udp, 2000), hairpin), seen(sent_udp, hairpin));
    }
    for ns in [&net.host, &web.ns, &client.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn floods_pass_between_containers_with_offload() {
    floods_pass_between_containers(Offload::Default);
}

#[test]
fn floods_pass_between_containers_with_tx_off() {
    floods_pass_between_containers(Offload::TxOff);
}

/// Moves whole segments (GSO) in both directions.
fn iperf3_moves_data(offload: Offload) {
    let net = Topology::new();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    net.set_offload(offload, &[&web, &client]);
    let log = net.dir().path().join("iperf3.log");
    let serve = |ns: &netd_tests::NetNs, port: u16| {
        let server = ns.command("iperf3").args(["-s", "-p", &port.to_string()]).start(&log);
        ns.wait_for_listener(port);
        server
    };
    let _outside = serve(&net.outside, 5201);
    let _inside = serve(&web.ns, 80);

    let moves = |ns: &netd_tests::NetNs, line: &str| {
        let result: Value = serde_json::from_str(&ns.exec(line)).expect("iperf3 prints JSON");
        let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
        assert!(bits.is_some_and(|bits| bits > 50e6), "`{line}` moves too little: {result}");
    };
    for direction in ["", "-R"] {
        let out = format!("iperf3 -J -t 1 {direction} -c {OUTSIDE}");
        let into = format!("iperf3 -J -t 1 {direction} -c {HOST} -p 8080");
        let across = format!("iperf3 -J -t 1 {direction} -c {} -p 80", web.ip);
        for (ns, line) in [(&client.ns, out), (&net.outside, into), (&client.ns, across)] {
            moves(ns, &line);
        }
    }
    for ns in [&net.host, &net.outside, &web.ns, &client.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn iperf3_moves_data_with_offload() {
    iperf3_moves_data(Offload::Default);
}

#[test]
fn iperf3_moves_data_with_tx_off() {
    iperf3_moves_data(Offload::TxOff);
}

#[test]
fn pings_of_two_containers_do_not_mix() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    thread::scope(|scope| {
        for ns in [&web.ns, &client.ns] {
            scope.spawn(move || ns.exec(&format!("busybox ping -c 10 -i 0.05 -W 2 {OUTSIDE}")));
        }
    });
}

#[test]
fn a_second_uplink_gives_its_own_address() {
    let mut net = Topology::new();
    let second = net.second_uplink();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    let far = second.echo_tcp("198.51.100.2:7");
    let near = net.outside.echo_tcp("0.0.0.0:7");
    let served = web.ns.echo_tcp("0.0.0.0:80");

    exchange(&mut client.ns.connect(far.addr), b"over the second");
    exchange(&mut client.ns.connect(at(OUTSIDE, 7)), b"over the first");
    assert_eq!(far.peers()[0].ip().to_string(), "198.51.100.1");
    assert_eq!(near.peers()[0].ip(), HOST);

    let to = at(netd_tests::topology::HOST2, 8080);
    exchange(&mut second.connect(to), b"in by the second");
    assert_eq!(served.peers()[0].ip().to_string(), "198.51.100.2");
}

#[test]
fn an_uplink_that_comes_later_is_used() {
    let mut net = Topology::new();
    let agent = net.agent();
    let (_, client) = web_and_client(&agent);
    let second = net.second_uplink();
    let far = second.echo_udp("198.51.100.2:7");

    eventually(DEADLINE, "the new uplink carries traffic", || {
        client.ns.udp_echoes(far.addr, Duration::from_millis(400)).then_some(())
    });
    let peers = far.peers();
    assert!(peers.iter().all(|peer| peer.ip().to_string() == "198.51.100.1"), "{peers:?}");
}

#[test]
fn flows_show_both_directions_of_a_conversation() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, client) = web_and_client(&agent);
    let (_far, _near) = (net.outside.echo_tcp("0.0.0.0:7"), web.ns.echo_tcp("0.0.0.0:80"));
    let mut out = client.ns.connect(at(OUTSIDE, 7));
    let mut into = net.outside.connect(at(HOST, 8080));
    exchange(&mut out, b"out");
    exchange(&mut into, b"in");

    let flows = agent.json("flows");
    let of = |nat: &str| {
        let flow = rows(&flows).iter().find(|flow| text(flow, "/Nat") == nat);
        flow.unwrap_or_else(|| panic!("no flow with {nat} in {flows:#}"))
    };
    let (snat, dnat) = (of("snat"), of("dnat"));
    assert_eq!(text(snat, "/Protocol"), "tcp");
    assert_eq!(text(snat, "/Original/Src"), client.ip.to_string());
    assert_eq!(text(snat, "/Original/Dst"), OUTSIDE.to_string());
    assert_eq!(text(snat, "/Reply/Dst"), HOST.to_string());
    assert_eq!(text(snat, "/Container"), "client");
    assert_eq!(text(dnat, "/Original/Dst"), HOST.to_string());
    assert_eq!(dnat["Original"]["DstPort"], 8080);
    assert_eq!(text(dnat, "/Reply/Src"), web.ip.to_string());
    assert_eq!(dnat["Reply"]["SrcPort"], 80);
    assert_eq!(text(dnat, "/Container"), "web");
    assert!(dnat["Packets"].as_u64() >= Some(4), "{dnat:#}");
}

#[test]
fn a_refused_connection_is_told_at_once() {
    let net = Topology::new();
    let agent = net.agent();
    let (_web, client) = web_and_client(&agent);
    let start = Instant::now();
    for (ns, to) in [(&client.ns, at(OUTSIDE, 9)), (&net.outside, at(HOST, 8080))] {
        let refused = ns.connect_tcp(to, DEADLINE).map(drop);
        let kind = refused.expect_err("nobody listens").kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "the reset comes through");
}
