//! XDP on uplinks: what it refuses, what it lets by, and where it stays away.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use aya::programs::XdpMode;
use etherparse::PacketBuilder;
use netd_common::abi::names;
use netd_tests::{
    Agent, DEADLINE, Family, Kernel, NetNs, RawSocket, SILENCE, Topology, eventually, exchange,
    json::{number, rows, text},
    syn::Syns,
    topology::{HOST, at},
};
use serde_json::{Value, json};

/// Packets that the XDP program has dropped under this reason.
fn refused_early(agent: &Agent, reason: &str) -> u64 {
    let stats = agent.json("stats");
    let own =
        |row: &&Value| text(row, "/Program") == "uplink_xdp" && text(row, "/Outcome") == reason;
    rows(&stats).iter().filter(own).map(|row| number(row, "/Packets")).sum()
}

#[track_caller]
fn expect_refused_early(agent: &Agent, reason: &str) {
    eventually(DEADLINE, &format!("XDP counts `{reason}`"), || {
        (refused_early(agent, reason) > 0).then_some(())
    });
}

/// How XDP is attached to a link, as `ip` sees it: 1 native, 2 generic.
fn attached(ns: &NetNs, link: &str) -> Option<u64> {
    let shown: Value = serde_json::from_str(&ns.ip(&format!("-j link show {link}"))).expect("JSON");
    shown.pointer("/0/xdp/mode").and_then(Value::as_u64)
}

/// The id of the program that is attached.
fn program_id(ns: &NetNs, link: &str) -> Option<u64> {
    let shown: Value = serde_json::from_str(&ns.ip(&format!("-j link show {link}"))).expect("JSON");
    shown.pointer("/0/xdp/prog/id").and_then(Value::as_u64)
}

/// The features that are on.
fn features(ns: &NetNs, link: &str) -> BTreeSet<String> {
    let shown = ns.exec(&format!("ethtool -k {link}"));
    shown.lines().filter(|line| line.contains(": on")).map(|line| line.trim().to_owned()).collect()
}

/// The pins of XDP links.
fn pins(agent: &Agent) -> Vec<PathBuf> {
    let links = fs::read_dir(agent.pins().join("links"));
    let names = links.into_iter().flatten().flatten().map(|entry| entry.path());
    names.filter(|path| path.to_string_lossy().contains("uplink_xdp")).collect()
}

fn doctor(agent: &Agent) -> String {
    let checks = agent.json("doctor");
    let own = rows(&checks).iter().find(|row| text(row, "/Name") == "XDP");
    text(own.expect("doctor has a row for XDP"), "/Found").to_owned()
}

fn with_xdp(net: &Topology, mode: &str) -> Agent {
    let agent = net.agent_with(&json!({ "xdp": mode }));
    agent.network("mine", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64");
    agent
}

#[test]
fn auto_leaves_veth_its_offloads() {
    let net = Topology::new();
    let before = [features(&net.host, "up0"), features(&net.outside, "eth0")];
    let agent = with_xdp(&net, "auto");
    assert_eq!(attached(&net.host, "up0"), None);
    assert_eq!([features(&net.host, "up0"), features(&net.outside, "eth0")], before);
    let gso = "tcp-segmentation-offload: on";
    assert!(before.iter().all(|features| features.contains(gso)), "{before:?}");
    assert_eq!(doctor(&agent), "off on up0: veth links would lose segmentation offload");
    eprintln!("auto: {} Gbit/s", throughput(&net, &agent));
}

#[test]
fn native_on_veth_takes_them_which_is_why() {
    let net = Topology::new();
    let agent = with_xdp(&net, "native");
    assert_eq!(attached(&net.host, "up0"), Some(1));
    assert_eq!(doctor(&agent), "native on up0");
    eprintln!("native: {} Gbit/s", throughput(&net, &agent));
}

/// A second of bulk TCP into a published port.
fn throughput(net: &Topology, agent: &Agent) -> f64 {
    let server = "run -d --name iperf --network mine -p 5201:5201 -- iperf3 -s";
    agent.netd(server).ok();
    let bits = eventually(DEADLINE, "iperf3 answers", || {
        let line = ["-J", "-t", "1", "-c", &HOST.to_string()].map(str::to_owned);
        let output = net.outside.command("iperf3").args(line).output();
        // It may say that it failed, and exit with 0.
        let report: Value = serde_json::from_str(&output.stdout).ok()?;
        report.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64)
    });
    (bits / 1e8).round() / 10.0
}

fn lists_are_enforced(mode: &str, family: Family) {
    let net = Topology::new();
    let agent = with_xdp(&net, mode);
    let web = agent.container("web", "--network mine");
    let (other, outside) = (family.pick("203.0.113.0/24", "2001:db8:f::/48"), family.outside());
    agent.netd(&format!("port add web 8080:80,from={other} 8081:80,from={outside}")).ok();
    agent.netd(&format!("port add web 8080:80/udp,from={other} 8081:80/udp,from={outside}")).ok();
    let (tcp, udp) = (web.ns.echo_tcp(&family.any(80)), web.ns.echo_udp(&family.any(80)));

    assert!(net.outside.connect_tcp(at(family.host(), 8080), SILENCE).is_err());
    assert!(!net.outside.udp_echoes(at(family.host(), 8080), SILENCE));
    assert_eq!((tcp.peers(), udp.peers()), (vec![], vec![]));
    expect_refused_early(&agent, "source_not_allowed");
    exchange(&mut net.outside.connect(at(family.host(), 8081)), b"hello");
    assert!(net.outside.udp_echoes(at(family.host(), 8081), DEADLINE));

    let log = agent.dir().path().join("monitor");
    let _monitor = agent.command(["monitor", "--json"]).start(&log);
    let event = eventually(DEADLINE, "the monitor shows a refused client", || {
        let _ = net.outside.connect_tcp(at(family.host(), 8080), SILENCE);
        let text = fs::read_to_string(&log).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()
    });
    assert_eq!(text(&event, "/Reason"), "source_not_allowed");
    assert_eq!(text(&event, "/Program"), "uplink_xdp");
    assert_eq!(text(&event, "/Interface"), "up0");
    assert_eq!(text(&event, "/Src"), outside.to_string());
    assert_eq!((text(&event, "/Container"), text(&event, "/Network")), ("web", "mine"));
}

#[test]
fn allow_lists_are_enforced_in_generic_code() {
    for family in Family::ALL {
        lists_are_enforced("generic", family);
    }
}

#[test]
fn allow_lists_are_enforced_in_the_driver() {
    for family in Family::ALL {
        lists_are_enforced("native", family);
    }
}

fn impossible_sources_are_refused(mode: &str, family: Family) {
    let net = Topology::new();
    let agent = with_xdp(&net, mode);
    let web = agent.container("web", "--network mine -p 8080:80");
    let (from, host) = (RawSocket::open(&net.outside, "eth0"), RawSocket::open(&net.host, "up0"));
    let syn = |source: IpAddr, to: u16| {
        let ethernet = PacketBuilder::ethernet2(from.mac, host.mac);
        let ip = match (source, family.host()) {
            (IpAddr::V4(source), IpAddr::V4(host)) => {
                ethernet.ipv4(source.octets(), host.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(host)) => {
                ethernet.ipv6(source.octets(), host.octets(), 64)
            }
            _ => unreachable!("one family"),
        };
        let mut frame = Vec::new();
        ip.tcp(4000, to, 1, 1000).syn().write(&mut frame, b"").expect("it fits");
        frame
    };
    let neighbour = family.pick("172.18.0.77", "fd00:18::77").parse().expect("an address");
    let group = family.pick("224.0.0.1", "ff02::1").parse().expect("an address");
    for source in [neighbour, family.host(), family.loopback(), group] {
        let before = refused_early(&agent, "martian_source");
        from.send(&syn(source, 8080));
        from.send(&syn(source, 22));
        eventually(DEADLINE, &format!("{source} is refused"), || {
            (refused_early(&agent, "martian_source") == before + 2).then_some(())
        });
    }
    net.outside.exec(&format!("ping -c 1 -W 2 {}", family.host()));
    let _server = web.ns.echo_tcp(&family.any(80));
    exchange(&mut net.outside.connect(at(family.host(), 8080)), b"hello");
}

#[test]
fn impossible_sources_are_refused_in_generic_code() {
    for family in Family::ALL {
        impossible_sources_are_refused("generic", family);
    }
}

#[test]
fn impossible_sources_are_refused_in_the_driver() {
    for family in Family::ALL {
        impossible_sources_are_refused("native", family);
    }
}

fn a_flood_of_syns_is_cut(mode: &str, family: Family) {
    const SYNS: usize = 50_000;
    const RATE: u64 = 100;
    let net = Topology::new();
    let agent = net.agent_with(&json!({ "xdp": mode }));
    agent.network(
        "mine",
        "172.18.0.0/24",
        &format!("--ipv6 --subnet fd00:18::/64 -o netd.syn_rate={RATE}"),
    );
    let web = agent.container("web", "--network mine -p 8080:80");
    let _server = web.ns.echo_tcp(&family.any(80));
    let mut talk = net.outside.connect(at(family.host(), 8080));
    let (from, to) = (RawSocket::open(&net.outside, "eth0"), RawSocket::open(&net.host, "up0"));

    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let rounds = thread::scope(|scope| {
        let talker = scope.spawn(|| {
            let mut rounds = 0_u64;
            while !over.load(Ordering::Acquire) {
                exchange(&mut talk, &rounds.to_be_bytes());
                rounds += 1;
            }
            rounds
        });
        Syns::new((from.mac, to.mac), at(family.host(), 8080), 1).send(&from, SYNS);
        over.store(true, Ordering::Release);
        talker.join().expect("the connection lives")
    });
    let most = (start.elapsed().as_secs() + 2) * RATE;
    let refused = eventually(DEADLINE, "the flood is refused", || {
        let refused = refused_early(&agent, "syn_rate_exceeded");
        (refused >= SYNS as u64 - most).then_some(refused)
    });
    assert!(refused < SYNS as u64, "some are let by");
    assert!(rounds > 0, "an established connection goes on");
    exchange(&mut talk, b"still here");
    // Counted once: what XDP lets by is not refused behind it.
    assert_eq!(agent.dropped("syn_rate_exceeded"), refused);
    eprintln!(
        "{mode}, {family}: {refused} of {SYNS} SYNs refused in {:?}, {rounds} exchanges meanwhile",
        start.elapsed()
    );
}

#[test]
fn a_flood_of_syns_is_cut_in_generic_code() {
    for family in Family::ALL {
        a_flood_of_syns_is_cut("generic", family);
    }
}

#[test]
fn a_flood_of_syns_is_cut_in_the_driver() {
    for family in Family::ALL {
        a_flood_of_syns_is_cut("native", family);
    }
}

#[test]
fn it_outlives_the_agent_is_taken_over_and_follows_the_configuration() {
    let net = Topology::new();
    let mut agent = with_xdp(&net, "native");
    let _web = agent.container("web", "--network mine -p 8080:80,from=203.0.113.0/24");
    let first = program_id(&net.host, "up0");
    agent.kill();
    assert_eq!(program_id(&net.host, "up0"), first);
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    agent.start_again();
    assert_eq!(attached(&net.host, "up0"), Some(1));
    assert_ne!(program_id(&net.host, "up0"), first, "the new agent's program took its place");
    assert_eq!(pins(&agent).len(), 1);

    for (mode, expected) in [("generic", Some(2)), ("native", Some(1)), ("off", None)] {
        agent.kill();
        let config = json!({ "xdp": mode }).to_string();
        fs::write(agent.root().join("netd.json"), config).expect("write netd.json");
        agent.start_again();
        assert_eq!(attached(&net.host, "up0"), expected, "{mode}");
        assert_eq!(pins(&agent).len(), usize::from(expected.is_some()), "{mode}");
    }
    assert_eq!(doctor(&agent), "off on up0: the configuration says so");
}

#[test]
fn it_comes_and_goes_with_an_uplink_and_with_the_agent() {
    let mut net = Topology::new();
    let mut agent = net.agent_with(&json!({ "xdp": "generic" }));
    let _second = net.second_uplink();
    eventually(DEADLINE, "it is on the new uplink", || {
        (attached(&net.host, "up1") == Some(2)).then_some(())
    });
    assert_eq!(pins(&agent).len(), 2);
    net.host.ip("link del up1");
    eventually(DEADLINE, "its pin goes", || (pins(&agent).len() == 1).then_some(()));
    agent.stop();
    eventually(DEADLINE, "nothing stays", || attached(&net.host, "up0").is_none().then_some(()));
}

#[test]
fn the_program_of_another_is_left_alone() {
    let net = Topology::new();
    let mut other = Kernel::load(1024);
    net.host.run(|| {
        let program = other.datapath().xdp_program(names::UPLINK_XDP_SKB).expect("a program");
        program.attach("up0", XdpMode::Skb).expect("attach it");
    });
    let theirs = program_id(&net.host, "up0");
    assert!(theirs.is_some());
    let agent = with_xdp(&net, "generic");
    assert_eq!(program_id(&net.host, "up0"), theirs);
    assert_eq!(doctor(&agent), "off on up0: another XDP program is attached");
    let web = agent.container("web", "--network mine -p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    let said = agent.log().lines().filter(|line| line.contains("another XDP program")).count();
    assert_eq!(said, 1, "it says so once");
}
