//! What the agent follows on the host while containers run: the default
//! route's MTU, the ports of SNAT, and that these run out.

use std::net::UdpSocket;

use netd_tests::{
    DEADLINE, SILENCE, Topology, eventually, exchange,
    topology::{HOST, OUTSIDE, at},
};

#[test]
fn networks_and_running_containers_follow_the_default_routes_mtu() {
    let net = Topology::new();
    let mut agent = net.agent();
    agent.network("fixed", "172.18.0.0/16", "-o com.docker.network.driver.mtu=1450");
    let web = agent.container("web", "-p 8080:80");
    let other = agent.container("other", "--network fixed");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, &vec![1; 100_000]);

    let follows = |wanted: &str| {
        let inside = || web.ns.ip("link show dev eth0").contains(&format!("mtu {wanted} "));
        let bridge = || net.host.ip("link show dev netd0").contains(&format!("mtu {wanted} "));
        eventually(DEADLINE, "the MTU is followed", || (inside() && bridge()).then_some(()));
        let veths = net.host.ip("link show master netd0");
        assert!(veths.contains(&format!("mtu {wanted} ")), "{veths}");
    };
    net.host.ip("link set up0 mtu 1400");
    net.outside.ip("link set eth0 mtu 1400");
    follows("1400");
    exchange(&mut stream, &vec![2; 100_000]);
    net.host.ip(&format!("route change default via {OUTSIDE} mtu 1300"));
    follows("1300");
    exchange(&mut stream, &vec![3; 100_000]);
    net.outside.ip("link set eth0 mtu 9000");
    net.host.ip("link set up0 mtu 9000");
    net.host.ip(&format!("route change default via {OUTSIDE}"));
    follows("9000");
    exchange(&mut stream, &vec![4; 100_000]);

    assert!(other.ns.ip("link show dev eth0").contains("mtu 1450 "), "it has one of its own");
    agent.expect_log("MTU follows the host's");

    // It is so after a restart too, and changes while no agent runs count.
    agent.kill();
    net.host.ip("link set up0 mtu 1400");
    agent.start_again();
    follows("1400");
    exchange(&mut stream, &vec![5; 100_000]);
}

#[test]
fn a_neighbours_connection_by_the_hosts_address_outlives_the_ports_of_snat() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    let client = agent.container("client", "");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = client.ns.connect(at(HOST, 8080));
    exchange(&mut stream, b"hello");

    // None of them is one that SNAT had before, or was likely to take.
    net.host.set_sysctl("net/ipv4/ip_local_port_range", "1024 65500");
    net.host.ip("link add news type bridge");
    let outside = net.outside.run(|| UdpSocket::bind("0.0.0.0:90")).expect("a free port");
    eventually(DEADLINE, "SNAT has other ports", || {
        client.ns.udp_to(at(OUTSIDE, 90)).send(b"hello").expect("it is sent");
        let (_, from) = outside.recv_from(&mut [0; 8]).expect("it arrives");
        (from.port() > 65_500).then_some(())
    });
    exchange(&mut stream, b"still there");
}

#[test]
fn snat_that_runs_out_of_ports_is_told() {
    let net = Topology::new();
    // 1024 alone is left.
    net.host.set_sysctl("net/ipv4/ip_local_port_range", "1025 65535");
    let agent = net.agent();
    let client = agent.container("client", "");
    let _server = net.outside.echo_udp("0.0.0.0:90");
    let first = client.ns.udp_to(at(OUTSIDE, 90));
    first.send(b"hello").unwrap();
    first.recv(&mut [0; 8]).unwrap();
    assert!(!client.ns.udp_echoes(at(OUTSIDE, 90), SILENCE));
    assert_ne!(agent.dropped("snat_ports_exhausted"), 0);
    agent.expect_log("no SNAT port was left");
    agent.expect_log("ip_local_port_range");
}
