//! The host and its containers talk past the bridge that both are on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_tests::{
    Agent, Container, Family, NetNs, Topology,
    json::text,
    probe,
    topology::{Offload, at},
};
use serde_json::Value;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
const BRIDGE: &str = "br0";
const DATAGRAMS: u64 = 1000;

/// What came to a container, of whatever kind.
fn received(container: &Container) -> u64 {
    let shown: Value = serde_json::from_str(&container.ns.exec("ip -j -s link show dev eth0"))
        .expect("ip prints JSON");
    shown.pointer("/0/stats64/rx/packets").and_then(Value::as_u64).expect("a count")
}

/// Two on a network of both families.
fn two(agent: &Agent) -> [Container; 2] {
    let named = format!("-o com.docker.network.bridge.name={BRIDGE}");
    agent.network("net", "172.18.0.0/24", &format!("--ipv6 --subnet fd00:18::/64 {named}"));
    ["web", "other"].map(|name| agent.container(name, "--network net"))
}

#[test]
fn what_the_host_sends_comes_to_one_container_alone() {
    let net = Topology::new();
    let agent = net.agent();
    let [web, other] = two(&agent);
    let past = || {
        agent.counted(|row| text(row, "/Program") == "from_host" && text(row, "/Outcome") == "pass")
    };
    for family in Family::ALL {
        let server = web.ns.echo_udp(family.pick("0.0.0.0:9000", "[::]:9000"));
        let client = net.host.udp_to(at(web.address(family), server.port()));
        let mut answer = [0; 8];
        client.send(b"hello").expect("it is sent");
        client.recv(&mut answer).expect("they know each other");
        // The bridge no longer knows who is behind which port.
        net.host.ip(&format!("link set {BRIDGE} type bridge fdb_flush"));
        let before = (past(), received(&web), received(&other));
        for n in 0..DATAGRAMS {
            client.send(&n.to_be_bytes()).expect("it is sent");
            client.recv(&mut answer).expect("it is answered");
            assert_eq!(u64::from_be_bytes(answer), n);
        }
        let few = DATAGRAMS..DATAGRAMS + 20;
        assert!(few.contains(&(received(&web) - before.1)), "the other end of it");
        assert!(received(&other) - before.2 < 20, "the others hear of nothing");
        assert!(few.contains(&(past() - before.0)), "{}", agent.netd("stats").stdout);
    }
}

#[test]
fn a_host_and_its_containers_reach_each_other_by_all_protocols() {
    let net = Topology::new();
    let agent = net.agent();
    let all = two(&agent);
    for offload in [Offload::Default, Offload::TxOff] {
        net.set_offload(offload, &[&all[0], &all[1]]);
        for family in Family::ALL {
            let gateway: IpAddr = family.pick(GATEWAY.into(), GATEWAY6.into());
            for container in &all {
                let own = container.address(family);
                reaches(&net.host, &container.ns, own, family);
                reaches(&container.ns, &net.host, gateway, family);
            }
        }
    }
    for ns in [&net.host, &all[0].ns, &all[1].ns] {
        assert_eq!(ns.checksum_errors(), 0, "{}", ns.name());
    }
}

/// Short and long, whole and in pieces.
#[track_caller]
fn reaches(from: &NetNs, server: &NetNs, address: IpAddr, family: Family) {
    let (to, any) = (at(address, 9000), family.pick("0.0.0.0:9000", "[::]:9000"));
    let (tcp, udp) = (server.echo_tcp(any), server.echo_udp(any));
    let lengths = [1, 1400, 9000, 60_000];
    let seen = probe::tcp(from, to, &tcp, &lengths).expect("TCP is answered");
    assert_eq!(seen.0, seen.1, "the client's own address");
    let seen = probe::udp(from, to, &udp, &lengths).expect("UDP is answered");
    assert_eq!(seen.0, seen.1, "the client's own address");
    probe::ping(from, to, &lengths).expect("pings are answered");
}
