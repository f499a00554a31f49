//! `/metrics` as Prometheus and its tools read it.

use std::{collections::BTreeSet, path::Path};

use netd_tests::{
    Agent, Program, SILENCE, Topology, eventually,
    json::{rows, text},
    topology::{HOST, at},
};
use serde_json::{Value, json};

const ADDRESS: &str = "127.0.0.1:9469";

/// An agent that has had something to do.
fn busy() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "metrics-address": ADDRESS }));
    agent.network("blue", "172.18.0.0/24", "--ip-range 172.18.0.0/26 --ipv6 --subnet fd00:18::/64");
    let web = agent.container("web", "--network blue -p 8080:80 -p 5353:53/udp");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    netd_tests::exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    net.outside.ip(&format!("route add 172.18.0.0/24 via {HOST}"));
    assert!(net.outside.connect_tcp(web.at(80), SILENCE).is_err());
    (net, agent)
}

fn scrape(agent: &Agent) -> String {
    let url = format!("http://{ADDRESS}/metrics");
    agent.host().command("curl").args(["-sS", "--fail-with-body", &url]).output().ok()
}

/// The value of a series, spelt as it is written.
#[track_caller]
fn value(metrics: &str, series: &str) -> f64 {
    let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    found.parse().expect("a number")
}

fn contrib(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(file)
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics_and_the_rules() {
    let (_net, agent) = busy();
    let file = agent.dir().path().join("metrics");
    std::fs::write(&file, scrape(&agent) + "\n").expect("write the metrics");
    let line = format!("promtool check metrics < {}", file.display());
    let output = Program::new("sh").args(["-c", &line]).output();
    assert_eq!((output.code, &*output.stderr), (0, ""), "{output}");
    let rules = contrib("prometheus/netd.rules.yml");
    let output = Program::new("promtool").args(["check", "rules"]).arg(rules).output();
    assert!(output.ok().contains("SUCCESS"));
}

#[test]
fn the_metrics_say_what_happened() {
    let (_net, agent) = busy();
    let metrics = scrape(&agent);
    for (series, expected) in [
        (r#"netd_containers{state="running"}"#, 1.0),
        (r#"netd_containers{state="exited"}"#, 0.0),
        ("netd_networks", 2.0),
        // In both families.
        (r#"netd_published_ports{protocol="tcp"}"#, 2.0),
        (r#"netd_published_ports{protocol="udp"}"#, 2.0),
        (r#"netd_subnet_addresses{network="blue",subnet="172.18.0.0/24"}"#, 62.0),
        (r#"netd_subnet_addresses_used{network="blue",subnet="172.18.0.0/24"}"#, 1.0),
        (r#"netd_subnet_addresses_used{network="blue",subnet="fd00:18::/64"}"#, 1.0),
        (r#"netd_uplink_info{link="up0",xdp="off"}"#, 1.0),
        ("netd_monitor_listeners", 0.0),
        ("netd_flow_entries_limit", 524_288.0),
    ] {
        let value = value(&metrics, series);
        assert!((value - expected).abs() < 0.5, "{series} is {value}");
    }
    let dropped = r#"netd_dropped_packets_total{program="from_uplink",reason="direct_access"}"#;
    assert!(value(&metrics, dropped) >= 1.0);
    let delivered = r#"netd_packets_total{program="from_uplink",verdict="deliver"}"#;
    assert!(value(&metrics, delivered) >= 1.0);
    let created = r#"netd_api_requests_total{method="POST",route="/v1/networks",code="201"}"#;
    assert!((value(&metrics, created) - 1.0).abs() < 0.5);
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6);
    let flows = || (value(&scrape(&agent), "netd_flow_entries") >= 2.0).then_some(());
    eventually(netd_tests::DEADLINE, "a sweep has seen the flow", flows);
}

#[test]
fn the_dashboard_asks_for_what_is_there() {
    let (_net, agent) = busy();
    let metrics = scrape(&agent);
    let known: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let file = std::fs::read_to_string(contrib("grafana/netd.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&file).expect("JSON");
    let panels = rows(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| rows(&panel["targets"]));
    let mut asked: Vec<&str> = targets.map(|target| text(target, "/expr")).collect();
    asked.push(text(&dashboard, "/annotations/list/0/expr"));
    asked.push(text(&dashboard, "/templating/list/1/definition"));
    let mut names = BTreeSet::new();
    for expr in &asked {
        let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|it| it.starts_with("netd_") || it.starts_with("process_")));
    }
    assert!(asked.len() > 15 && names.len() > 12, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
}

#[test]
fn nothing_but_metrics_is_served_and_a_taken_address_is_named() {
    let (net, agent) = busy();
    let get = |path: &str| {
        let url = format!("http://{ADDRESS}{path}");
        let format = ["-sS", "-o", "/dev/null", "-w", "%{http_code}"];
        agent.host().command("curl").args(format).arg(url).output().ok()
    };
    assert_eq!((get("/metrics").trim(), get("/v1/info").trim()), ("200", "404"));
    let other = Program::new(netd_tests::netd_path()).inside(&net.host).args([
        "--root",
        &agent.dir().path().join("other").display().to_string(),
        "agent",
        "--metrics-address",
        ADDRESS,
    ]);
    let output = other.output();
    assert_eq!(output.code, 1, "{output}");
    let expected = format!("failed to listen on {ADDRESS} for metrics: Address already in use");
    assert!(output.stderr.contains(&expected), "{output}");
}
