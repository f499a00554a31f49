//! Each refusal says why in Docker's words and changes nothing.

use netd_tests::{Agent, Output, Topology, json::one, json::text};
use serde_json::json;

/// Fails with this code and error, and all is as it was before.
#[track_caller]
fn refuses(agent: &Agent, line: &str, code: i32, error: &str) -> Output {
    let before = agent.snapshot();
    let output = agent.netd(line).fails(code, error);
    agent.snapshot().assert_same(&before);
    output
}

/// Fails in words of netd's own that name `what`, and all is as it was before.
#[track_caller]
fn refuses_naming(agent: &Agent, line: &str, what: &str) {
    let before = agent.snapshot();
    let output = agent.netd(line);
    assert!(matches!(output.code, 1 | 2), "{output}");
    assert!(output.error().contains(what), "`{what}` is named: {output}");
    agent.snapshot().assert_same(&before);
}

#[test]
fn an_address_of_ones_choice_on_the_default_network_is_refused() {
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "bip": "10.88.0.1/24" }));
    refuses(
        &agent,
        "run -d --ip 10.88.0.9 -- sleep 60",
        1,
        "user-specified IP address is supported on user-defined networks only",
    );
}

#[test]
fn an_address_outside_the_subnet_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "");
    refuses(
        &agent,
        "run -d --network mine --ip 172.19.0.9 -- sleep 60",
        1,
        "no configured subnet contains IP address 172.19.0.9",
    );
}

#[test]
fn an_address_in_use_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "--aux-address router=172.18.0.254");
    agent.container("web", "--network mine --ip 172.18.0.10");
    for taken in ["172.18.0.10", "172.18.0.1", "172.18.0.254"] {
        let line = format!("run -d --network mine --ip {taken} -- sleep 60");
        refuses(&agent, &line, 1, "Address already in use");
    }
}

#[test]
fn a_full_network_is_named_with_its_id() {
    let net = Topology::new();
    let agent = net.agent();
    let id = agent.network("tiny", "172.18.0.0/30", "");
    agent.container("first", "--network tiny");
    let error = format!("no available IPv4 addresses on this network's address pools: tiny ({id})");
    refuses(&agent, "run -d --network tiny -- sleep 60", 1, &error);
}

#[test]
fn a_network_in_use_is_not_removed() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "");
    agent.container("web", "--network mine");
    let shown = agent.inspect("inspect web");
    let endpoint = text(one(&shown), "/NetworkSettings/Networks/mine/EndpointID");
    let short = &endpoint[..12];
    let error = format!(
        "error while removing network: network mine has active endpoints (name:\"web\" id:\"{short}\")"
    );
    refuses(&agent, "network rm mine", 1, &error);
}

#[test]
fn the_default_network_is_not_removed() {
    let net = Topology::new();
    let agent = net.agent();
    let error = "bridge is a pre-defined network and cannot be removed";
    refuses(&agent, "network rm bridge", 1, error);
}

#[test]
fn a_second_network_of_the_same_name_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "");
    let line = "network create --subnet 172.19.0.0/16 mine";
    refuses(&agent, line, 1, "network with name mine already exists");
}

#[test]
fn an_overlapping_subnet_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "");
    let error = "invalid pool request: Pool overlaps with other one on this address space";
    for subnet in ["172.18.0.0/16", "172.18.5.0/24", "172.16.0.0/12"] {
        refuses(&agent, &format!("network create --subnet {subnet} other"), 1, error);
    }
}

#[test]
fn a_subnet_over_a_route_of_the_hosts_is_refused_and_the_route_named() {
    let net = Topology::new();
    net.host.ip("route add 10.7.0.0/16 via 192.0.2.2");
    let agent = net.agent();
    refuses_naming(&agent, "network create --subnet 10.7.9.0/24 mine", "10.7.0.0/16");
}

#[test]
fn used_up_pools_are_told() {
    let net = Topology::new();
    let agent = net.agent_with(&json!({
        "bip": "10.88.0.1/24",
        "default-address-pools": [{ "base": "10.99.0.0/24", "size": 24 }],
    }));
    agent.netd("network create first").ok();
    let error = "all predefined address pools have been fully subnetted";
    refuses(&agent, "network create second", 1, error);
}

#[test]
fn a_subnet_with_host_bits_is_refused_and_corrected() {
    let net = Topology::new();
    let agent = net.agent();
    let error = "invalid subnet 10.5.0.3/24: it should be 10.5.0.0/24";
    refuses(&agent, "network create --subnet 10.5.0.3/24 mine", 1, error);
}

#[test]
fn a_gateway_outside_the_subnet_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    let line = "network create --subnet 10.5.0.0/24 --gateway 10.6.0.1 mine";
    let error = "invalid gateway 10.6.0.1: parent subnet 10.5.0.0/24 doesn't contain this address";
    refuses(&agent, line, 1, error);
}

#[test]
fn a_port_that_netd_has_given_is_refused_with_its_owner() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 8080:80");
    let refused = refuses(
        &agent,
        "run -d --name late -p 8080:80 -- sleep 60",
        1,
        "Bind for 0.0.0.0:8080 failed: port is already allocated",
    );
    assert!(refused.hint().contains("web"), "{refused}");
    refuses(
        &agent,
        "run -d --name late -p 192.0.2.1:8080:80 -- sleep 60",
        1,
        "Bind for 192.0.2.1:8080 failed: port is already allocated",
    );
}

#[test]
fn a_port_of_another_process_is_refused_with_its_owner() {
    let net = Topology::new();
    let agent = net.agent();
    let log = net.dir().path().join("httpd.log");
    let other = net.host.command("busybox").args(["httpd", "-f", "-p", "8080"]).start(&log);
    net.host.wait_for_listener(8080);

    let refused = refuses(
        &agent,
        "run -d -p 8080:80 -- sleep 60",
        1,
        "failed to bind host port 0.0.0.0:8080/tcp: address already in use",
    );
    assert!(refused.hint().contains("busybox"), "{refused}");
    assert!(refused.hint().contains(&other.id().to_string()), "{refused}");
}

#[test]
fn one_taken_port_of_a_range_refuses_the_whole_range() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 9002:80");
    refuses(
        &agent,
        "run -d -p 9000-9004:90-94 -- sleep 60",
        1,
        "Bind for 0.0.0.0:9002 failed: port is already allocated",
    );
    for port in [9000, 9001, 9003, 9004] {
        let free = net.host.can_bind_tcp(([0, 0, 0, 0], port).into());
        assert!(free.is_ok(), "{port} is free again");
    }
}

#[test]
fn a_bad_port_spec_is_refused_by_name() {
    let net = Topology::new();
    let agent = net.agent();
    for spec in ["8080:99999", "eighty", "8080:80/icmp", "9000-9001:80-85", "1.2.3:80:80"] {
        refuses_naming(&agent, &format!("run -d -p {spec} -- sleep 60"), spec);
    }
}

#[test]
fn an_unknown_option_is_refused_by_name() {
    let net = Topology::new();
    let agent = net.agent();
    let option = "com.docker.network.bridge.nosuch";
    refuses_naming(&agent, &format!("network create -o {option}=1 mine"), option);
    refuses_naming(&agent, "run -d --nosuch -- sleep 60", "--nosuch");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let net = Topology::new();
    let agent = net.agent();
    for line in [
        "run -d --network nosuch -- sleep 60",
        "run -d --network container:nosuch -- sleep 60",
        "network rm nosuch",
        "network inspect nosuch",
        "network connect bridge nosuch",
        "inspect nosuch",
        "stop nosuch",
        "rm nosuch",
        "exec nosuch -- true",
        "logs nosuch",
        "port add nosuch 8080:80",
    ] {
        refuses_naming(&agent, line, "nosuch");
    }
}

#[test]
fn a_name_in_use_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "");
    refuses_naming(&agent, "run -d --name web -- sleep 60", "web");
}
