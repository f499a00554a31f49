//! A million flows, and floods on top of them: `cargo xtask test --soak`, which
//! prints what was measured.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::maps::MapData;
use netd_common::abi::names;
use netd_tests::{
    Agent, Container, Crowd, Family, Kernel, RawSocket, Topology, crowd, crr, exchange, syn::Syns,
    topology::at,
};
use serde_json::json;

const MILLION: u32 = 1_000_000;
/// So that a million is 80 % of it.
const SIZE: u32 = 1_250_000;
const ESTABLISHED: usize = 400;

/// Bytes of kernel memory that a map takes, as the kernel accounts for it.
fn memory(pins: &Path, name: &str) -> u64 {
    use std::os::fd::AsFd as _;
    let map = MapData::from_pin(pins.join(name)).expect("the map is pinned");
    let fd = map.fd().as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("its information");
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).expect("its memory")
}

fn tables(pins: &Path) -> u64 {
    [names::FLOWS, names::EMBRYONIC, names::QUOTAS, names::TALLIES]
        .iter()
        .map(|name| memory(pins, name))
        .sum()
}

struct Scene {
    net: Topology,
    agent: Agent,
    web: Container,
}

impl Scene {
    fn new(size: u32) -> Self {
        let net = Topology::new();
        let agent = net.agent_with(&json!({ "flow-table-size": size }));
        let web = agent.container("web", "-p 8080:80 -p 8081:81");
        Self { net, agent, web }
    }

    fn published(port: u16) -> SocketAddr {
        at(Family::V4.host(), port)
    }

    /// Half of them in, half of them out.
    fn establish(&self) -> Vec<TcpStream> {
        let streams = (0..ESTABLISHED).map(|n| match n % 2 {
            0 => self.net.outside.connect(Self::published(8080)),
            _ => self.web.ns.connect(at(Family::V4.outside(), 7)),
        });
        streams.collect()
    }
}

fn all_speak(streams: &mut [TcpStream]) {
    for stream in streams {
        exchange(stream, b"still here");
    }
}

/// CPU time that the agent's thread for flows has had.
fn sweeper(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let flows = tasks.flatten().map(|task| task.path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "flows")
    });
    let stat = fs::read_to_string(flows.expect("a thread for flows").join("schedstat"));
    let stat = stat.expect("its accounting");
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("its time"))
}

/// CPU times of the passes of the agent's garbage collection in `within`.
fn passes(pid: u32, within: Duration) -> Vec<Duration> {
    let (start, mut passes, mut pass) = (Instant::now(), Vec::new(), Duration::ZERO);
    let (mut last, mut idle) = (sweeper(pid), 0);
    while start.elapsed() < within {
        thread::sleep(Duration::from_millis(100));
        let now = sweeper(pid);
        let (used, before) = (now.saturating_sub(last), last);
        last = now;
        if used > Duration::ZERO && before > Duration::ZERO {
            (pass, idle) = (pass + used, 0);
        } else {
            idle += 1;
            // A busy machine takes the CPU away in the middle of it.
            if idle == 5 && pass > Duration::ZERO {
                passes.push(std::mem::take(&mut pass));
            }
        }
    }
    passes
}

#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_a_million_flows_and_floods() {
    let scene = Scene::new(SIZE);
    let _inside = scene.web.ns.echo_tcp("0.0.0.0:80");
    let _outside = scene.net.outside.echo_tcp("0.0.0.0:7");
    let mut streams = scene.establish();
    let pins = scene.agent.pins();
    let mut crowd = Crowd::of(&pins);
    let start = Instant::now();
    crowd.put(MILLION);
    println!("a million flows were put in in {:.1?}", start.elapsed());

    let bytes = tables(&pins);
    println!(
        "memory of all flow tables: {bytes} bytes; {} a flow that there is room for, {} a flow \
         that lives at 80 % fill",
        bytes / u64::from(SIZE),
        bytes / u64::from(MILLION),
    );
    all_speak(&mut streams);

    let mut passes = passes(scene.agent.pid(), Duration::from_secs(30));
    passes.sort();
    let longest = *passes.last().expect("a pass in half a minute");
    println!(
        "{} passes over a million flows: CPU {:.0?} to {longest:.0?}",
        passes.len(),
        passes[0]
    );
    assert!(longest < Duration::from_secs(1), "{passes:?}");

    let mut syns = {
        let to = RawSocket::open(&scene.net.host, "up0");
        let from = RawSocket::open(&scene.net.outside, "eth0");
        (Syns::new((from.mac, to.mac), Scene::published(8080), 1), from)
    };
    let start = Instant::now();
    for _ in 0..20 {
        syns.0.send(&syns.1, 50_000);
        all_speak(&mut streams);
    }
    println!("a million SYNs in {:.1?}", start.elapsed());
    let start = Instant::now();
    let udp = udp_flood(&scene, MILLION, || all_speak(&mut streams));
    println!("{udp} datagrams of as many flows in {:.1?}", start.elapsed());
    all_speak(&mut streams);
    let left = crowd.left(MILLION);
    println!("established flows lost: {} of {}", MILLION - left, MILLION);
    assert_eq!(left, MILLION);
    let dropped = ["flow_table_full", "flow_quota_exceeded"].map(|why| scene.agent.dropped(why));
    assert_eq!(dropped, [0, 0]);
}

/// The container asks many addresses of the outside from many ports.
fn udp_flood(scene: &Scene, count: u32, mut between: impl FnMut()) -> u32 {
    const SOCKETS: u32 = 500;
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|_| scene.web.ns.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("a socket"))
        .collect();
    let mut sent = 0;
    for n in 0..count / SOCKETS {
        let [_, b, c, d] = n.to_be_bytes();
        let to = SocketAddr::from(([198, 18 + (b & 1), c, d | 1], 9));
        let oks = sockets.iter().filter(|socket| socket.send_to(b"x", to).is_ok()).count();
        sent += u32::try_from(oks).expect("few");
        if n % 100 == 0 {
            between();
        }
    }
    sent
}

/// Issue and goal: connections a second at a million flows and at none.
#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_connection_rate_with_a_million_flows() {
    const ROUNDS: usize = 5;
    const TIME: Duration = Duration::from_secs(4);
    let scene = Scene::new(SIZE);
    let _inside = crr::Server::start(&scene.web.ns, "0.0.0.0:81");
    let _outside = crr::Server::start(&scene.net.outside, "0.0.0.0:7");
    let ways = [
        ("outside to a published port", &scene.net.outside, Scene::published(8081)),
        ("container to the outside", &scene.web.ns, at(Family::V4.outside(), 7)),
    ];
    let mut crowd = Crowd::of(&scene.agent.pins());
    let mut ratios = ways.map(|_| Vec::new());
    for round in 0..ROUNDS {
        let empty = ways.map(|(_, client, to)| crr::rate(client, to, TIME));
        crowd.put(MILLION);
        let full = ways.map(|(_, client, to)| crr::rate(client, to, TIME));
        crowd.remove(MILLION);
        for (n, (way, ..)) in ways.iter().enumerate() {
            let ratio = full[n] / empty[n];
            println!("round {round}: {way}: {:.0}/s, {:.0}/s ({ratio:.3})", empty[n], full[n]);
            ratios[n].push(ratio);
        }
    }
    for (ratios, (way, ..)) in ratios.iter_mut().zip(&ways) {
        ratios.sort_by(f64::total_cmp);
        println!("{way}: a million flows ÷ none, median {:.3}", ratios[ROUNDS / 2]);
        assert!(ratios[ROUNDS / 2] >= 0.85, "{way}: {ratios:?}");
    }
}

/// A table that is full to the last entry: what it takes, and how long it takes
/// to find that none of its flows is over, and that all are.
#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_a_table_that_is_full() {
    let mut kernel = Kernel::load(MILLION);
    let pins = kernel.datapath().pins().to_owned();
    let mut crowd = Crowd::of(&pins);
    crowd.put(MILLION);
    let each = tables(&pins) / u64::from(MILLION);
    println!("memory of all flow tables: {each} bytes for each of a million live flows");
    assert!(each <= 350);
    let timeouts = netd_common::conntrack::Timeouts { tcp_established: 300, ..Default::default() };
    let cpu = || {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
        Duration::from(time.expect("a clock"))
    };
    for (what, now) in [("none is over", crowd::now()), ("all are over", crowd::now() + 600)] {
        let before = cpu();
        let report = kernel.datapath().flows.sweep(&timeouts, now).expect("a pass");
        let used = cpu().saturating_sub(before);
        println!("a pass over a million flows, {what}: {used:.0?} of CPU, {report:?}");
    }
    assert_eq!(crowd.left(10), 0);
}
