//! Room for a further flow runs out: what is open goes on, what is new is
//! dropped under a name, and nobody else is concerned.

use std::net::TcpStream;

use netd_tests::{Crowd, Family, SILENCE, Topology, exchange, topology::at};
use serde_json::json;

#[test]
fn a_container_has_no_more_flows_than_its_quota() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("small", "172.18.0.0/16", "-o netd.max_flows=20 --ipv6 --subnet fd00:18::/64");
    let [greedy, modest] =
        ["greedy", "modest"].map(|name| agent.container(name, "--network small"));
    let _servers = Family::ALL.map(|family| net.outside.echo_tcp(&family.any(7)));
    let to = |n: usize| at(Family::ALL[n % 2].outside(), 7);
    let mut streams: Vec<TcpStream> = (0..20).map(|n| greedy.ns.connect(to(n))).collect();

    let before = agent.dropped("flow_quota_exceeded");
    for n in 0..2 {
        assert!(greedy.ns.connect_tcp(to(n), SILENCE).is_err(), "the 21st is refused");
    }
    agent.expect_dropped("flow_quota_exceeded", before);
    for stream in &mut streams {
        exchange(stream, b"goes on");
    }
    exchange(&mut modest.ns.connect(to(0)), b"has a quota of its own");

    agent.netd("rm -f greedy").ok();
    let again = agent.container("greedy", "--network small");
    for n in 0..20 {
        exchange(&mut again.ns.connect(to(n)), b"begins at nought");
    }
}

#[test]
fn connections_through_a_port_count_towards_its_containers_quota() {
    let net = Topology::new();
    let mut agent = net.agent();
    agent.network("small", "172.18.0.0/16", "-o netd.max_flows=5");
    let web = agent.container("web", "--network small -p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let to = at(Family::V4.host(), 8080);
    let mut streams: Vec<TcpStream> = (0..5).map(|_| net.outside.connect(to)).collect();
    agent.kill();
    agent.start_again();
    assert!(net.outside.connect_tcp(to, SILENCE).is_err());
    assert!(agent.dropped("flow_quota_exceeded") > 0);
    for stream in &mut streams {
        exchange(stream, b"goes on");
    }
}

#[test]
fn a_full_table_breaks_no_connection_and_says_so() {
    const FLOWS: u32 = 1024;
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "flow-table-size": FLOWS }));
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let to = at(Family::V4.host(), 8080);
    let mut streams: Vec<TcpStream> = (0..50).map(|_| net.outside.connect(to)).collect();
    let mut crowd = Crowd::of(&agent.pins());
    crowd.put(FLOWS - 50);

    let before = agent.dropped("flow_table_full");
    assert!(net.outside.connect_tcp(to, SILENCE).is_err(), "there is no room");
    agent.expect_dropped("flow_table_full", before);
    for stream in &mut streams {
        exchange(stream, b"goes on");
    }
    agent.expect_log("the flow table is nearly full");
    crowd.remove(1);
    exchange(&mut net.outside.connect(to), b"there is room again");
}

#[test]
fn a_port_moves_at_once_however_many_flows_there_are() {
    let net = Topology::new();
    let agent = net.agent();
    let [old, new] = ["old", "new"].map(|name| agent.container(name, ""));
    Crowd::of(&agent.pins()).put(30_000);
    let servers = [&old, &new].map(|it| it.ns.echo_udp("0.0.0.0:80"));
    let client = net.outside.udp_to(at(Family::V4.host(), 8080));
    let ask = || client.send(b"hello").is_ok() && matches!(client.recv(&mut [0; 16]), Ok(5));
    for n in 1..=3 {
        for (name, server) in ["old", "new"].into_iter().zip(&servers) {
            agent.netd(&format!("port add {name} 8080:80/udp")).ok();
            assert!(ask(), "round {n}: {name} answers");
            assert_eq!(server.heard().len(), n, "{name} hears all of its own and no more");
            agent.netd(&format!("port rm {name} 8080:80/udp")).ok();
        }
    }
}

#[test]
fn flows_move_to_a_table_of_another_size() {
    let net = Topology::new();
    let mut agent = net.agent_with(&json!({ "flow-table-size": 2048 }));
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    let mut streams: Vec<TcpStream> = (0..200)
        .map(|n| match n % 2 {
            0 => net.outside.connect(at(Family::V4.host(), 8080)),
            _ => web.ns.connect(at(Family::V4.outside(), 7)),
        })
        .collect();
    Crowd::of(&agent.pins()).put(1500);
    for size in [1800, 4096, 2048] {
        agent.stop();
        agent.configure(&json!({ "flow-table-size": size }));
        agent.start_again();
        for stream in &mut streams {
            exchange(stream, b"goes on");
        }
        assert_eq!(Crowd::of(&agent.pins()).left(1500), 1500, "at a size of {size}");
    }

    agent.stop();
    agent.configure(&json!({ "flow-table-size": 1024 }));
    let refused = agent.command(["agent"]).output();
    refused.fails(1, "flow-table-size 1024 has no room for the 1700 flows that are open: give it at least 1700, or stop containers first");
    for stream in &mut streams {
        exchange(stream, b"goes on without an agent");
    }
    agent.configure(&json!({ "flow-table-size": 2048 }));
    agent.start_again();
    exchange(&mut net.outside.connect(at(Family::V4.host(), 8080)), b"and new ones begin");
}
