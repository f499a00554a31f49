//! What belongs to others is never touched, however much it looks like ours.

use std::{fs, path::Path};

use netd_tests::{
    DEADLINE, NetNs, Topology, eventually, exchange, flood,
    topology::{HOST, OUTSIDE, at},
};

const RULES: &str = "
table inet others {
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
    chain input {
        type filter hook input priority 0; policy accept;
        tcp dport 22 counter accept
    }
}
table ip nat {
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 10.200.0.0/16 masquerade
    }
}";

/// Links of others: two with our kinds of names, one in the other's bridge.
const FOREIGN: [&str; 4] = ["br-0123456789ab", "nd0123456789", "nc0123456789", "docker0"];

fn plant(net: &Topology) {
    let host = &net.host;
    for bridge in ["br-0123456789ab", "docker0"] {
        host.ip(&format!("link add {bridge} type bridge"));
    }
    host.ip("addr add 10.200.0.1/16 dev docker0");
    host.ip("link add nd0123456789 type veth peer name nc0123456789");
    host.ip("link set nd0123456789 master br-0123456789ab");
    for link in FOREIGN {
        host.ip(&format!("link set {link} up"));
    }
    // Carrier and what follows from it come in their own time.
    eventually(DEADLINE, "the bridge with a port has carrier", || {
        let shown = host.ip("link show dev br-0123456789ab");
        shown.contains("state UP").then_some(())
    });
    host.ip("route add 10.201.0.0/16 via 192.0.2.2 metric 50");
    host.ip("rule add from 10.200.0.0/16 lookup 100 priority 1000");
    host.ip("route add default via 192.0.2.2 table 100");
    for link in ["up0", "nd0123456789"] {
        host.exec(&format!("tc qdisc add dev {link} clsact"));
        for hook in ["ingress", "egress"] {
            host.exec(&format!(
                "tc filter add dev {link} {hook} protocol ip prio 7 u32 match ip dst 10.9.9.9/32 flowid 1:1"
            ));
        }
    }
    host.set_sysctl("net/ipv4/conf/up0/rp_filter", "2");
    host.set_sysctl("net/ipv4/conf/docker0/forwarding", "1");
    host.set_sysctl("net/ipv4/ip_local_port_range", "20000 40000");
    let rules = net.dir().path().join("rules.nft");
    fs::write(&rules, RULES).expect("write the rules");
    host.exec(&format!("nft -f {}", rules.display()));
}

/// Everything of others, as text. Counters of packets are left out.
fn others(host: &NetNs) -> String {
    let mut text = host.exec("nft -s list ruleset");
    for link in FOREIGN.iter().chain(&["up0"]) {
        let shown = host.ip(&format!("-d link show dev {link}"));
        text += &without_timers(&shown);
        text += &host.ip(&format!("addr show dev {link}"));
        text += &host.exec(&format!("tc qdisc show dev {link}"));
        for hook in ["ingress", "egress"] {
            text += &host.exec(&format!("tc filter show dev {link} {hook}"));
        }
        text += &host.ip(&format!("route show table all dev {link}"));
        text.push('\n');
    }
    text += &host.ip("rule");
    text += &host.ip("route show table 100");
    text + &host.run(|| sysctls(Path::new("/proc/sys/net")))
}

fn without_timers(shown: &str) -> String {
    let mut words = shown.split_whitespace().peekable();
    let mut kept = String::new();
    while let Some(word) = words.next() {
        if word.ends_with("_timer") {
            words.next();
        } else {
            kept += word;
            kept.push(' ');
        }
    }
    kept
}

/// Every setting of the namespace but those of links of netd's own.
fn sysctls(folder: &Path) -> String {
    let mut entries: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let in_links = ["conf", "neigh"].iter().any(|kind| folder.ends_with(kind));
        let known = ["all", "default", "lo", "up0"].contains(&name.as_str())
            || FOREIGN.contains(&name.as_str());
        in_links && !known
    };
    let shown = |path: &std::path::PathBuf| {
        if path.is_dir() {
            return sysctls(path);
        }
        // Some can only be written; some only count.
        let value = fs::read_to_string(path).unwrap_or_default();
        let counts = path.ends_with("nf_conntrack_count");
        let value = if counts { "" } else { value.trim() };
        format!("{} = {value}\n", path.display())
    };
    entries.iter().filter(|path| !ours(path)).map(shown).collect()
}

/// Panics with the first line that differs.
#[track_caller]
fn assert_same(after: &str, before: &str) {
    let differs = before.lines().zip(after.lines()).find(|(old, new)| old != new);
    assert_eq!(differs, None, "(before, after)");
    assert_eq!(before.len(), after.len());
}

#[test]
fn without_netd_all_of_others_stays_the_same_too() {
    let net = Topology::new();
    plant(&net);
    let before = others(&net.host);
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    flood::tcp(&net.host, at(OUTSIDE, 7), 100);
    net.outside.exec(&format!("busybox ping -c 5 -i 0.2 {HOST}"));
    assert_same(&others(&net.host), &before);
}

#[test]
fn all_of_others_is_byte_for_byte_the_same_after_a_life_of_netd() {
    let net = Topology::new();
    plant(&net);
    let before = others(&net.host);

    let mut agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "");
    let web = agent.container("web", "--network mine -p 8080:80");
    let client = agent.container("client", "");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    let outside = net.outside.echo_tcp("0.0.0.0:7");
    // FORWARD DROP is in force, and does not matter.
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"in");
    exchange(&mut client.ns.connect(at(OUTSIDE, 7)), b"out");
    exchange(&mut client.ns.connect(at(HOST, 8080)), b"across");
    assert_eq!((server.peers().len(), outside.peers().len()), (2, 1));
    assert_same(&others(&net.host), &before);

    agent.netd("rm -f web client").ok();
    agent.netd("network rm mine").ok();
    agent.kill();
    agent.start_again();
    agent.stop();
    assert_same(&others(&net.host), &before);
}

#[test]
fn a_foreign_bridge_of_the_wanted_name_is_refused_and_stays() {
    let net = Topology::new();
    net.host.ip("link add docker1 type bridge");
    let agent = net.agent();
    let before = agent.snapshot();
    let line =
        "network create --subnet 172.18.0.0/16 -o com.docker.network.bridge.name=docker1 mine";
    let refused = agent.netd(line);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("docker1"), "{refused}");
    agent.snapshot().assert_same(&before);
}

#[test]
fn flushing_the_rule_set_breaks_nothing() {
    let net = Topology::new();
    plant(&net);
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, b"before");
    net.host.exec("nft flush ruleset");
    exchange(&mut stream, b"after");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one");
}
