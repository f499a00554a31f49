//! netd's networks beside Docker's own, and beside Docker's firewalling.

use netd_tests::{
    Agent, Container, Docker, SILENCE, Topology, exchange, probe,
    topology::{HOST, OUTSIDE, at},
};

/// `web` and `near` on a network of netd's, `other` on Docker's bridge. Docker
/// drops what is forwarded, and bridges ask netfilter about every frame.
struct Scene {
    web: Container,
    near: Container,
    other: Container,
    docker: Docker,
    _agent: Agent,
    net: Topology,
}

impl Scene {
    fn set() -> Self {
        let net = Topology::new();
        let (docker, agent) = net.docker_and_netd();
        docker.network("mine", "172.18.0.0/24", "");
        let web = docker.container("web", "--network mine -p 8080:80");
        let near = docker.container("near", "--network mine");
        let other = docker.container("other", "-p 8090:80 -p 8090:80/udp");
        net.host.set_sysctl("net/bridge/bridge-nf-call-iptables", "1");
        let rules = net.host.exec("iptables -S FORWARD");
        assert!(rules.contains("-P FORWARD DROP"), "{rules}");
        Self { web, near, other, docker, _agent: agent, net }
    }
}

#[test]
fn all_of_netds_paths_work_where_docker_drops_what_is_forwarded() {
    let Scene { web, near, net, .. } = &Scene::set();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    let outside = net.outside.echo_tcp("0.0.0.0:7");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"in");
    exchange(&mut net.host.connect(at(HOST, 8080)), b"from the host");
    exchange(&mut near.ns.connect(web.at(80)), b"within");
    exchange(&mut near.ns.connect(at(HOST, 8080)), b"hairpin");
    exchange(&mut near.ns.connect(at(OUTSIDE, 7)), b"out");
    near.ns.exec(&format!("ping -c 1 -W 2 {OUTSIDE}"));
    near.ns.exec(&format!("ping -c 1 -W 2 {}", web.ip));
    assert_eq!((server.peers().len(), outside.peers().len()), (4, 1));
    let rules = net.host.exec("iptables-save");
    assert!(!rules.contains("172.18.0."), "{rules}");
}

#[test]
fn dockers_own_bridge_works_beside_netd() {
    let Scene { other, net, .. } = &Scene::set();
    let server = other.ns.echo_tcp("0.0.0.0:80");
    let outside = net.outside.echo_tcp("0.0.0.0:7");
    exchange(&mut net.outside.connect(at(HOST, 8090)), b"in");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
    exchange(&mut net.host.connect(at(HOST, 8090)), b"from the host");
    exchange(&mut other.ns.connect(at(OUTSIDE, 7)), b"out");
    assert_eq!(outside.peers()[0].ip(), HOST);
}

#[test]
fn a_container_of_dockers_reaches_one_of_netds_by_a_published_port_only() {
    let Scene { web, other, net, .. } = &Scene::set();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut other.ns.connect(at(HOST, 8080)), b"from Docker's to netd's");
    assert_eq!(server.peers()[0].ip(), other.ip, "it keeps its address");
    assert!(!probe::reaches_tcp(&other.ns, web.at(80), SILENCE));
    assert!(!probe::reaches_tcp(&net.outside, at(HOST, 80), SILENCE));
}

#[test]
fn a_container_of_netds_reaches_one_of_dockers_by_a_published_port_only() {
    let Scene { web, other, .. } = &Scene::set();
    let (tcp, udp) = (other.ns.echo_tcp("0.0.0.0:80"), other.ns.echo_udp("0.0.0.0:80"));
    for round in 0..2 {
        let talk = probe::tcp(&web.ns, at(HOST, 8090), &tcp, &[1, 20_000]);
        talk.unwrap_or_else(|e| panic!("TCP {round}: {e:#}"));
        let talk = probe::udp(&web.ns, at(HOST, 8090), &udp, &[5, 1400]);
        talk.unwrap_or_else(|e| panic!("UDP {round}: {e:#}"));
    }
    // Docker 20.10 lets anyone reach 80 itself, once it is published.
    let unpublished = other.ns.echo_tcp("0.0.0.0:81");
    assert!(!probe::reaches_tcp(&web.ns, other.at(81), SILENCE));
    assert_eq!(unpublished.peers(), []);
    let ping = web.ns.command("ping").args(["-c", "1", "-W", "1", &other.ip.to_string()]);
    assert_ne!(ping.output().code, 0);
}

#[test]
fn connections_outlive_a_flush_of_all_rules() {
    let Scene { web, near, net, .. } = &Scene::set();
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    let mut kept = [
        net.outside.connect(at(HOST, 8080)),
        near.ns.connect(at(OUTSIDE, 7)),
        near.ns.connect(web.at(80)),
    ];
    net.host.exec("nft flush ruleset");
    for stream in &mut kept {
        exchange(stream, b"still here");
    }
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one in");
    exchange(&mut near.ns.connect(at(OUTSIDE, 7)), b"a new one out");
}

#[test]
fn a_container_on_both_kinds_of_networks_reaches_both() {
    let Scene { web, other, docker, net, .. } = &Scene::set();
    docker.docker("network connect mine other").ok();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut other.ns.connect(web.at(80)), b"hello");
    let own = docker.json("inspect other");
    let address = own.pointer("/0/NetworkSettings/Networks/mine/IPAddress").expect("it is on");
    assert_eq!(server.peers()[0].ip().to_string(), address.as_str().expect("an address"));
    // It is published by the one of them that its way out is on.
    let in_other = other.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8090)), b"in");
    assert_eq!(in_other.peers()[0].ip(), OUTSIDE);
    docker.docker("network disconnect mine other").ok();
    exchange(&mut net.outside.connect(at(HOST, 8090)), b"in still");
}
