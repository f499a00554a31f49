//! The programs of a container run in filters from the moment that it is there,
//! and move to links a little later. Nobody notices.

use std::{net::Ipv4Addr, time::Duration};

use aya::maps::{Array, Map, MapData};
use netd_common::abi::names;
use netd_tests::{
    Agent, Container, Topology, exchange,
    json::text,
    topology::{HOST, OUTSIDE, at},
};

/// The default bridge.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// Sends datagrams to the host, which the program lets pass and counts, until
/// `until`: each is seen once.
#[track_caller]
fn seen_once(agent: &Agent, client: &Container, mut until: impl FnMut() -> bool) {
    let host = client.ns.udp_to(at(GATEWAY, 9));
    let passed = || {
        agent.counted(|row| {
            text(row, "/Program") == "from_container" && text(row, "/Outcome") == "pass"
        })
    };
    let (before, mut sent) = (passed(), 0);
    while !until() || sent < 20_000 {
        for _ in 0..1000 {
            // Nobody listens: one may tell that another was refused, and not go.
            sent += u64::from(host.send(b"hello").is_ok());
        }
    }
    let seen = passed() - before;
    // Neighbours ask for each other besides.
    assert!((sent..sent + 20).contains(&seen), "{seen} of {sent}: {}", agent.log());
}

#[test]
fn programs_start_in_filters_and_move_to_links_and_no_packet_is_seen_twice() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    // Unless this machine is held up for a second.
    let client = (0..20).find_map(|n| {
        let client = agent.container(&format!("client{n}"), "");
        (agent.filters().len() > 1).then_some(client)
    });
    let client = client.expect("its programs are in filters");
    let veth = agent.host_side(&web);
    let others = "protocol ip prio 7 u32 match ip dst 10.9.9.9/32 flowid 1:1";
    // The qdisc is there still, whatever is in it.
    net.host.exec(&format!("tc filter add dev {veth} ingress {others}"));
    let _servers = [web.ns.echo_tcp("0.0.0.0:80"), net.outside.echo_tcp("0.0.0.0:7")];
    let mut into = net.outside.connect(at(HOST, 8080));
    let mut out = client.ns.connect(at(OUTSIDE, 7));

    seen_once(&agent, &client, || agent.filters().is_empty());
    exchange(&mut into, b"goes on");
    exchange(&mut out, b"goes on");
    let left = net.host.exec(&format!("tc filter show dev {veth} ingress"));
    assert!(left.contains("pref 7 ") && !left.contains("pref 28260"), "{left}");
}

#[test]
fn filters_that_somebody_takes_before_they_are_settled_come_back() {
    let net = Topology::new();
    let agent = net.agent();
    // Unless this machine is held up for a second.
    let told = (0..20).any(|n| {
        let web = agent.container(&format!("web{n}"), &format!("-p {}:80", 8080 + n));
        let _server = web.ns.echo_tcp("0.0.0.0:80");
        let veth = agent.host_side(&web);
        net.host.exec(&format!("tc qdisc del dev {veth} clsact"));
        agent.wait_until_settled();
        exchange(&mut net.outside.connect(at(HOST, 8080 + n)), b"hello");
        agent.log().contains(&format!("the filter `from_container` on `{veth}`"))
    });
    assert!(told, "{}", agent.log());
}

#[test]
fn the_next_agent_goes_on_where_one_was_killed() {
    let net = Topology::new();
    let mut agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    let _servers = [web.ns.echo_tcp("0.0.0.0:80"), net.outside.echo_tcp("0.0.0.0:7")];
    let mut into = net.outside.connect(at(HOST, 8080));

    agent.kill();
    exchange(&mut into, b"without an agent");
    agent.start_again();
    agent.wait_until_settled();
    exchange(&mut into, b"settled");

    // Killed when the first of its links is there and the second is not.
    let client = (0..20).find_map(|n| {
        let client = agent.container(&format!("client{n}"), "");
        let at = net.host.ifindex(&agent.host_side(&client));
        let first = agent.pins().join("links").join(format!("{at}-from_container"));
        while !first.exists() {
            std::thread::sleep(Duration::from_micros(200));
        }
        agent.kill();
        if !agent.filters().is_empty() {
            return Some((client, at));
        }
        agent.start_again();
        None
    });
    let (client, at) = client.expect("one of them is half way");
    assert_eq!(settling(&agent), at);
    agent.start_again();
    seen_once(&agent, &client, || agent.filters().is_empty());
    assert_eq!(settling(&agent), 0);
    exchange(&mut into, b"settled again");
}

#[test]
fn an_agent_with_filters_takes_the_place_of_one_with_links_and_back() {
    let net = Topology::new();
    let mut agent = net.agent();
    let client = agent.container("client", "");
    agent.wait_until_settled();
    agent.stop();
    agent.set_flags(&["--clsact"]);
    agent.start_again();
    assert_eq!(agent.filters().len(), 4, "{:?}", agent.filters());
    seen_once(&agent, &client, || true);
    agent.stop();
    agent.set_flags(&[]);
    agent.start_again();
    seen_once(&agent, &client, || agent.filters().is_empty());
}

/// What the map `SETTLING` has.
fn settling(agent: &Agent) -> u32 {
    let map = MapData::from_pin(agent.pins().join(names::SETTLING)).expect("the map is pinned");
    let map: Array<_, u32> = Map::Array(map).try_into().expect("an array");
    map.get(&0, 0).expect("read it")
}
