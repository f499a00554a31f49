//! `netd monitor`: drops as they happen.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use etherparse::PacketBuilder;
use netd_common::abi::{Config, EventSlot, names};
use netd_tests::{
    Agent, DEADLINE, Family, Process, RawSocket, SILENCE, Topology, eventually,
    json::{number, text},
    topology::{HOST, at},
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A running `netd monitor` and the file that it writes to.
struct Monitor {
    process: Process,
    file: PathBuf,
}

impl Monitor {
    fn start(agent: &Agent, flags: &[&str]) -> Self {
        let name = format!("monitor{}", flags.concat());
        let file = agent.dir().path().join(name);
        let mut line = vec!["monitor"];
        line.extend(flags);
        let process = agent.command(line).start(&file);
        let monitor = Self { process, file };
        eventually(DEADLINE, "programs tell of their drops", || is_told(agent).then_some(()));
        // They may do so for another one; a header says that this one listens.
        if !flags.contains(&"--json") {
            eventually(DEADLINE, "it listens", || {
                monitor.text().starts_with("TIME ").then_some(())
            });
        }
        monitor
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).expect("the monitor's output")
    }

    /// The whole lines so far.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Waits for a drop under this reason, of this source.
    #[track_caller]
    fn drop(&self, reason: &str, src: impl Into<IpAddr>) -> Value {
        let src = src.into().to_string();
        eventually(DEADLINE, &format!("{reason} from {src} is shown"), || {
            let wanted = |event: &Value| event["Reason"] == reason && event["Src"] == *src;
            self.events().into_iter().find(wanted)
        })
    }
}

/// `Config::MONITOR` of the agent's datapath.
fn is_told(agent: &Agent) -> bool {
    let pin = netd_tests::snapshot::map_pins(agent.root())
        .into_iter()
        .find(|pin| pin.ends_with(names::CONFIG))
        .expect("the configuration is pinned");
    let config: Array<MapData, Config> =
        Map::Array(MapData::from_pin(pin).expect("open the pin")).try_into().expect("an array");
    config.get(&0, 0).expect("a configuration").features & Config::MONITOR != 0
}

fn datagram(macs: ([u8; 6], [u8; 6]), ips: (Ipv4Addr, Ipv4Addr), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(ips.0.octets(), ips.1.octets(), 64)
        .udp(4000, 80)
        .write(&mut frame, payload)
        .expect("it fits");
    frame
}

#[test]
fn a_spoofed_packet_is_shown_with_its_container_and_network() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let a = agent.container("a", "--network mine");
    let b = agent.container("b", "--network mine");
    let (json, lines) = (Monitor::start(&agent, &["--json"]), Monitor::start(&agent, &[]));

    let source = Ipv4Addr::new(172, 18, 0, 99);
    let frame = datagram((a.mac_bytes(), b.mac_bytes()), (source, b.ip), b"who am I?");
    RawSocket::open(&a.ns, "eth0").send(&frame);
    let event = json.drop("spoofed_address", source);
    assert_eq!(text(&event, "/Type"), "drop");
    assert_eq!(text(&event, "/Program"), "from_container");
    assert_eq!(text(&event, "/Protocol"), "udp");
    assert_eq!(text(&event, "/Dst"), b.ip.to_string());
    assert_eq!((number(&event, "/SrcPort"), number(&event, "/DstPort")), (4000, 80));
    assert_eq!((text(&event, "/Container"), text(&event, "/Network")), ("a", "mine"));
    assert_eq!(number(&event, "/Length"), frame.len() as u64);

    let shown = eventually(DEADLINE, "a person sees it too", || {
        lines.text().lines().find(|line| line.contains("spoofed_address")).map(str::to_owned)
    });
    let words: Vec<_> = shown.split_whitespace().skip(1).collect();
    let to = format!("{}:80", b.ip);
    let expected =
        ["spoofed_address", "from_container", "udp", "172.18.0.99:4000", ">", &to, "a", "mine"];
    assert_eq!(words, expected, "{shown}");
    assert!(lines.text().starts_with("TIME "), "a header comes first");
}

#[test]
fn an_attempt_at_direct_access_names_the_container_that_it_was_for() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let a = agent.container("a", "--network mine");
    net.outside.ip(&format!("route add 172.18.0.0/24 via {HOST}"));
    let monitor = Monitor::start(&agent, &["--json"]);

    assert!(net.outside.connect_tcp(a.at(80), SILENCE).is_err());
    let event = monitor.drop("direct_access", Ipv4Addr::new(192, 0, 2, 2));
    assert_eq!(text(&event, "/Program"), "from_uplink");
    assert_eq!(text(&event, "/Interface"), "up0");
    assert_eq!((text(&event, "/Protocol"), number(&event, "/DstPort")), ("tcp", 80));
    assert_eq!((text(&event, "/Container"), text(&event, "/Network")), ("a", "mine"));
}

#[test]
fn a_drop_at_a_published_port_names_its_container() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let web = agent.container("web", "--network mine -p 8080:80");
    let (from, host) = (RawSocket::open(&net.outside, "eth0"), RawSocket::open(&net.host, "up0"));
    let monitor = Monitor::start(&agent, &["--json"]);

    // 127.0.0.9 can't be outside.
    let source = Ipv4Addr::new(127, 0, 0, 9);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.mac, host.mac)
        .ipv4(source.octets(), HOST.octets(), 64)
        .tcp(4000, 8080, 1, 1000)
        .syn()
        .write(&mut frame, b"")
        .expect("it fits");
    from.send(&frame);
    let event = monitor.drop("martian_source", source);
    assert_eq!(text(&event, "/Container"), web.name);
}

#[test]
fn a_client_that_an_allow_list_refuses_is_shown() {
    for family in Family::ALL {
        let net = Topology::new();
        let agent = net.agent();
        agent.network("mine", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64");
        let allowed = family.pick("203.0.113.0/24", "2001:db8:f::/48");
        agent.container("web", &format!("--network mine -p 8080:80,from={allowed}"));
        let monitor = Monitor::start(&agent, &["--json"]);

        assert!(net.outside.connect_tcp(at(family.host(), 8080), SILENCE).is_err());
        let event = monitor.drop("source_not_allowed", family.outside());
        assert_eq!(text(&event, "/Program"), "from_uplink");
        assert_eq!(text(&event, "/Dst"), family.host().to_string());
        assert_eq!((text(&event, "/Protocol"), number(&event, "/DstPort")), ("tcp", 8080));
        assert_eq!((text(&event, "/Container"), text(&event, "/Network")), ("web", "mine"));
    }
}

#[test]
fn a_flood_is_sampled_and_said_to_be_and_the_agent_keeps_calm() {
    const FLOOD: u64 = 200_000;
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let a = agent.container("a", "--network mine");
    let monitor = Monitor::start(&agent, &["--json"]);
    let before = agent.dropped("spoofed_address");
    let usage = Usage::of(&agent);

    let source = Ipv4Addr::new(172, 18, 0, 99);
    let frame = datagram((a.mac_bytes(), [2, 0, 0, 0, 0, 1]), (source, HOST), b"flood");
    let socket = RawSocket::open(&a.ns, "eth0");
    let start = Instant::now();
    for _ in 0..FLOOD {
        socket.send(&frame);
    }
    let dropped = eventually(DEADLINE, "every packet is dropped", || {
        let dropped = agent.dropped("spoofed_address") - before;
        (dropped >= FLOOD).then_some(dropped)
    });
    let seconds = start.elapsed().as_secs() + 2;
    let (shown, missed) = eventually(DEADLINE, "every drop is shown or counted", || {
        let events = monitor.events();
        let shown = events.iter().filter(|event| event["Reason"] == "spoofed_address").count();
        let missed = events.iter().filter(|event| event["Type"] == "missed");
        let missed: u64 = missed.map(|event| number(event, "/Count")).sum();
        (shown as u64 + missed >= dropped).then_some((shown as u64, missed))
    });
    assert!(missed > 0, "a flood is more than is shown");
    let sampled = |event: &Value| event["Why"] == "sampled";
    assert!(monitor.events().iter().any(sampled), "it says that it is a sample");
    let cpus = std::thread::available_parallelism().expect("a number of CPUs").get() as u64;
    let most = seconds * cpus * u64::from(EventSlot::PER_SECOND);
    assert!(shown <= most, "{shown} shown in {seconds} s");

    let (used, took) = (Usage::of(&agent), start.elapsed());
    let busy = used.processor.saturating_sub(usage.processor);
    assert!(busy < took / 2, "the agent was busy for {busy:?} of {took:?}");
    let grown = used.memory.saturating_sub(usage.memory);
    assert!(grown < 16 << 20, "the agent has grown by {grown} bytes");
    eprintln!(
        "{FLOOD} drops: {shown} shown, {missed} counted; the agent used {busy:?} of {took:?}, +{grown} bytes"
    );
}

/// What the agent has used so far.
struct Usage {
    processor: Duration,
    /// Resident, in bytes.
    memory: u64,
}

impl Usage {
    fn of(agent: &Agent) -> Self {
        let pid = agent.pid();
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the agent runs");
        let stat = read("stat");
        let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("ticks")).sum();
        let status = read("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number");
        Self { processor: Duration::from_millis(ticks * 10), memory: kib << 10 }
    }
}

#[test]
fn it_ends_quietly_and_the_programs_fall_silent() {
    let net = Topology::new();
    let agent = net.agent();
    // One after the other: by the programs it is known that it listens.
    for (flags, end) in [(&[][..], Signal::SIGINT), (&["--json"][..], Signal::SIGTERM)] {
        let mut monitor = Monitor::start(&agent, flags);
        monitor.process.signal(end);
        assert_eq!(monitor.process.wait(), 0, "{}", monitor.text());
        assert_eq!(monitor.text().is_empty(), !flags.is_empty(), "a header is for people");
        eventually(DEADLINE, "nobody listens any more", || (!is_told(&agent)).then_some(()));
    }
}

#[test]
fn it_says_when_the_agent_goes() {
    let net = Topology::new();
    let mut agent = net.agent();
    let mut stopped = Monitor::start(&agent, &["--json"]);
    let asked = Instant::now();
    agent.stop();
    assert!(asked.elapsed() < Duration::from_secs(2), "a listener does not hold the agent up");
    assert_eq!(stopped.process.wait(), 1);
    assert!(stopped.text().starts_with("error: the agent has ended\nhint: "), "{}", stopped.text());

    agent.start_again();
    let mut killed = Monitor::start(&agent, &[]);
    agent.kill();
    assert_eq!(killed.process.wait(), 1);
    assert!(killed.text().contains(" closed the connection: "), "{}", killed.text());

    // Nobody listens to the next one, whatever the last one has left.
    agent.start_again();
    assert!(!is_told(&agent));
}

#[test]
fn it_sees_nothing_of_what_is_not_dropped() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/24", "");
    let web = agent.container("web", "--network mine -p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let monitor = Monitor::start(&agent, &["--json"]);
    netd_tests::exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    std::thread::sleep(SILENCE);
    assert_eq!(monitor.events(), Vec::<Value>::new());
}

#[test]
fn a_process_that_an_allow_list_refuses_is_shown() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "-p 8080:80,from=127.0.0.0/8");
    let json = Monitor::start(&agent, &["--json"]);
    net.host.connect_tcp(at(HOST, 8080), SILENCE).unwrap_err();
    let event = json.drop("source_not_allowed", HOST);
    assert_eq!((text(&event, "/Program"), text(&event, "/Protocol")), ("socket", "tcp"));
    assert_eq!((text(&event, "/Dst"), number(&event, "/DstPort")), (&*HOST.to_string(), 8080));
    assert_eq!((text(&event, "/Container"), text(&event, "/Interface")), ("web", ""));
}
