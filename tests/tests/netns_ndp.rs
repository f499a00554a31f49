//! Neighbour discovery: a container speaks for itself, and is no router.

use std::net::{IpAddr, Ipv6Addr};

use netd_tests::{
    Agent, Container, DEADLINE, Family, RawSocket, SILENCE, Topology, eventually, exchange, frame,
};

const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
/// What stands for all nodes in Ethernet (RFC 2464 §7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;

fn neighbours(agent: &Agent) -> (Container, Container) {
    agent.network("mine", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64");
    let one = agent.container("one", "--network mine");
    (one, agent.container("two", "--network mine"))
}

/// A message to all nodes, in a frame of this container's.
fn message(from: &Container, src: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let (src, dst) = (IpAddr::from(src), IpAddr::from(ALL_NODES));
    let mut payload = [&[kind, 0, 0, 0], body].concat();
    let sum = frame::checksum6(src, dst, ICMPV6, &payload).to_be_bytes();
    payload[2..4].copy_from_slice(&sum);
    let macs = (from.mac_bytes(), ALL_NODES_MAC);
    frame::ip_with_hops(macs, src, dst, (ICMPV6, HOP_LIMIT), &payload)
}

/// Of a solicitation or an advertisement (RFC 4861 §4.3, §4.4).
fn about(target: Ipv6Addr, option: u8, mac: [u8; 6]) -> Vec<u8> {
    // "Take it instead of what you have."
    let override_flag = [0x20, 0, 0, 0];
    [&override_flag[..], &target.octets(), &[option, 1], &mac].concat()
}

/// `frame`, sent by `one`, arrives at `two`.
#[track_caller]
fn passes(one: &Container, two: &Container, frame: &[u8]) {
    let (from, to) = (RawSocket::open(&one.ns, "eth0"), RawSocket::open(&two.ns, "eth0"));
    from.send(frame);
    assert!(to.wait_for(DEADLINE, |seen| seen == frame).is_some());
}

/// `frame`, sent by `one`, does not arrive at `two` and is counted as `reason`.
#[track_caller]
fn drops(agent: &Agent, one: &Container, two: &Container, frame: &[u8], reason: &str) {
    let (from, to) = (RawSocket::open(&one.ns, "eth0"), RawSocket::open(&two.ns, "eth0"));
    let before = agent.dropped(reason);
    from.send(frame);
    agent.expect_dropped(reason, before);
    assert_eq!(to.wait_for(SILENCE, |seen| seen == frame), None);
}

#[test]
fn a_container_speaks_for_itself() {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent);
    let mac = one.mac_bytes();
    let own = about(one.ip6, TARGET_MAC, mac);
    passes(&one, &two, &message(&one, one.ip6, ADVERTISEMENT, &own));
    let asked = about(two.ip6, SOURCE_MAC, mac);
    passes(&one, &two, &message(&one, one.ip6, SOLICITATION, &asked));
}

#[test]
fn a_container_speaks_for_nobody_else() {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent);
    let (mac, other) = (one.mac_bytes(), [2, 0, 0, 0, 0, 9]);
    let lies = [
        // "The gateway is here", "your neighbour is here", "I am elsewhere".
        (one.ip6, ADVERTISEMENT, about(GATEWAY, TARGET_MAC, mac)),
        (one.ip6, ADVERTISEMENT, about(two.ip6, TARGET_MAC, mac)),
        (one.ip6, ADVERTISEMENT, about(one.ip6, TARGET_MAC, other)),
        (one.ip6, SOLICITATION, about(two.ip6, SOURCE_MAC, other)),
        // As another.
        (GATEWAY, ADVERTISEMENT, about(GATEWAY, TARGET_MAC, mac)),
        (two.ip6, SOLICITATION, about(GATEWAY, SOURCE_MAC, mac)),
        // "Has anyone this address?", which is another's, and then its own.
        (Ipv6Addr::UNSPECIFIED, SOLICITATION, about(two.ip6, SOURCE_MAC, other)),
    ];
    let known = two.neighbour(GATEWAY.into());
    for (src, kind, body) in lies {
        drops(&agent, &one, &two, &message(&one, src, kind, &body), "spoofed_ndp");
    }
    assert_eq!(two.neighbour(GATEWAY.into()), known, "the gateway's MAC address");
}

#[test]
fn a_container_is_no_router() {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent);
    two.ns.set_sysctl("net/ipv6/conf/eth0/accept_ra", "2");
    let routes = two.ns.ip("-6 route");
    // A hop limit, no flags, a life of half an hour; its MAC.
    let advert = [&[64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..], &[SOURCE_MAC, 1]].concat();
    let advert = [&advert[..], &one.mac_bytes()].concat();
    let redirect = [&[0; 4][..], &one.ip6.octets(), &GATEWAY.octets()].concat();
    for (kind, body) in [(ROUTER_ADVERTISEMENT, advert), (REDIRECT, redirect)] {
        drops(&agent, &one, &two, &message(&one, one.ip6, kind, &body), "rogue_router");
    }
    assert_eq!(two.ns.ip("-6 route"), routes);
}

#[test]
fn duplicate_address_detection_goes_round_and_finds_none() {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent);
    let _server = two.ns.echo_tcp(&Family::V6.any(80));
    let wire = RawSocket::open(&two.ns, "eth0");
    for scope in ["all", "eth0"] {
        one.ns.set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "1");
    }
    one.ns.ip(&format!("addr del {}/64 dev eth0", one.ip6));
    one.ns.ip(&format!("addr add {}/64 dev eth0", one.ip6));

    let asks = |seen: &[u8]| {
        frame::carried(seen).is_some_and(|it| {
            it.protocol == ICMPV6
                && it.src == IpAddr::from(Ipv6Addr::UNSPECIFIED)
                && it.payload.first() == Some(&SOLICITATION)
                && it.payload.get(8..24) == Some(&one.ip6.octets()[..])
        })
    };
    assert!(wire.wait_for(DEADLINE, asks).is_some(), "its neighbours are asked");
    eventually(DEADLINE, "the address is not tentative any more", || {
        let shown = one.ns.ip("-6 addr show dev eth0 scope global");
        assert!(!shown.contains("dadfailed"), "{shown}");
        (!shown.contains("tentative")).then_some(())
    });
    one.ns.ip(&format!("-6 route replace default via {GATEWAY}"));
    exchange(&mut one.ns.connect((two.ip6, 80).into()), b"hello");
}
