//! The ports that masquerading takes: nearly all that there are, and never
//! one of the host's own.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use aya::maps::{Map, MapData};
use netd_common::abi::{Uplink, names};
use netd_tests::{
    Agent, Container, DEADLINE, Echo, Family, NetNs, Topology, eventually, exchange,
    topology::{HOST6, OUTSIDE6, at},
};

/// What the host's own sockets leave: 1024 up to here.
const LAST: u16 = 2023;
const PORTS: usize = (LAST - 1023) as usize;
/// How long an echo may take: none is lost but for want of a port.
const PATIENCE: Duration = Duration::from_secs(3);

fn narrowed() -> (Topology, Agent) {
    let net = Topology::new();
    let range = format!("{} 65535", LAST + 1);
    net.host.set_sysctl("net/ipv4/ip_local_port_range", &range);
    let agent = net.agent();
    (net, agent)
}

fn client(agent: &Agent, family: Family) -> Container {
    agent.network("mine", "172.18.0.0/16", family.pick("", "--ipv6 --subnet fd00:18::/64"));
    agent.container("client", "--network mine")
}

/// Opens sockets to one destination until one is refused a port. Gives those
/// that were not.
fn fill(agent: &Agent, from: &NetNs, to: SocketAddr) -> Vec<UdpSocket> {
    let before = agent.dropped("snat_ports_exhausted");
    let mut open = Vec::new();
    while open.len() <= PORTS {
        let socket = from.udp_to(to);
        socket.set_read_timeout(Some(PATIENCE)).expect("set a deadline");
        socket.send(b"?").expect("send");
        if socket.recv(&mut [0]).is_err() {
            let refused = agent.dropped("snat_ports_exhausted") > before;
            assert!(refused, "no echo, and no port refused, with {} of {PORTS} used", open.len());
            break;
        }
        open.push(socket);
    }
    open
}

/// The ports under which a server has seen its clients.
fn ports(server: &Echo) -> BTreeSet<u16> {
    server.peers().into_iter().map(|peer| peer.port()).collect()
}

fn nearly_all_ports_are_used_before_the_first_failure(family: Family) {
    let (net, agent) = narrowed();
    let client = client(&agent, family);
    let server = net.outside.echo_udp(&family.any(7));
    let to = at(family.outside(), 7);
    let before = agent.dropped("snat_ports_exhausted");

    let open = fill(&agent, &client.ns, to);
    assert!(open.len() * 100 >= PORTS * 95, "{} of {PORTS} ports", open.len());
    let used = ports(&server);
    assert_eq!(used.len(), open.len(), "each socket has a port of its own");
    assert!(used.iter().all(|port| (1024..=LAST).contains(port)), "{used:?}");
    agent.expect_dropped("snat_ports_exhausted", before);
    agent.expect_log("no SNAT port was left");
    agent.expect_log("ip_local_port_range");

    // Another destination has them all again.
    let _other = net.outside.echo_udp(&family.any(8));
    let socket = client.ns.udp_to(at(family.outside(), 8));
    socket.send(b"?").expect("send");
    assert_eq!(socket.recv(&mut [0]).expect("an echo"), 1);
    // And the first sockets still have theirs.
    for socket in &open {
        socket.send(b"!").expect("send");
        assert_eq!(socket.recv(&mut [0]).expect("an echo"), 1);
    }
}

#[test]
fn nearly_all_ports_are_used_before_the_first_failure_ipv4() {
    nearly_all_ports_are_used_before_the_first_failure(Family::V4);
}

#[test]
fn nearly_all_ports_are_used_before_the_first_failure_ipv6() {
    nearly_all_ports_are_used_before_the_first_failure(Family::V6);
}

/// A program of the host's may bind a port of its choice, and keeps it.
fn a_port_of_the_hosts_own_is_never_taken(family: Family) {
    let (net, agent) = narrowed();
    let client = client(&agent, family);
    let server = net.outside.echo_udp(&family.any(7));
    let to = at(family.outside(), 7);
    let own: BTreeSet<u16> = (1100..1150).chain([1024, LAST]).collect();
    let held: Vec<_> = own
        .iter()
        .map(|port| {
            let bind = || UdpSocket::bind(at(family.host(), *port));
            let socket = net.host.run(bind).expect("bind the host's own port");
            socket.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
            socket
        })
        .collect();

    let open = fill(&agent, &client.ns, to);
    let used = ports(&server);
    assert!(used.is_disjoint(&own), "{:?}", used.intersection(&own));
    assert!(open.len() >= PORTS - own.len() - PORTS / 20, "{} are used", open.len());
    for socket in &held {
        socket.send_to(b"own", to).expect("send");
        let mut data = [0; 8];
        assert_eq!(socket.recv(&mut data).expect("the host's own echo"), 3);
    }
}

#[test]
fn a_port_of_the_hosts_own_is_never_taken_ipv4() {
    a_port_of_the_hosts_own_is_never_taken(Family::V4);
}

#[test]
fn a_port_of_the_hosts_own_is_never_taken_ipv6() {
    a_port_of_the_hosts_own_is_never_taken(Family::V6);
}

/// TCP has its ports apart from UDP's.
fn connections_find_a_port_too(family: Family) {
    let (net, agent) = narrowed();
    let client = client(&agent, family);
    let server = net.outside.echo_tcp(&family.any(7));
    let to = at(family.outside(), 7);
    let own = net.host.run(|| std::net::TcpListener::bind(at(family.host(), 1500)));
    let mut open = Vec::new();
    for _ in 0..PORTS * 9 / 10 {
        let mut stream = client.ns.connect(to);
        exchange(&mut stream, b"hello");
        open.push(stream);
    }
    let used = ports(&server);
    assert_eq!(used.len(), open.len());
    assert!(!used.contains(&1500), "{used:?}");
    drop(own);
}

#[test]
fn connections_find_a_port_too_ipv4() {
    connections_find_a_port_too(Family::V4);
}

#[test]
fn connections_find_a_port_too_ipv6() {
    connections_find_a_port_too(Family::V6);
}

/// Whether the datapath takes the uplink's own IPv6 address, and asks no more.
fn has_fixed_source(net: &Topology, agent: &Agent) -> bool {
    let data = MapData::from_pin(agent.pins().join(names::UPLINKS)).expect("UPLINKS is pinned");
    let uplinks: aya::maps::HashMap<_, u32, Uplink> =
        Map::HashMap(data).try_into().expect("a hash map");
    let uplink = uplinks.get(&net.host.ifindex("up0"), 0).expect("up0 is an uplink");
    uplink.flags & Uplink::FIXED_SOURCE6 != 0
}

/// However little the datapath asks: with one address on the uplink, with a
/// better one beside it, and where a route names another (in a table that a rule
/// leads to), the source is the one that the kernel gives the host's own.
#[test]
fn ipv6_leaves_under_the_source_that_the_kernel_would_choose() {
    let net = Topology::new();
    let agent = net.agent();
    let client = client(&agent, Family::V6);
    let server = net.outside.echo_udp(&Family::V6.any(7));
    let to = at(OUTSIDE6, 7);
    let expect = |source: Ipv6Addr, fixed: bool| {
        let own = net.host.udp_to(to).local_addr().expect("the host's own source").ip();
        assert_eq!(own, IpAddr::V6(source), "the host's own");
        eventually(DEADLINE, "the datapath knows whether it has to ask", || {
            (has_fixed_source(&net, &agent) == fixed).then_some(())
        });
        let before = server.peers().len();
        client.ns.udp_to(to).send(b"?").expect("send");
        let seen =
            eventually(DEADLINE, "the datagram arrives", || server.peers().get(before).copied());
        assert_eq!(seen.ip(), own, "the container's");
    };
    expect(HOST6, true);

    // It shares more bits with the outside's (RFC 6724 §5, rule 8).
    let near = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 3);
    net.host.ip(&format!("addr add {near}/64 dev up0 nodad"));
    expect(near, false);
    net.host.ip(&format!("addr del {near}/64 dev up0"));
    expect(HOST6, true);

    let other = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);
    net.host.ip(&format!("addr add {other}/128 dev lo"));
    expect(HOST6, true);
    net.host.ip(&format!("-6 route add {OUTSIDE6} dev up0 src {other} table 100"));
    net.host.ip(&format!("-6 rule add to {OUTSIDE6} lookup 100"));
    expect(other, false);
    net.host.ip(&format!("-6 route del {OUTSIDE6} table 100"));
    expect(HOST6, true);
}
