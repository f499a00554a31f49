//! Dual-stack networks: what the agent makes of the host and of the container.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use netd_tests::{
    Agent, Container, DEADLINE, Family, NetNs, Topology, exchange,
    json::{one, rows, text},
    topology::{HOST6, OUTSIDE6},
};
use serde_json::{Value, json};

/// Makes a dual-stack network `n` with a container `c` on it.
fn dual(agent: &Agent) -> Container {
    agent.network("n", "172.30.0.0/24", "--ipv6 --subnet fd00:30::/64");
    agent.container("c", "--network n")
}

/// The addresses of a link, as `ip -j` shows them.
fn addresses(ns: &NetNs, link: &str) -> Vec<Value> {
    let shown: Value =
        serde_json::from_str(&ns.ip(&format!("-j -6 addr show dev {link}"))).expect("JSON");
    // Nothing at all where IPv6 is off.
    shown[0]["addr_info"].as_array().cloned().unwrap_or_default()
}

fn prefixed(address: &Value) -> String {
    format!("{}/{}", text(address, "/local"), address["prefixlen"])
}

fn bridge_of(agent: &Agent, network: &str) -> String {
    let list = agent.inspect(&format!("network inspect {network}"));
    format!("br-{}", &text(one(&list), "/Id")[..12])
}

#[test]
fn a_container_has_its_ipv6_address_route_and_link_local_at_once() {
    let net = Topology::new();
    let agent = net.agent();
    let c = dual(&agent);
    assert_eq!(c.ip6.to_string(), "fd00:30::2");
    let found = addresses(&c.ns, "eth0");
    let shown: Vec<_> = found.iter().map(prefixed).collect();
    // 02:42:ac:1e:00:02, as the datapath expects it.
    assert_eq!(shown, ["fd00:30::2/64", "fe80::42:acff:fe1e:2/64"]);
    for address in &found {
        assert!(address.get("tentative").is_none(), "{address}");
        assert!(address.get("dadfailed").is_none(), "{address}");
    }
    let route = c.ns.ip("-6 route show default");
    assert!(route.starts_with("default via fd00:30::1 dev eth0"), "{route}");
    assert_eq!(c.ns.sysctl("net/ipv6/conf/eth0/accept_ra"), "0");
    c.ns.exec("ping -6 -c1 -W2 ::1");
    c.ns.exec("ping -6 -c1 -W2 fd00:30::1");
    net.host.exec("ping -6 -c1 -W2 fd00:30::2");
}

#[test]
fn only_ipv6_networks_have_ipv6_and_nothing_global_changes() {
    let net = Topology::new();
    let keys = ["all", "default"]
        .map(|scope| {
            ["forwarding", "disable_ipv6", "accept_ra", "accept_dad", "addr_gen_mode"]
                .map(|key| format!("net/ipv6/conf/{scope}/{key}"))
        })
        .concat();
    let before: Vec<_> = keys.iter().map(|key| net.host.sysctl(key)).collect();
    let agent = net.agent();
    dual(&agent);
    let plain = agent.container("plain", "");
    let after: Vec<_> = keys.iter().map(|key| net.host.sysctl(key)).collect();
    assert_eq!(before, after);
    assert_eq!(net.host.sysctl("net/ipv6/conf/up0/forwarding"), "0");

    let bridge = bridge_of(&agent, "n");
    let conf = |link: &str, key: &str| net.host.sysctl(&format!("net/ipv6/conf/{link}/{key}"));
    for (key, value) in [("forwarding", "1"), ("accept_ra", "0"), ("disable_ipv6", "0")] {
        assert_eq!(conf(&bridge, key), value, "{key} of {bridge}");
    }
    let shown: Vec<_> = addresses(&net.host, &bridge).iter().map(prefixed).collect();
    assert!(shown.contains(&"fd00:30::1/64".to_owned()), "{shown:?}");
    assert_eq!(conf("netd0", "disable_ipv6"), "1");
    assert_eq!(conf("netd0", "forwarding"), "0");

    assert_eq!(plain.ns.sysctl("net/ipv6/conf/eth0/disable_ipv6"), "1");
    assert!(addresses(&plain.ns, "eth0").is_empty());
    plain.ns.exec("ping -6 -c1 -W2 ::1");
}

#[test]
fn a_host_that_has_ipv6_off_by_default_still_has_dual_stack_networks() {
    let net = Topology::new();
    net.host.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    net.host.set_sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
    let agent = net.agent();
    let c = dual(&agent);
    let bridge = bridge_of(&agent, "n");
    let scopes: Vec<_> =
        addresses(&net.host, &bridge).iter().map(|it| text(it, "/scope").to_owned()).collect();
    assert_eq!(scopes, ["global", "link"]);
    c.ns.exec("ping -6 -c1 -W2 fd00:30::1");
}

#[test]
fn routes_that_the_host_learnt_from_a_router_stay() {
    let net = Topology::new();
    // As the kernel keeps them: `accept_ra` on, learnt by an advertisement.
    net.host.ip("-6 route del default");
    net.host.set_sysctl("net/ipv6/conf/up0/accept_ra", "1");
    let learnt = || net.host.ip("-6 route show default proto ra");
    netd_tests::eventually(netd_tests::DEADLINE, "the route is learnt", || {
        advertise(&net);
        (!learnt().is_empty()).then_some(())
    });
    let agent = net.agent();
    dual(&agent);
    assert!(learnt().contains("dev up0"), "the host lost its default route");
    assert_eq!(net.host.sysctl("net/ipv6/conf/up0/accept_ra"), "1");
}

/// Sends one router advertisement from the outside (RFC 4861 §4.2).
fn advertise(net: &Topology) {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
        socket, sockopt,
    };
    use std::os::fd::AsRawFd as _;

    net.outside.run(|| {
        let index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        let raw = socket(
            AddressFamily::Inet6,
            SockType::Raw,
            SockFlag::empty(),
            Some(SockProtocol::IcmpV6),
        )
        .expect("a raw socket");
        setsockopt(&raw, sockopt::Ipv6MulticastHops, &255).expect("hops");
        // Type 134, hop limit 64, lifetime 1800 s; the kernel fills in the checksum.
        let message = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SockaddrIn6::from(SocketAddrV6::new(all_nodes, 0, 0, index));
        sendto(raw.as_raw_fd(), &message, &to, MsgFlags::empty()).expect("send");
    });
}

#[test]
fn an_automatic_subnet_is_unique_local_and_of_this_host() {
    let net = Topology::new();
    let agent = net.agent();
    agent.netd("network create --ipv6 a").ok();
    agent.netd("network create --ipv6 b").ok();
    let list = agent.inspect("network inspect a b");
    let subnets: Vec<&str> =
        [0, 1].iter().map(|at| text(&list[at], "/IPAM/Config/1/Subnet")).collect();
    assert!(subnets[0].starts_with("fd") && subnets[0].ends_with("::/64"), "{subnets:?}");
    assert_ne!(subnets[0], subnets[1]);
    assert_eq!(list[0]["EnableIPv6"], true);
    let groups = |subnet: &str| subnet.split(':').take(3).collect::<Vec<_>>().join(":");
    assert_eq!(groups(subnets[0]), groups(subnets[1]), "one /48");

    let taken = subnets[0].to_owned();
    agent.netd("network rm a").ok();
    net.host.ip(&format!("-6 route add {taken} via 2001:db8:0:1::2"));
    agent.netd("network create --ipv6 a").ok();
    let list = agent.inspect("network inspect a");
    assert_ne!(text(&list[0], "/IPAM/Config/1/Subnet"), taken, "the host has a route there");
}

#[test]
fn the_default_network_is_dual_stack_on_demand() {
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "ipv6": true }));
    let c = agent.container("c", "");
    assert!(c.ip6.is_unique_local(), "{}", c.ip6);
    let list = agent.inspect("inspect c");
    let shown = &one(&list)["NetworkSettings"];
    assert_eq!(text(shown, "/GlobalIPv6Address"), c.ip6.to_string());
    assert_eq!(shown["GlobalIPv6PrefixLen"], 64);
    let gateway = text(shown, "/IPv6Gateway");
    assert!(c.ns.ip("-6 route show default").contains(gateway), "{gateway}");
    c.ns.exec(&format!("ping -6 -c1 -W2 {gateway}"));
}

#[test]
fn fixed_addresses_of_both_families_are_given_and_refused_as_dockers() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("n", "172.30.0.0/24", "--ipv6 --subnet fd00:30::/64 --gateway fd00:30::ff");
    agent.network("v4", "172.31.0.0/24", "");
    let c = agent.container("c", "--network n --ip 172.30.0.9 --ip6 fd00:30::9");
    assert_eq!((c.ip.to_string(), c.ip6.to_string()), ("172.30.0.9".into(), "fd00:30::9".into()));
    let route = c.ns.ip("-6 route show default");
    assert!(route.starts_with("default via fd00:30::ff"), "{route}");

    let run = |options: &str| agent.netd(&format!("run -d {options} -- sleep 9"));
    let taken = run("--network n --ip6 fd00:30::9");
    assert_eq!(taken.error(), "Address already in use");
    assert!(taken.stderr.contains("fd00:30::9 is used by container c"), "{taken}");
    let outside = run("--network n --ip6 fd00:31::9");
    assert_eq!(outside.error(), "no configured subnet contains IP address fd00:31::9");
    let without = run("--network v4 --ip6 fd00:30::7");
    assert_eq!(without.error(), "no configured subnet contains IP address fd00:30::7");
    assert!(without.stderr.contains("network v4 has no IPv6"), "{without}");
    let default = run("--ip6 fd00:30::7");
    assert_eq!(
        default.error(),
        "user-specified IP address is supported on user-defined networks only"
    );
    let subnet = agent.netd("network create --subnet fd00:32::/64 x");
    assert!(subnet.error().starts_with("invalid subnet fd00:32::/64"), "{subnet}");
    assert!(subnet.stderr.contains("--ipv6"), "{subnet}");
}

#[test]
fn a_second_network_brings_ipv6_to_a_container_and_takes_it_again() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("n", "172.30.0.0/24", "--ipv6 --subnet fd00:30::/64");
    let c = agent.container("c", "");
    assert!(c.ns.ip("-6 route show default").is_empty());
    agent.netd("network connect --ip6 fd00:30::42 n c").ok();
    let shown: Vec<_> = addresses(&c.ns, "eth1").iter().map(prefixed).collect();
    assert_eq!(shown[0], "fd00:30::42/64");
    let route = c.ns.ip("-6 route show default");
    assert!(route.starts_with("default via fd00:30::1 dev eth1"), "{route}");
    c.ns.exec("ping -6 -c1 -W2 fd00:30::1");
    agent.netd("network disconnect n c").ok();
    assert!(c.ns.ip("-6 route show default").is_empty());
}

#[test]
fn a_restart_finds_both_families_and_an_end_leaves_none() {
    let net = Topology::new();
    let mut agent = net.agent();
    let c = dual(&agent);
    agent.stop();
    agent.start_again();
    c.ns.exec("ping -6 -c1 -W2 fd00:30::1");
    let leases = agent.json("ipam");
    let addresses: Vec<&str> =
        leases.as_array().expect("rows").iter().map(|row| text(row, "/Address")).collect();
    assert!(addresses.contains(&"fd00:30::2"), "{addresses:?}");
    agent.netd("rm -f c").ok();
    agent.netd("network rm n").ok();
    agent.assert_clean();
}

fn ports(agent: &Agent, container: &str) -> Vec<String> {
    let list = agent.json("ps");
    let row = rows(&list).iter().find(|row| text(row, "/Name") == container).expect("a row");
    let ports = row["Ports"].as_array().expect("a list").iter();
    ports.map(|port| port.as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_published_port_is_on_both_families_and_each_leads_to_its_own() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("n", "172.30.0.0/24", "--ipv6 --subnet fd00:30::/64");
    let web = agent.container("web", "--network n -p 8080:80 -p 8080:53/udp");
    assert_eq!(
        ports(&agent, "web"),
        ["0.0.0.0:8080->53/udp", "0.0.0.0:8080->80/tcp", "[::]:8080->53/udp", "[::]:8080->80/tcp"]
    );
    for family in Family::ALL {
        let (tcp, udp) = (web.ns.echo_tcp(&family.any(80)), web.ns.echo_udp(&family.any(53)));
        let at = SocketAddr::new(family.host(), 8080);
        let mut stream = net.outside.connect(at);
        exchange(&mut stream, b"hello");
        assert!(net.outside.udp_echoes(at, DEADLINE), "{family}");
        assert_eq!(tcp.peers(), [stream.local_addr().expect("an address")]);
        assert_eq!(udp.peers()[0].ip(), family.outside());
        let any: IpAddr = family.pick([0; 4].into(), Ipv6Addr::UNSPECIFIED.into());
        assert!(net.host.can_bind_tcp((any, 8080).into()).is_err(), "{family}: netd holds it");
        assert!(net.host.can_bind_udp((any, 8080).into()).is_err(), "{family}: netd holds it");
    }
    let list = agent.inspect("inspect web");
    let bound = &one(&list)["NetworkSettings"]["Ports"]["80/tcp"];
    assert_eq!(bound[1], json!({ "HostIp": "::", "HostPort": "8080" }));

    agent.netd("port rm web 8080:80").ok();
    assert_eq!(ports(&agent, "web"), ["0.0.0.0:8080->53/udp", "[::]:8080->53/udp"]);
    assert!(net.host.can_bind_tcp((Ipv6Addr::UNSPECIFIED, 8080).into()).is_ok());
}

#[test]
fn a_port_of_one_host_address_is_there_alone() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("n", "172.30.0.0/24", "--ipv6 --subnet fd00:30::/64");
    let web = agent.container("web", &format!("--network n -p [{HOST6}]:8080:80 -p [::]:8081:80"));
    let tcp = web.ns.echo_tcp("[::]:80");
    for port in [8080, 8081] {
        let mut stream = net.outside.connect((HOST6, port).into());
        exchange(&mut stream, b"hello");
    }
    assert!(tcp.peers().iter().all(|peer| peer.ip() == IpAddr::from(OUTSIDE6)));
    assert!(net.host.can_bind_tcp(([0; 4], 8081).into()).is_ok(), "IPv4's is free");
    let taken = agent.netd("run -d --network n -p 8080:80 -- sleep 9");
    assert_eq!(taken.error(), "Bind for [::]:8080 failed: port is already allocated");
    let foreign = agent.netd("run -d --network n -p [2001:db8:9::9]:8082:80 -- sleep 9");
    assert!(foreign.error().contains("the host does not have this address"), "{foreign}");
}

#[test]
fn a_port_of_a_family_that_the_container_lacks_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    assert_eq!(ports(&agent, "web"), ["0.0.0.0:8080->80/tcp"]);
    assert_eq!(web.ip6, Ipv6Addr::UNSPECIFIED);
    for spec in ["[::1]:8081:80", "[::]:8081:80"] {
        let refused = agent.netd(&format!("port add web {spec}"));
        assert!(refused.error().starts_with("can't publish on ::"), "{refused}");
        assert!(refused.hint().contains("publish on an IPv4 address"), "{refused}");
        assert_eq!(refused.code, 1);
    }
    assert!(net.host.can_bind_tcp((Ipv6Addr::UNSPECIFIED, 8081).into()).is_ok());
}
