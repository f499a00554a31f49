//! Where the default bridge and the automatic pools get their addresses.

use netd_tests::{
    Topology,
    json::{one, rows, text},
};
use serde_json::{Value, json};

fn bridge_address(net: &Topology) -> String {
    let shown: Value =
        serde_json::from_str(&net.host.ip("-j -4 addr show dev netd0")).expect("ip prints JSON");
    let info = one(&one(&shown)["addr_info"]).clone();
    format!("{}/{}", text(&info, "/local"), info["prefixlen"])
}

#[test]
fn a_network_address_is_no_bip() {
    let net = Topology::new();
    let refused = net.agent_refused(&json!({ "bip": "10.5.0.0/24" }));
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("10.5.0.0/24"), "{refused}");
    assert!(refused.error().contains("network address"), "{refused}");
    assert!(!net.host.ip("-o link").contains("netd0"), "no bridge was made");
}

#[test]
fn a_bip_of_the_host_tells_its_node() {
    let net = Topology::at("10.2.5.6/24", "10.2.5.1/24");
    let agent = net.agent_with(&json!({ "bip": "host" }));
    assert_eq!(bridge_address(&net), "172.5.6.1/24");
    let web = agent.container("web", "");
    assert_eq!(web.ip.octets()[..3], [172, 5, 6]);
}

#[test]
fn a_bip_over_a_route_of_the_hosts_is_refused_and_the_route_named() {
    let net = Topology::new();
    net.host.ip("route add 10.7.0.0/16 via 192.0.2.2");
    let refused = net.agent_refused(&json!({ "bip": "10.7.1.1/24" }));
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("10.7.0.0/16"), "{refused}");
    assert!(!net.host.ip("-o link").contains("netd0"), "no bridge was made");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let net = Topology::new();
    let refused = net.agent_refused(&json!({ "bipp": "10.5.0.1/24" }));
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("bipp"), "{refused}");
    assert!(refused.stderr.contains("`bip`"), "{refused}");
}

#[test]
fn fixed_cidr_narrows_where_addresses_come_from() {
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "bip": "10.88.0.1/16", "fixed-cidr": "10.88.7.0/24" }));
    let web = agent.container("web", "");
    assert_eq!(web.ip.octets()[..3], [10, 88, 7]);
}

#[test]
fn automatic_subnets_step_around_the_hosts_routes() {
    let net = Topology::new();
    net.host.ip("route add 10.99.0.0/24 via 192.0.2.2");
    let agent = net.agent_with(&json!({
        "bip": "10.88.0.1/24",
        "default-address-pools": [{ "base": "10.99.0.0/16", "size": 24 }],
    }));
    agent.netd("network create mine").ok();
    let shown = agent.inspect("network inspect mine");
    assert_eq!(text(one(&shown), "/IPAM/Config/0/Subnet"), "10.99.1.0/24");
}

#[test]
fn leases_are_listed_for_as_long_as_they_are_held() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let first = agent.container("first", "--network mine").ip;
    agent.netd("rm -f first").ok();
    let second = agent.container("second", "--network mine").ip;
    let third = agent.container("third", "--network mine").ip;
    assert_ne!(second, third);
    let leases = agent.json("ipam");
    let listed = |ip: std::net::Ipv4Addr| {
        rows(&leases).iter().any(|row| text(row, "/Address") == ip.to_string())
    };
    assert!(listed(second) && listed(third));
    assert!(first == second || !listed(first), "a lease that ended is not listed");
}
