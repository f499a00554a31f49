//! The path's MTU and its hops, as they are seen through both translations.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    thread,
};

use etherparse::{SlicedPacket, TcpOptionElement, TransportSlice};
use netd_tests::{
    Agent, Container, DEADLINE, Family, NetNs, RawSocket, Topology, exchange, topology::at,
};

/// What the router lets through; all links have 1,500.
const NARROW: u16 = 1400;
const BULK: usize = 8 << 20;

/// A container that publishes its port 80 as 8080, TCP and UDP.
fn web(agent: &Agent, family: Family) -> Container {
    web_with(agent, family, "")
}

fn web_with(agent: &Agent, family: Family, options: &str) -> Container {
    let v6 = family.pick("", "--ipv6 --subnet fd00:18::/64");
    agent.network("mine", "172.18.0.0/16", &format!("{v6} {options}"));
    agent.container("web", "--network mine -p 8080:80 -p 8080:80/udp")
}

fn gateway(family: Family) -> IpAddr {
    family.pick("172.18.0.1", "fd00:18::1").parse().expect("an address")
}

/// The path MTU that a namespace has learnt towards an address.
fn learnt(ns: &NetNs, to: IpAddr) -> Option<u16> {
    let shown = ns.ip(&format!("route get {to}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map(|mtu| mtu.parse().unwrap_or_else(|_| panic!("an MTU: {shown}")))
}

/// Moves [`BULK`] bytes both ways at once.
fn bulk(client: &NetNs, to: SocketAddr, server: &NetNs, listen: &str) {
    let server = server.echo_tcp(listen);
    let mut stream = client.connect(to);
    let mut sender = stream.try_clone().expect("share the socket");
    let data: Vec<u8> = (0..BULK).map(|n| n.to_be_bytes()[6]).collect();
    let mut back = vec![0; BULK];
    thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&data).expect("send"));
        stream.read_exact(&mut back).expect("receive");
    });
    assert!(back == data, "what comes back is what was sent");
    drop(server);
}

fn bulk_gets_out_by_a_narrow_path(family: Family) {
    let (net, _router) = Topology::behind_narrow_router(NARROW);
    let agent = net.agent();
    let web = web(&agent, family);

    bulk(&web.ns, at(family.beyond(), 7), &net.outside, &family.any(7));
    assert_eq!(learnt(&web.ns, family.beyond()), Some(NARROW), "the container's");
    assert_eq!(learnt(&net.outside, family.host()), Some(NARROW), "the outside's");
    for ns in [&net.host, &net.outside, &web.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn bulk_gets_out_by_a_narrow_path_ipv4() {
    bulk_gets_out_by_a_narrow_path(Family::V4);
}

#[test]
fn bulk_gets_out_by_a_narrow_path_ipv6() {
    bulk_gets_out_by_a_narrow_path(Family::V6);
}

fn bulk_gets_in_by_a_narrow_path(family: Family) {
    let (net, _router) = Topology::behind_narrow_router(NARROW);
    let agent = net.agent();
    let web = web(&agent, family);

    bulk(&net.outside, at(family.host(), 8080), &web.ns, &family.any(80));
    assert_eq!(learnt(&web.ns, family.beyond()), Some(NARROW), "the container's");
    assert_eq!(learnt(&net.outside, family.host()), Some(NARROW), "the outside's");
    for ns in [&net.host, &net.outside, &web.ns] {
        assert_eq!(ns.checksum_errors(), 0, "InCsumErrors in {}", ns.name());
    }
}

#[test]
fn bulk_gets_in_by_a_narrow_path_ipv4() {
    bulk_gets_in_by_a_narrow_path(Family::V4);
}

#[test]
fn bulk_gets_in_by_a_narrow_path_ipv6() {
    bulk_gets_in_by_a_narrow_path(Family::V6);
}

/// UDP that does not let itself be fragmented.
fn a_container_learns_the_path_mtu(family: Family) {
    let (net, _router) = Topology::behind_narrow_router(NARROW);
    let agent = net.agent();
    let web = web(&agent, family);

    let said = web.ns.exec(&format!("tracepath -n {} {}", family.flag(), family.beyond()));
    assert!(said.contains(&format!("pmtu {NARROW}")), "{said}");
    assert_eq!(learnt(&web.ns, family.beyond()), Some(NARROW));

    let hops = hops(&said);
    assert_eq!(hops, [gateway(family), family.near(), family.beyond()], "{said}");
    assert!(said.contains("reached"), "{said}");
}

#[test]
fn a_container_learns_the_path_mtu_ipv4() {
    a_container_learns_the_path_mtu(Family::V4);
}

#[test]
fn a_container_learns_the_path_mtu_ipv6() {
    a_container_learns_the_path_mtu(Family::V6);
}

/// The addresses of a trace, in order, each once. A hop that does not answer
/// is a `*`, and fails.
#[track_caller]
fn hops(said: &str) -> Vec<IpAddr> {
    let lines = said.lines().filter(|line| {
        let number = line.trim_start().split([':', ' ', '?']).next();
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    });
    let mut hops: Vec<IpAddr> = lines
        .filter(|line| !line.contains("[LOCALHOST]"))
        .map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let address = words.find_map(|word| word.parse().ok());
            address.unwrap_or_else(|| panic!("a hop does not answer:\n{said}"))
        })
        .collect();
    hops.dedup();
    hops
}

fn traceroute_from_a_container_lists_each_hop(family: Family) {
    let (net, _router) = Topology::behind_router();
    let agent = net.agent();
    let web = web(&agent, family);
    let _server = net.outside.echo_tcp(&family.any(80));

    // UDP, ICMP echo, TCP.
    for method in ["-U -p 33434", "-I", "-T -p 80"] {
        let line =
            format!("traceroute -n {} -q 1 -w 2 {method} {}", family.flag(), family.beyond());
        let said = web.ns.exec(&line);
        let expected = [gateway(family), family.near(), family.beyond()];
        assert_eq!(hops(&said), expected, "{line}\n{said}");
    }
}

#[test]
fn traceroute_from_a_container_lists_each_hop_ipv4() {
    traceroute_from_a_container_lists_each_hop(Family::V4);
}

#[test]
fn traceroute_from_a_container_lists_each_hop_ipv6() {
    traceroute_from_a_container_lists_each_hop(Family::V6);
}

/// The container behind a published port is not to be told from the host.
fn traceroute_to_a_published_port_ends_at_the_host(family: Family) {
    let (net, _router) = Topology::behind_router();
    let agent = net.agent();
    let web = web(&agent, family);
    let _server = web.ns.echo_tcp(&family.any(80));

    // To the open TCP port, and to the UDP port that is closed inside.
    for method in ["-T -p 8080", "-U -p 8080"] {
        let line = format!("traceroute -n {} -q 1 -w 2 {method} {}", family.flag(), family.host());
        let said = net.outside.exec(&line);
        assert_eq!(hops(&said), [family.far(), family.host()], "{line}\n{said}");
    }
}

#[test]
fn traceroute_to_a_published_port_ends_at_the_host_ipv4() {
    traceroute_to_a_published_port_ends_at_the_host(Family::V4);
}

#[test]
fn traceroute_to_a_published_port_ends_at_the_host_ipv6() {
    traceroute_to_a_published_port_ends_at_the_host(Family::V6);
}

/// The MSS of the first SYN (or SYN with ACK) that leaves for the outside.
fn announced(wire: &RawSocket, from: IpAddr) -> u16 {
    let mut mss = None;
    wire.wait_for(DEADLINE, |frame| {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return false };
        let source: Option<IpAddr> = match packet.net {
            Some(etherparse::NetSlice::Ipv4(ip)) => Some(ip.header().source_addr().into()),
            Some(etherparse::NetSlice::Ipv6(ip)) => Some(ip.header().source_addr().into()),
            _ => None,
        };
        let mut options = tcp.options_iterator().filter_map(Result::ok);
        mss = options.find_map(|option| match option {
            TcpOptionElement::MaximumSegmentSize(mss) => Some(mss),
            _ => None,
        });
        tcp.syn() && source == Some(from)
    });
    mss.expect("a SYN announces its MSS")
}

/// The MSS is clamped where the uplink's own route is known to be smaller.
fn a_narrow_uplink_clamps_the_mss(family: Family) {
    let net = Topology::new();
    let (ip, via) = (family.flag(), family.outside());
    net.host.ip(&format!("{ip} route change default via {via} dev up0 mtu lock {NARROW}"));
    net.host.ip(&format!("{ip} route add {via} dev up0 mtu lock {NARROW}"));
    let agent = net.agent();
    // Its containers would announce what fits by themselves, but for this.
    let wide = "-o com.docker.network.driver.mtu=1500";
    let web = web_with(&agent, family, wide);
    let _servers = (net.outside.echo_tcp(&family.any(7)), web.ns.echo_tcp(&family.any(80)));
    let fits = NARROW - u16::try_from(family.header()).expect("small") - 20;

    let wire = RawSocket::open(&net.outside, "eth0");
    exchange(&mut web.ns.connect(at(via, 7)), b"out");
    assert_eq!(announced(&wire, family.host()), fits, "of the container as a client");

    let wire = RawSocket::open(&net.outside, "eth0");
    exchange(&mut net.outside.connect(at(family.host(), 8080)), b"in");
    assert_eq!(announced(&wire, family.host()), fits, "of the container as a server");
}

#[test]
fn a_narrow_uplink_clamps_the_mss_ipv4() {
    a_narrow_uplink_clamps_the_mss(Family::V4);
}

#[test]
fn a_narrow_uplink_clamps_the_mss_ipv6() {
    a_narrow_uplink_clamps_the_mss(Family::V6);
}
