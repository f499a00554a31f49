//! Network options: what each does to real traffic, in both families where
//! there is a choice.

use std::net::SocketAddr;

use netd_tests::{
    Agent, Container, DEADLINE, Echo, Family, NetNs, SILENCE, Topology, eventually, exchange,
    json::{one, rows, text},
    topology::{HOST, at},
};

const BRIDGE: &str = "com.docker.network.bridge";

/// A dual-stack network `blue`, which the outside knows the way to.
fn network(net: &Topology, agent: &Agent, options: &str) {
    agent.network("blue", "172.18.0.0/16", &format!("--ipv6 --subnet fd00:18::/64 {options}"));
    for family in Family::ALL {
        let subnet = family.pick("172.18.0.0/16", "fd00:18::/64");
        let via = family.host();
        net.outside.ip(&format!("{} route add {subnet} via {via}", family.flag()));
    }
}

/// `network` in this gateway mode of both families, with a container on it
/// that serves ports 80 and 81, the first published on 8080.
fn serve(net: &Topology, agent: &Agent, mode: &str) -> (Container, Vec<Echo>) {
    let options = format!(
        "-o {BRIDGE}.gateway_mode_ipv4={mode} -o {BRIDGE}.gateway_mode_ipv6={mode} -o {BRIDGE}.name=br-blue"
    );
    network(net, agent, &options);
    let web = agent.container("web", "--network blue -p 8080:80");
    let servers = servers(&web);
    (web, servers)
}

/// Of ports 80 and 81, IPv4 and IPv6.
fn servers(web: &Container) -> Vec<Echo> {
    let ports = Family::ALL.into_iter().flat_map(|family| [(family, 80), (family, 81)]);
    ports.map(|(family, port)| web.ns.echo_tcp(&family.any(port))).collect()
}

fn reaches(ns: &NetNs, to: SocketAddr) -> bool {
    ns.connect_tcp(to, SILENCE).is_ok_and(|mut stream| {
        exchange(&mut stream, b"hello");
        true
    })
}

fn pings(ns: &NetNs, family: Family, to: &Container) -> bool {
    let address = to.address(family);
    let ping = ns.command("ping").args([family.flag(), "-c", "1", "-W", "2"]);
    ping.arg(address.to_string()).output().code == 0
}

#[test]
fn nat_lets_nobody_in_to_a_containers_own_address() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "nat");
    for family in Family::ALL {
        assert!(reaches(&net.outside, at(family.host(), 8080)), "{family}");
        let before = agent.dropped("direct_access");
        assert!(!reaches(&net.outside, at(web.address(family), 80)), "{family}");
        agent.expect_dropped("direct_access", before);
    }
}

#[test]
fn nat_unprotected_lets_the_outside_in_to_every_port() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "nat-unprotected");
    for family in Family::ALL {
        let own = web.address(family);
        for to in [at(family.host(), 8080), at(own, 80), at(own, 81)] {
            assert!(reaches(&net.outside, to), "{to}");
        }
        // Out it goes with the host's address.
        let outside = net.outside.echo_tcp(&family.any(90));
        exchange(&mut web.ns.connect(at(family.outside(), 90)), b"hello");
        assert_eq!(outside.peers()[0].ip(), family.host());
    }
}

#[test]
fn routed_lets_in_to_published_ports_alone_and_keeps_addresses() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, servers) = serve(&net, &agent, "routed");
    for family in Family::ALL {
        let own = web.address(family);
        assert!(reaches(&net.outside, at(own, 80)), "{family}");
        assert!(!reaches(&net.outside, at(own, 81)), "{family}");
        assert!(!reaches(&net.outside, at(family.host(), 8080)), "the host port is ignored");
        assert!(pings(&net.outside, family, &web), "{family}");
        let outside = net.outside.echo_tcp(&family.any(90));
        exchange(&mut web.ns.connect(at(family.outside(), 90)), b"hello");
        assert_eq!(outside.peers()[0].ip(), own);
    }
    for (family, server) in Family::ALL.into_iter().zip(servers.iter().step_by(2)) {
        assert_eq!(server.peers()[0].ip(), family.outside());
    }

    let shown = agent.inspect("inspect web");
    let ports = one(&shown).pointer("/NetworkSettings/Ports").expect("its ports");
    assert_eq!(text(&ports["80/tcp"][0], "/HostPort"), "");
    assert!(net.host.can_bind_tcp(at(HOST, 8080)).is_ok(), "no port of the host's is taken");
    let listed = agent.json("port ls");
    let at: Vec<_> = rows(&listed).iter().map(|row| text(row, "/HostIp").to_owned()).collect();
    assert_eq!(at.len(), 2, "{at:?}");
    assert!(Family::ALL.iter().all(|family| at.contains(&web.address(*family).to_string())));
}

#[test]
fn another_network_and_the_host_reach_a_routed_port() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "routed");
    agent.network("green", "172.19.0.0/16", "--ipv6 --subnet fd00:19::/64");
    let guest = agent.container("guest", "--network green");
    for family in Family::ALL {
        let own = web.address(family);
        assert!(reaches(&guest.ns, at(own, 80)), "{family}");
        assert!(!reaches(&guest.ns, at(own, 81)), "{family}");
        assert!(reaches(&net.host, at(own, 80)), "{family}");
    }
}

#[test]
fn a_routed_port_has_an_allow_list_too() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "routed");
    for family in Family::ALL {
        let own = web.address(family);
        let mut stream = net.outside.connect(at(own, 80));
        exchange(&mut stream, b"hello");
        agent.netd("port add web 80:80,from=203.0.113.0/24").ok();
        let before = agent.dropped("source_not_allowed");
        assert!(!reaches(&net.outside, at(own, 80)), "{family}");
        agent.expect_dropped("source_not_allowed", before);
        agent.netd(&format!("port add web 80:80,from={}", family.outside())).ok();
        assert!(reaches(&net.outside, at(own, 80)), "{family}");
        agent.netd("port add web 80:80").ok();
    }
}

#[test]
fn a_routed_ports_flows_end_with_it() {
    let net = Topology::new();
    let agent = net.agent();
    let (web, _servers) = serve(&net, &agent, "routed");
    for family in Family::ALL {
        let udp = web.ns.echo_udp(&family.any(80));
        agent.netd("port add web 80/udp").ok();
        let client = net.outside.udp_to(at(web.address(family), 80));
        client.set_read_timeout(Some(SILENCE)).unwrap();
        let echoes = || client.send(b"hello").is_ok() && client.recv(&mut [0; 8]).is_ok();
        assert!(echoes(), "{family}");
        agent.netd("port rm web 80/udp").ok();
        assert!(!echoes(), "{family}");
        assert_eq!(udp.heard().len(), 1);
    }
}

#[test]
fn an_isolated_networks_containers_have_each_other_and_nothing_else() {
    let net = Topology::new();
    let agent = net.agent();
    let isolated = format!(
        "--internal -o {BRIDGE}.name=br-blue \
         -o {BRIDGE}.gateway_mode_ipv4=isolated -o {BRIDGE}.gateway_mode_ipv6=isolated"
    );
    network(&net, &agent, &isolated);
    let (a, b) = (agent.container("a", "--network blue"), agent.container("b", "--network blue"));
    let _servers = servers(&b);
    for family in Family::ALL {
        let own = b.address(family);
        assert!(reaches(&a.ns, at(own, 80)), "{family}");
        let flag = family.flag();
        let addresses = net.host.ip(&format!("{flag} addr show dev br-blue scope global"));
        assert_eq!(addresses, "", "the host has none there");
        assert_eq!(a.ns.ip(&format!("{flag} route show default")), "");
    }
    // Not even a host that means to.
    net.host.ip("route add 172.18.0.0/16 dev br-blue");
    net.host.ip(&format!("neigh add {} lladdr {} dev br-blue", b.ip, b.mac));
    let before = agent.dropped("host_isolated");
    assert!(!reaches(&net.host, b.at(80)));
    agent.expect_dropped("host_isolated", before);

    for family in ["ipv4", "ipv6"] {
        let options = format!("--ipv6 -o {BRIDGE}.gateway_mode_{family}=isolated other");
        let refused = agent.netd(&format!("network create {options}"));
        let text = "gateway mode 'isolated' can only be used for an internal network";
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
}

#[test]
fn containers_without_icc_reach_each_others_published_ports_alone() {
    let net = Topology::new();
    let agent = net.agent();
    network(&net, &agent, &format!("-o {BRIDGE}.enable_icc=false"));
    let web = agent.container("web", "--network blue -p 8080:80");
    let client = agent.container("client", "--network blue");
    let _servers = servers(&web);
    for family in Family::ALL {
        let before = agent.dropped("icc_disabled");
        assert!(!reaches(&client.ns, at(web.address(family), 80)), "{family}");
        agent.expect_dropped("icc_disabled", before);
        assert!(reaches(&client.ns, at(family.host(), 8080)), "{family}");
    }
}

#[test]
fn without_masquerade_containers_keep_their_addresses() {
    let net = Topology::new();
    let agent = net.agent();
    network(&net, &agent, &format!("-o {BRIDGE}.enable_ip_masquerade=false"));
    let client = agent.container("client", "--network blue");
    for family in Family::ALL {
        let outside = net.outside.echo_tcp(&family.any(90));
        exchange(&mut client.ns.connect(at(family.outside(), 90)), b"hello");
        assert_eq!(outside.peers()[0].ip(), client.address(family));
    }
}

#[test]
fn a_trusted_interface_reaches_containers_as_it_comes_and_goes() {
    let net = Topology::new();
    let agent = net.agent();
    network(&net, &agent, &format!("-o {BRIDGE}.trusted_host_interfaces=later0:up0"));
    let web = agent.container("web", "--network blue");
    let _servers = servers(&web);
    for family in Family::ALL {
        assert!(reaches(&net.outside, at(web.address(family), 81)), "{family}");
    }

    let trusted = || agent.snapshot().section("map TRUSTED").lines().count();
    assert_eq!(trusted(), 1);
    net.host.veth("later0", &net.outside, "later1");
    eventually(DEADLINE, "the new link is trusted", || (trusted() == 2).then_some(()));
    net.host.ip("link del later0");
    eventually(DEADLINE, "the old link is forgotten", || (trusted() == 1).then_some(()));
}

#[test]
fn the_source_of_outbound_packets_can_be_chosen() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    net.host.ip("addr add 2001:db8:0:1::9/64 dev up0 nodad");
    let agent = net.agent();
    let options = "-o com.docker.network.host_ipv4=192.0.2.9 \
                   -o com.docker.network.host_ipv6=2001:db8:0:1::9";
    network(&net, &agent, options);
    let client = agent.container("client", "--network blue");
    for family in Family::ALL {
        let outside = net.outside.echo_tcp(&family.any(90));
        exchange(&mut client.ns.connect(at(family.outside(), 90)), b"hello");
        let source = outside.peers()[0].ip().to_string();
        assert_eq!(source, family.pick("192.0.2.9", "2001:db8:0:1::9"));
    }
}

#[test]
fn inhibit_ipv4_leaves_the_gateway_to_another_machine() {
    let net = Topology::new();
    let agent = net.agent();
    let options = format!("-o {BRIDGE}.inhibit_ipv4=true -o {BRIDGE}.name=br-blue");
    agent.network("blue", "172.18.0.0/16", &options);
    assert!(!net.host.ip("-4 addr show dev br-blue").contains("inet "));
    // The router is a machine on the bridge.
    net.host.veth("router0", &net.outside, "router1");
    net.host.ip("link set router0 master br-blue");
    net.outside.ip("addr add 172.18.0.1/16 dev router1");
    let client = agent.container("client", "--network blue");
    let server = net.outside.echo_tcp("0.0.0.0:90");
    exchange(&mut client.ns.connect("172.18.0.1:90".parse().unwrap()), b"to the router");
    exchange(&mut client.ns.connect(at(Family::V4.outside(), 90)), b"by the router");
    assert!(server.peers().iter().all(|peer| peer.ip() == client.ip));
}

#[test]
fn host_binding_is_where_ports_are_without_an_address() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    let agent = net.agent();
    network(&net, &agent, &format!("-o {BRIDGE}.host_binding_ipv4=192.0.2.9"));
    let web = agent.container("web", "--network blue -p 8080:80");
    let _servers = servers(&web);
    assert!(reaches(&net.outside, "192.0.2.9:8080".parse().unwrap()));
    assert!(!reaches(&net.outside, at(HOST, 8080)));
    assert!(!reaches(&net.outside, at(Family::V6.host(), 8080)));
}

#[test]
fn a_syn_rate_holds_for_what_comes_from_outside() {
    let net = Topology::new();
    let agent = net.agent();
    network(&net, &agent, "-o netd.syn_rate=5");
    let web = agent.container("web", "--network blue -p 8080:80");
    let _servers = servers(&web);
    for family in Family::ALL {
        let before = agent.dropped("syn_rate_exceeded");
        // A refused SYN is sent again a second later, and then gets in.
        let to = at(family.host(), 8080);
        let tries = (0..30).filter(|_| net.outside.connect_tcp(to, SILENCE / 10).is_ok()).count();
        assert!((1..30).contains(&tries), "{family}: {tries} of 30");
        agent.expect_dropped("syn_rate_exceeded", before);
        assert!(net.outside.connect_tcp(to, DEADLINE).is_ok(), "{family}");
    }
}

#[test]
fn unknown_options_are_refused_with_the_nearest_known() {
    let net = Topology::new();
    let agent = net.agent();
    let refused = agent.netd("network create -o netd.syn_rat=5 blue");
    assert!(refused.stderr.contains("unknown option `netd.syn_rat`"), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean `netd.syn_rate`?"), "{}", refused.stderr);
}
