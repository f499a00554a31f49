//! What a container finds in its namespace, in each mode of `netd run`.

use netd_tests::{
    Agent, NetNs, SILENCE, Topology, exchange,
    json::{one, rows, text},
    topology::{HOST, OUTSIDE, at, links},
};
use serde_json::{Value, json};

fn inode(ns: &NetNs) -> std::path::PathBuf {
    ns.run(|| std::fs::read_link("/proc/thread-self/ns/net")).expect("read the namespace's id")
}

fn ip_json(ns: &NetNs, line: &str) -> Value {
    serde_json::from_str(&ns.ip(line)).expect("ip prints JSON")
}

/// `ADDRESS/PREFIX` of every IPv4 address of a link.
fn addresses(ns: &NetNs, link: &str) -> Vec<String> {
    let shown = ip_json(ns, &format!("-j -4 addr show dev {link}"));
    let infos = rows(&shown).iter().flat_map(|link| rows(&link["addr_info"]));
    infos.map(|info| format!("{}/{}", text(info, "/local"), info["prefixlen"])).collect()
}

fn bip(net: &Topology) -> Agent {
    net.agent_with(&json!({ "bip": "10.88.0.1/24" }))
}

#[test]
fn none_has_only_lo_and_no_path_anywhere() {
    let net = Topology::new();
    let agent = net.agent();
    let alone = agent.container("alone", "--network none");

    assert!(links(&alone.ns).is_empty());
    assert!(alone.ns.ip("-j link show dev lo").contains("\"UP\""), "lo is up");
    assert_eq!(alone.ns.ip("route"), "");
    for address in [HOST, OUTSIDE] {
        assert!(alone.ns.connect_tcp(at(address, 80), SILENCE).is_err());
    }
    let shown = agent.exec("alone", "ip -o link").ok();
    assert_eq!(shown.lines().count(), 1, "exec sees lo alone: {shown}");
}

#[test]
fn host_has_the_hosts_interfaces() {
    let net = Topology::new();
    let agent = net.agent();
    let open = agent.container("open", "--network host");

    assert_eq!(inode(&open.ns), inode(&net.host));
    assert!(agent.exec("open", "ip -o link").ok().contains(" up0"));
}

#[test]
fn a_container_of_another_shares_its_address() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "");
    let side = agent.container("side", "--network container:web");

    assert_eq!(inode(&side.ns), inode(&web.ns));
    let seen = |name| agent.exec(name, "ip -o -4 addr show dev eth0").ok();
    assert_eq!(seen("side"), seen("web"));

    let server = web.ns.echo_tcp("127.0.0.1:80");
    exchange(&mut side.ns.connect(server.addr), b"over their loopback");
}

#[test]
fn the_default_bridge_gives_an_address_of_its_bip_and_the_gateway_as_default_route() {
    let net = Topology::new();
    let agent = bip(&net);
    let web = agent.container("web", "");

    assert_eq!(addresses(&net.host, "netd0"), ["10.88.0.1/24"]);
    assert_eq!(web.ip.octets()[..3], [10, 88, 0]);
    assert_eq!(addresses(&web.ns, "eth0"), [format!("{}/24", web.ip)]);
    let route = ip_json(&web.ns, "-j route show default");
    assert_eq!(text(one(&route), "/gateway"), "10.88.0.1");
    assert_eq!(text(one(&route), "/dev"), "eth0");
    net.host.exec(&format!("busybox ping -c 1 -W 2 {}", web.ip));
    web.ns.exec("busybox ping -c 1 -W 2 10.88.0.1");
}

#[test]
fn the_host_side_of_the_veth_is_in_the_bridge() {
    let net = Topology::new();
    let agent = bip(&net);
    let web = agent.container("web", "");

    let ports: Value = serde_json::from_str(&net.host.exec("bridge -j link")).expect("JSON");
    let port = one(&ports);
    assert_eq!(text(port, "/master"), "netd0");
    let name = text(port, "/ifname");
    assert!(name.starts_with("nd"), "{name}");

    let link = ip_json(&net.host, &format!("-d -j link show dev {name}"));
    assert_eq!(text(one(&link), "/linkinfo/info_kind"), "veth");
    assert!(text(one(&link), "/ifalias").starts_with("netd "));
    let inside = ip_json(&web.ns, "-d -j link show dev eth0");
    assert_eq!(text(one(&inside), "/address"), web.mac);
    let [a, b, c, d] = web.ip.octets();
    assert_eq!(web.mac, format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
}

#[test]
fn a_network_of_ones_own_has_the_bridge_and_address_that_were_asked_for() {
    let net = Topology::new();
    let agent = net.agent();
    let id =
        agent.network("mynetwork", "172.18.0.0/16", "-o com.docker.network.bridge.name=docker1");
    let web = agent.container("web", "--network mynetwork --ip 172.18.0.10");
    let client = agent.container("client", "--network mynetwork");

    assert_eq!(web.ip.to_string(), "172.18.0.10");
    assert_eq!(addresses(&net.host, "docker1"), ["172.18.0.1/16"]);
    client.ns.exec("busybox ping -c 3 -i 0.1 -W 2 172.18.0.10");

    let shown = agent.inspect("network inspect mynetwork");
    let shown = one(&shown);
    assert_eq!(text(shown, "/Id"), id);
    assert_eq!(text(shown, "/IPAM/Config/0/Subnet"), "172.18.0.0/16");
    assert_eq!(text(shown, "/IPAM/Config/0/Gateway"), "172.18.0.1");
    let member = format!("/Containers/{}/IPv4Address", web.id);
    assert_eq!(text(shown, &member), "172.18.0.10/16");
}

#[test]
fn inspect_has_dockers_shape() {
    let net = Topology::new();
    let agent = bip(&net);
    let web = agent.container("web", "-p 8080:80");

    let shown = agent.inspect("inspect web");
    let shown = one(&shown);
    assert_eq!(shown.pointer("/State/Pid"), Some(&json!(web.pid)));
    let endpoint = shown.pointer("/NetworkSettings/Networks/bridge").expect("its network");
    assert_eq!(text(endpoint, "/IPAddress"), web.ip.to_string());
    assert_eq!(text(endpoint, "/Gateway"), "10.88.0.1");
    assert_eq!(text(endpoint, "/MacAddress"), web.mac);
    let ports = shown.pointer("/NetworkSettings/Ports").expect("its ports");
    assert_eq!(ports["80/tcp"], json!([{ "HostIp": "0.0.0.0", "HostPort": "8080" }]));
}

#[test]
fn a_second_network_adds_an_interface_and_takes_it_away() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("side", "10.77.0.0/24", "");
    let web = agent.container("web", "");
    let before = agent.snapshot();

    agent.netd("network connect --ip 10.77.0.9 side web").ok();
    assert_eq!(links(&web.ns), ["eth0", "eth1"]);
    assert_eq!(addresses(&web.ns, "eth1"), ["10.77.0.9/24"]);
    let other = agent.container("other", "--network side");
    other.ns.exec("busybox ping -c 1 -W 2 10.77.0.9");

    agent.netd("rm -f other").ok();
    agent.netd("network disconnect side web").ok();
    assert_eq!(links(&web.ns), ["eth0"]);
    agent.snapshot().assert_same(&before);
}
