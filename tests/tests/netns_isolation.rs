//! Who may not reach whom, and under which name it is counted.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use netd_tests::{
    Agent, Container, DEADLINE, RawSocket, SILENCE, Topology, exchange,
    topology::{HOST, OUTSIDE, at},
};

/// Network `a` with container `a`, network `b` with container `b`, which
/// publishes its port 80 as 8080.
fn two_networks(agent: &Agent) -> (Container, Container) {
    agent.network("a", "172.18.0.0/24", "");
    agent.network("b", "172.19.0.0/24", "");
    let a = agent.container("a", "--network a");
    let b = agent.container("b", "--network b -p 8080:80 -p 8080:80/udp");
    (a, b)
}

/// A network with two containers.
fn neighbours(agent: &Agent) -> (Container, Container) {
    agent.network("mine", "172.18.0.0/24", "");
    let a = agent.container("a", "--network mine");
    let b = agent.container("b", "--network mine");
    (a, b)
}

#[test]
fn containers_of_one_network_reach_each_other() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = neighbours(&agent);
    let (tcp, udp) = (b.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_udp("0.0.0.0:80"));

    exchange(&mut a.ns.connect(b.at(80)), b"hello");
    assert!(a.ns.udp_echoes(b.at(80), DEADLINE));
    a.ns.exec(&format!("busybox ping -c 1 -W 2 {}", b.ip));
    assert_eq!(tcp.peers()[0].ip(), a.ip);
    assert_eq!(udp.peers()[0].ip(), a.ip);
}

#[test]
fn a_container_does_not_reach_another_networks_container_by_its_address() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = two_networks(&agent);
    let (tcp, udp) = (b.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_udp("0.0.0.0:80"));
    let before = agent.dropped("isolated");

    assert!(a.ns.connect_tcp(b.at(80), SILENCE).is_err());
    assert!(!a.ns.udp_echoes(b.at(80), SILENCE));
    let ping = a.ns.command("busybox").args(["ping", "-c", "1", "-W", "1", &b.ip.to_string()]);
    assert_ne!(ping.output().code, 0);
    assert_eq!((tcp.peers(), udp.peers()), (vec![], vec![]));
    agent.expect_dropped("isolated", before);
}

#[test]
fn another_networks_published_port_is_reached_through_the_hosts_address() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = two_networks(&agent);
    let (tcp, udp) = (b.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_udp("0.0.0.0:80"));

    exchange(&mut a.ns.connect(at(HOST, 8080)), b"hello");
    assert!(a.ns.udp_echoes(at(HOST, 8080), DEADLINE));
    assert_eq!(tcp.peers()[0].ip(), a.ip, "the client's address is kept");
    assert_eq!(udp.peers()[0].ip(), a.ip, "the client's address is kept");
}

#[test]
fn a_container_reaches_itself_through_its_published_port() {
    let net = Topology::new();
    let agent = net.agent();
    let (_, b) = two_networks(&agent);
    let server = b.ns.echo_tcp("0.0.0.0:80");

    exchange(&mut b.ns.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), Ipv4Addr::new(172, 19, 0, 1), "the gateway stands in");
}

#[test]
fn the_outside_does_not_reach_a_containers_address_even_with_a_route_to_it() {
    let net = Topology::new();
    let agent = net.agent();
    let (_, b) = two_networks(&agent);
    net.outside.ip(&format!("route add 172.19.0.0/24 via {HOST}"));
    let (tcp, udp) = (b.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_udp("0.0.0.0:80"));
    let before = agent.dropped("direct_access");

    assert!(net.outside.connect_tcp(b.at(80), SILENCE).is_err());
    assert!(!net.outside.udp_echoes(b.at(80), SILENCE));
    assert_eq!((tcp.peers(), udp.peers()), (vec![], vec![]));
    agent.expect_dropped("direct_access", before);
}

#[test]
fn an_internal_network_has_no_way_out() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("inner", "172.20.0.0/24", "--internal");
    let a = agent.container("a", "--network inner");
    let b = agent.container("b", "--network inner");
    let server = net.outside.echo_tcp("0.0.0.0:80");

    a.ns.exec(&format!("busybox ping -c 1 -W 2 {}", b.ip));
    assert!(a.ns.connect_tcp(at(OUTSIDE, 80), SILENCE).is_err());
    assert_eq!(server.peers(), []);
}

#[test]
fn no_containers_address_leaves_by_the_uplink() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, _) = two_networks(&agent);
    let wire = RawSocket::open(&net.outside, "eth0");
    let (_tcp, _udp) = (net.outside.echo_tcp("0.0.0.0:80"), net.outside.echo_udp("0.0.0.0:80"));

    exchange(&mut a.ns.connect(at(OUTSIDE, 80)), b"hello");
    assert!(a.ns.udp_echoes(at(OUTSIDE, 80), DEADLINE));
    a.ns.exec(&format!("busybox ping -c 2 -i 0.1 -W 2 {OUTSIDE}"));
    let source = a.ip.octets();
    let from_container = |frame: &[u8]| frame.get(26..30) == Some(&source[..]);
    assert_eq!(wire.wait_for(SILENCE, from_container), None);
}

/// A UDP datagram in its frame.
fn datagram(macs: ([u8; 6], [u8; 6]), ips: (Ipv4Addr, Ipv4Addr), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(ips.0.octets(), ips.1.octets(), 64)
        .udp(4000, 80)
        .write(&mut frame, payload)
        .expect("it fits");
    frame
}

/// An ARP request to everyone, from `frame_mac`, that says who its sender is.
fn arp_request(frame_mac: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &frame_mac, &[0x08, 0x06]].concat();
    // Ethernet, IPv4, their lengths, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The gateway's MAC as the container knows it.
fn gateway_mac(container: &Container, gateway: &str) -> [u8; 6] {
    container.ns.exec(&format!("busybox ping -c 1 -W 2 {gateway}"));
    let shown = container.ns.ip(&format!("neigh show {gateway}"));
    let mac = shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    let bytes = mac.expect("a resolved neighbour").split(':');
    let bytes: Vec<_> = bytes.map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    bytes.try_into().expect("six bytes")
}

const PAYLOAD: &[u8] = b"is this from whom it says?";

/// `frame`, sent by `a`, does not arrive at `b` and is counted as `reason`.
#[track_caller]
fn drops(agent: &Agent, a: &Container, b: &Container, frame: &[u8], reason: &str) {
    let (from, to) = (RawSocket::open(&a.ns, "eth0"), RawSocket::open(&b.ns, "eth0"));
    let before = agent.dropped(reason);
    from.send(frame);
    agent.expect_dropped(reason, before);
    let body = &frame[12..];
    assert_eq!(to.wait_for(SILENCE, |seen| seen.get(12..) == Some(body)), None);
}

#[test]
fn a_frame_of_ones_own_arrives() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = neighbours(&agent);
    let (from, to) = (RawSocket::open(&a.ns, "eth0"), RawSocket::open(&b.ns, "eth0"));

    from.send(&datagram((from.mac, to.mac), (a.ip, b.ip), PAYLOAD));
    assert!(to.wait_for(DEADLINE, |frame| frame.ends_with(PAYLOAD)).is_some());
}

#[test]
fn a_spoofed_source_address_is_dropped_and_counted() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = neighbours(&agent);
    let (from, to) = (a.mac_bytes(), b.mac_bytes());

    for source in [[172, 18, 0, 99], [172, 18, 0, 1], [192, 0, 2, 1], [127, 0, 0, 1]] {
        let frame = datagram((from, to), (source.into(), b.ip), PAYLOAD);
        drops(&agent, &a, &b, &frame, "spoofed_address");
    }
}

#[test]
fn a_spoofed_source_address_does_not_leave_the_host() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, _) = neighbours(&agent);
    let gateway = gateway_mac(&a, "172.18.0.1");
    let (from, wire) = (RawSocket::open(&a.ns, "eth0"), RawSocket::open(&net.outside, "eth0"));
    let before = agent.dropped("spoofed_address");

    from.send(&datagram((from.mac, gateway), ([8, 8, 8, 8].into(), OUTSIDE), PAYLOAD));
    agent.expect_dropped("spoofed_address", before);
    assert_eq!(wire.wait_for(SILENCE, |frame| frame.ends_with(PAYLOAD)), None);
}

#[test]
fn a_spoofed_mac_is_dropped_and_counted() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = neighbours(&agent);
    let frame = datagram(([2, 0, 0, 0, 0, 9], b.mac_bytes()), (a.ip, b.ip), PAYLOAD);
    drops(&agent, &a, &b, &frame, "spoofed_mac");
}

#[test]
fn a_spoofed_arp_sender_is_dropped_and_counted() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = neighbours(&agent);
    let (mine, other) = (a.mac_bytes(), [2, 0, 0, 0, 0, 9]);

    // "The gateway is at my address", then "I am at another's".
    let gateway = Ipv4Addr::new(172, 18, 0, 1);
    drops(&agent, &a, &b, &arp_request(mine, (mine, gateway), b.ip), "spoofed_arp");
    drops(&agent, &a, &b, &arp_request(mine, (other, a.ip), b.ip), "spoofed_arp");
}

#[test]
fn a_container_as_source_from_outside_is_dropped_and_counted() {
    let net = Topology::new();
    let agent = net.agent();
    let (a, b) = two_networks(&agent);
    let server = b.ns.echo_udp("0.0.0.0:80");
    let (from, host) = (RawSocket::open(&net.outside, "eth0"), RawSocket::open(&net.host, "up0"));
    let before = agent.dropped("martian_source");

    let frame = &mut datagram((from.mac, host.mac), (a.ip, HOST), PAYLOAD);
    // To the published port.
    frame[36..38].copy_from_slice(&8080_u16.to_be_bytes());
    from.send(frame);
    agent.expect_dropped("martian_source", before);
    assert_eq!(server.peers(), []);
}
