//! Network options: what each does to real traffic.

use netd_tests::{
    Agent, Container, DEADLINE, Echo, NetNs, SILENCE, Topology, eventually, exchange,
    json::{one, rows, text},
    topology::{HOST, OUTSIDE, at},
};

const MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";

/// A network of this mode with a container on it that serves ports 80 and 81,
/// the first published on 8080; the outside knows the way there.
fn serve(net: &Topology, agent: &Agent, mode: &str) -> (Container, [Echo; 2]) {
    agent.network("blue", "172.18.0.0/16", &format!("-o {MODE}={mode}"));
    net.outside.ip(&format!("route add 172.18.0.0/16 via {HOST}"));
    let web = agent.container("web", "--network blue -p 8080:80");
    let servers = [80, 81].map(|port| web.ns.echo_tcp(&format!("0.0.0.0:{port}")));
    (web, servers)
}

fn reaches(ns: &NetNs, to: std::net::SocketAddr) -> bool {
    ns.connect_tcp(to, SILENCE).is_ok_and(|mut stream| {
        exchange(&mut stream, b"hello");
        true
    })
}

#[test]
fn nat_lets_nobody_in_to_a_containers_own_address() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "nat");
    assert!(reaches(&net.outside, at(HOST, 8080)));
    let before = agent.dropped("direct_access");
    assert!(!reaches(&net.outside, web.at(80)));
    agent.expect_dropped("direct_access", before);
}

#[test]
fn nat_unprotected_lets_the_outside_in_to_every_port() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, servers) = serve(&net, &agent, "nat-unprotected");
    for to in [at(HOST, 8080), web.at(80), web.at(81)] {
        assert!(reaches(&net.outside, to), "{to}");
    }
    assert_eq!(servers[1].peers()[0].ip(), OUTSIDE);
    // Out it goes with the host's address.
    let outside = net.outside.echo_tcp("0.0.0.0:90");
    exchange(&mut web.ns.connect(at(OUTSIDE, 90)), b"hello");
    assert_eq!(outside.peers()[0].ip(), HOST);
}

#[test]
fn routed_lets_in_to_published_ports_alone_and_keeps_addresses() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, servers) = serve(&net, &agent, "routed");
    assert!(reaches(&net.outside, web.at(80)));
    assert!(!reaches(&net.outside, web.at(81)));
    assert!(!reaches(&net.outside, at(HOST, 8080)), "the host port is ignored");
    assert_eq!(servers[0].peers()[0].ip(), OUTSIDE);
    net.outside.exec(&format!("busybox ping -c 1 -W 2 {}", web.ip));

    let outside = net.outside.echo_tcp("0.0.0.0:90");
    exchange(&mut web.ns.connect(at(OUTSIDE, 90)), b"hello");
    assert_eq!(outside.peers()[0].ip(), web.ip);

    let shown = agent.inspect("inspect web");
    let ports = one(&shown).pointer("/NetworkSettings/Ports").expect("its ports");
    assert_eq!(text(&ports["80/tcp"][0], "/HostPort"), "");
    assert!(net.host.can_bind_tcp(at(HOST, 8080)).is_ok(), "no port of the host's is taken");
    let listed = agent.json("port ls");
    assert_eq!(text(&rows(&listed)[0], "/HostIp"), web.ip.to_string());
}

#[test]
fn another_network_reaches_a_routed_port() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "routed");
    let guest = agent.container("guest", "");
    assert!(reaches(&guest.ns, web.at(80)));
    assert!(!reaches(&guest.ns, web.at(81)));
}

#[test]
fn a_routed_ports_flows_end_with_it() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "routed");
    let udp = web.ns.echo_udp("0.0.0.0:80");
    agent.netd("port add web 80/udp").ok();
    let client = net.outside.udp_to(web.at(80));
    client.set_read_timeout(Some(SILENCE)).unwrap();
    let echoes = || client.send(b"hello").is_ok() && client.recv(&mut [0; 8]).is_ok();
    assert!(echoes());
    agent.netd("port rm web 80/udp").ok();
    assert!(!echoes());
    assert_eq!(udp.heard().len(), 1);
}

#[test]
fn an_isolated_networks_containers_have_each_other_and_nothing_else() {
    let net = Topology::new();
    let agent = net.agent();
    let options = format!("--internal -o com.docker.network.bridge.name=br-in -o {MODE}=isolated");
    agent.network("inside", "172.18.0.0/16", &options);
    let (a, b) =
        (agent.container("a", "--network inside"), agent.container("b", "--network inside"));
    let _server = b.ns.echo_tcp("0.0.0.0:80");
    assert!(reaches(&a.ns, b.at(80)));
    assert!(!net.host.ip("-4 addr show dev br-in").contains("inet "));
    assert_eq!(a.ns.ip("route show default"), "");
    // Not even a host that means to.
    net.host.ip("route add 172.18.0.0/16 dev br-in");
    net.host.ip(&format!("neigh add {} lladdr {} dev br-in", b.ip, b.mac));
    let before = agent.dropped("host_isolated");
    assert!(!reaches(&net.host, b.at(80)));
    agent.expect_dropped("host_isolated", before);

    let refused = agent.netd(&format!("network create -o {MODE}=isolated other"));
    let text = "gateway mode 'isolated' can only be used for an internal network";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);
}

#[test]
fn a_trusted_interface_reaches_containers_as_it_comes_and_goes() {
    let net = Topology::new();
    let agent = net.agent();
    let option = "com.docker.network.bridge.trusted_host_interfaces=later0:up0";
    agent.network("blue", "172.18.0.0/16", &format!("-o {option}"));
    net.outside.ip(&format!("route add 172.18.0.0/16 via {HOST}"));
    let web = agent.container("web", "--network blue");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    assert!(reaches(&net.outside, web.at(80)));

    let trusted = || agent.snapshot().section("map TRUSTED").lines().count();
    assert_eq!(trusted(), 1);
    net.host.veth("later0", &net.outside, "later1");
    eventually(DEADLINE, "the new link is trusted", || (trusted() == 2).then_some(()));
    net.host.ip("link del later0");
    eventually(DEADLINE, "the old link is forgotten", || (trusted() == 1).then_some(()));
}

#[test]
fn host_ipv4_is_the_source_of_outbound_packets() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    let agent = net.agent();
    agent.network("blue", "172.18.0.0/16", "-o com.docker.network.host_ipv4=192.0.2.9");
    let client = agent.container("client", "--network blue");
    let outside = net.outside.echo_tcp("0.0.0.0:90");
    exchange(&mut client.ns.connect(at(OUTSIDE, 90)), b"hello");
    assert_eq!(outside.peers()[0].ip().to_string(), "192.0.2.9");
}

#[test]
fn inhibit_ipv4_leaves_the_gateway_to_another_machine() {
    let net = Topology::new();
    let agent = net.agent();
    let options = "-o com.docker.network.bridge.inhibit_ipv4=true \
                   -o com.docker.network.bridge.name=br-blue";
    agent.network("blue", "172.18.0.0/16", options);
    assert!(!net.host.ip("-4 addr show dev br-blue").contains("inet "));
    // The router is a machine on the bridge.
    net.host.veth("router0", &net.outside, "router1");
    net.host.ip("link set router0 master br-blue");
    net.outside.ip("addr add 172.18.0.1/16 dev router1");
    let client = agent.container("client", "--network blue");
    let server = net.outside.echo_tcp("0.0.0.0:90");
    exchange(&mut client.ns.connect("172.18.0.1:90".parse().unwrap()), b"to the router");
    exchange(&mut client.ns.connect(at(OUTSIDE, 90)), b"by the router");
    assert!(server.peers().iter().all(|peer| peer.ip() == client.ip));
}

#[test]
fn host_binding_is_where_ports_are_without_an_address() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    let agent = net.agent();
    let option = "com.docker.network.bridge.host_binding_ipv4=192.0.2.9";
    agent.network("blue", "172.18.0.0/16", &format!("-o {option}"));
    let web = agent.container("web", "--network blue -p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    assert!(reaches(&net.outside, "192.0.2.9:8080".parse().unwrap()));
    assert!(!reaches(&net.outside, at(HOST, 8080)));
}

#[test]
fn unknown_options_are_refused_with_the_nearest_known() {
    let net = Topology::new();
    let agent = net.agent();
    let refused = agent.netd("network create -o netd.syn_rat=5 blue");
    assert!(refused.stderr.contains("unknown option `netd.syn_rat`"), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean `netd.syn_rate`?"), "{}", refused.stderr);
}
