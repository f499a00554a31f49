//! More endpoints than a bridge has ports: those beyond are in annexes, and
//! nobody can tell. The bridges here take two endpoints each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_tests::{
    Agent, Container, DEADLINE, Family, NetNs, RawSocket, Topology, exchange,
    topology::{HOST, OUTSIDE, at},
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
const BROADCAST: [u8; 6] = [0xff; 6];

/// Two on the network's bridge, two in its first annex, one in its second.
fn five(agent: &Agent) -> Vec<Container> {
    agent.network("many", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64 -o netd.bridge_ports=2");
    let publish = |n| format!("--network many -p 808{n}:80");
    (0..5).map(|n| agent.container(&format!("c{n}"), &publish(n))).collect()
}

/// netd's links of this kind of an annex, in the host.
fn links(host: &NetNs, prefix: &str) -> usize {
    let named = |link: &String| link.starts_with(prefix);
    netd_tests::topology::links(host).iter().filter(|link| named(link)).count()
}

#[track_caller]
fn pings(from: &NetNs, to: IpAddr) {
    from.exec(&format!("ping -c 1 -W 5 {to}"));
}

#[test]
fn all_reach_all_the_host_and_the_outside() {
    let net = Topology::new();
    let agent = net.agent();
    let all = five(&agent);
    assert_eq!(links(&net.host, "nx"), 2, "annexes");
    for one in &all {
        for family in Family::ALL {
            for other in &all {
                pings(&one.ns, other.address(family));
            }
            pings(&net.host, one.address(family));
            pings(&one.ns, family.pick(GATEWAY.into(), GATEWAY6.into()));
            pings(&one.ns, family.pick(HOST.into(), netd_tests::topology::HOST6.into()));
        }
        let _server = net.outside.echo_tcp("0.0.0.0:7");
        exchange(&mut one.ns.connect(at(OUTSIDE, 7)), b"out");
    }
    // The gateway is the network's bridge, wherever a container is.
    let macs: Vec<_> = all.iter().map(|one| one.neighbour(GATEWAY.into())).collect();
    assert!(macs.windows(2).all(|pair| pair[0] == pair[1]), "{macs:?}");
}

#[test]
fn published_ports_lead_into_annexes() {
    let net = Topology::new();
    let agent = net.agent();
    for (n, one) in (0..).zip(five(&agent)) {
        let server = one.ns.echo_tcp("0.0.0.0:80");
        exchange(&mut net.outside.connect(at(HOST, 8080 + n)), b"from outside");
        assert_eq!(server.heard()[0].peer.ip(), IpAddr::from(OUTSIDE));
        exchange(&mut net.host.connect(at(Ipv4Addr::LOCALHOST, 8080 + n)), b"from the host");
    }
}

#[test]
fn they_are_one_ethernet() {
    let net = Topology::new();
    let agent = net.agent();
    let all = five(&agent);
    for from in &all {
        // A directed broadcast, as someone looks for a service.
        let macs = (from.mac_bytes(), BROADCAST);
        let to = Ipv4Addr::new(172, 18, 0, 255);
        let frame = netd_tests::frame::ip(macs, from.ip.into(), to.into(), 253, b"anyone?");
        let ears: Vec<_> = all
            .iter()
            .filter(|other| other.ip != from.ip)
            .map(|other| RawSocket::open(&other.ns, "eth0"))
            .collect();
        RawSocket::open(&from.ns, "eth0").send(&frame);
        for ear in ears {
            assert!(ear.wait_for(DEADLINE, |seen| seen == frame).is_some(), "{}", from.name);
        }
    }
}

#[test]
fn an_annex_goes_with_its_last_endpoint_and_the_first_bridge_fills_again() {
    let net = Topology::new();
    let agent = net.agent();
    let all = five(&agent);
    agent.netd("rm -f c0 c4").ok();
    assert_eq!(links(&net.host, "nx"), 1);
    let again = agent.container("again", "--network many");
    assert_eq!(links(&net.host, "nx"), 1, "there was room on the network's own bridge");
    pings(&again.ns, all[3].ip.into());
    agent.netd("rm -f c2 c3").ok();
    assert_eq!((links(&net.host, "nx"), links(&net.host, "nt")), (0, 0));
    agent.netd("network disconnect many again").ok();
    agent.netd("network connect many again").ok();
    agent.netd("rm -f again c1").ok();
    agent.netd("network rm many").ok();
    agent.assert_clean();
}

#[test]
fn a_network_is_full_when_its_annexes_are() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("tiny", "172.18.0.0/24", "-o netd.bridge_ports=1");
    for n in 0..17 {
        agent.container(&format!("c{n}"), "--network tiny");
    }
    agent
        .netd("run -d --network tiny -- sleep infinity")
        .fails(1, "network tiny is full: its bridges have no port left");
}

#[test]
fn a_start_makes_annexes_anew_that_are_gone() {
    let net = Topology::new();
    let mut agent = net.agent();
    let all = five(&agent);
    agent.kill();
    let trunks = netd_tests::topology::links(&net.host);
    for trunk in trunks.iter().filter(|link| link.starts_with("nt")) {
        net.host.ip(&format!("link del {trunk}"));
    }
    agent.start_again();
    pings(&net.host, all[4].ip.into());
    pings(&all[2].ns, GATEWAY6.into());
    assert_eq!((links(&net.host, "nx"), links(&net.host, "nt")), (2, 2));
    for one in &all {
        pings(&one.ns, all[0].ip.into());
    }
}
