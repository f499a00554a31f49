//! A host full of containers: `cargo xtask test --soak`, which prints what was
//! measured. The figures are those of the `netd` that the tests run.

use std::{
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use netd_tests::{
    Agent, Api, Random, Topology, exchange,
    json::{number, rows, text},
    topology::{HOST, at},
};
use serde_json::{Value, json};

/// Clients that ask at once.
const CLIENTS: usize = 32;
/// A range of this many ports.
const PORTS: u16 = 10_000;

/// Times of one kind of thing, sorted.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p90, p99, most] = [50, 90, 99, 100].map(|percent| self.at(percent));
        write!(f, "n {} p50 {p50:.1?} p90 {p90:.1?} p99 {p99:.1?} max {most:.1?}", self.0.len())
    }
}

/// `work`, for each of `count`, by many clients at once; how long each took.
fn by_clients(count: usize, work: impl Fn(usize) + Sync) -> Times {
    let (work, next) = (&work, &std::sync::atomic::AtomicUsize::new(0));
    let client = move || {
        let mut times = vec![];
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if n >= count {
                return times;
            }
            times.push(timed(|| work(n)).0);
        }
    };
    let times = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    Times::of(times)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

/// Resident memory of the agent: anonymous, and all of it.
fn memory(agent: &Agent) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("? kB");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
    };
    format!("{} anonymous, {} resident", field("RssAnon:"), field("VmRSS:"))
}

fn report(what: &str, measured: impl std::fmt::Display) {
    println!("| {what} | {measured} |");
}

/// An attachment with one port, alone and asked for by a program: a container
/// is made with its sandbox, and removed.
fn attachments(agent: &Agent, network: &str, count: usize) -> (Times, Times) {
    let api = Api::of(agent);
    let (mut made, mut gone) = (vec![], vec![]);
    for _ in 0..count {
        let body = json!({"network": network, "command": ["true"], "publish": ["8080:80"]});
        let (time, answer) = timed(|| api.ok("POST", "containers", &body));
        made.push(time);
        let path = format!("containers/{}", id(&answer));
        gone.push(timed(|| api.ok("DELETE", &path, &Value::Null)).0);
    }
    (Times::of(made), Times::of(gone))
}

fn id(sandbox: &Value) -> &str {
    text(sandbox, "/Id")
}

fn networks_of(agent: &Agent) {
    for n in 0..4 {
        agent.network(&format!("n{n}"), &format!("172.{}.0.0/16", 20 + n), "");
    }
}

#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_a_thousand_endpoints_by_many_clients() {
    let net = Topology::new();
    let agent = net.agent();
    networks_of(&agent);
    report("agent with nothing", memory(&agent));
    let (made, gone) = attachments(&agent, "n0", 200);
    report("attach with a port, 0 endpoints", &made);
    report("detach, 0 endpoints", &gone);

    let (all, times) = timed(|| {
        by_clients(1000, |n| {
            let line = format!("run -d --name c{n} --network n{} -- sleep infinity", n % 4);
            agent.netd(&line).ok();
        })
    });
    report("`netd run -d` of 1,000, 32 at once", format!("{times}; all in {all:.1?}"));
    report("agent with 1,000 endpoints", memory(&agent));
    let list = agent.json("ps");
    assert_eq!(rows(&list).len(), 1000, "all of them run");
    let (made, gone) = attachments(&agent, "n0", 200);
    report("attach with a port, 1,000 endpoints", &made);
    report("detach, 1,000 endpoints", &gone);
    report("`netd ps`", format!("{:.1?}", timed(|| agent.json("ps")).0));

    let together = by_clients(1000, |n| {
        let body = json!({"network": format!("n{}", n % 4), "command": ["true"]});
        let api = Api::of(&agent);
        let made = api.ok("POST", "containers", &body);
        api.ok("DELETE", &format!("containers/{}", id(&made)), &Value::Null);
    });
    report("attach and detach, 32 at once, beside 1,000", &together);
    let (all, times) =
        timed(|| by_clients(1000, |n| drop(agent.netd(&format!("rm -f c{n}")).ok())));
    report("`netd rm -f` of 1,000, 32 at once", format!("{times}; all in {all:.1?}"));
    for n in 0..4 {
        agent.netd(&format!("network rm n{n}")).ok();
    }
    agent.assert_clean();
}

#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_more_endpoints_on_a_network_than_a_bridge_has_ports() {
    const COUNT: usize = 1500;
    let net = Topology::new();
    let mut agent = net.agent();
    agent.network("many", "172.20.0.0/16", "--ipv6 --subnet fd00:20::/64");
    let (all, times) = timed(|| {
        by_clients(COUNT, |n| {
            agent.netd(&format!("run -d --name c{n} --network many -- sleep infinity")).ok();
        })
    });
    report("1,500 endpoints on one network, 32 at once", format!("{times}; all in {all:.1?}"));
    report("agent with 1,500 endpoints", memory(&agent));
    let addresses = addresses(&agent);
    assert_eq!(addresses.len(), COUNT);
    sampled_pings(&agent, &addresses);

    let (restart, ()) = timed(|| {
        agent.stop();
        agent.start_again();
    });
    report("restart with 1,500 endpoints", format!("{restart:.1?}"));
    sampled_pings(&agent, &addresses);
    by_clients(COUNT, |n| drop(agent.netd(&format!("rm -f c{n}")).ok()));
    agent.netd("network rm many").ok();
    agent.assert_clean();
}

/// By pid, both addresses.
fn addresses(agent: &Agent) -> Vec<(u64, String, String)> {
    let list = agent.json("ps");
    let names: Vec<_> = rows(&list).iter().map(|row| text(row, "/Name")).collect();
    let shown = agent.inspect(&format!("inspect {}", names.join(" ")));
    let of = |row: &Value| {
        let network = &row["NetworkSettings"]["Networks"]["many"];
        let address = |key| text(network, key).to_owned();
        (number(row, "/State/Pid"), address("/IPAddress"), address("/GlobalIPv6Address"))
    };
    rows(&shown).iter().map(of).collect()
}

/// Between pairs by chance, in the first bridge and in annexes alike, in both
/// families; and from the host to each of them.
#[track_caller]
fn sampled_pings(agent: &Agent, addresses: &[(u64, String, String)]) {
    let mut random = Random::new(5);
    let mut times = vec![];
    for _ in 0..100 {
        let mut pick = || &addresses[random.below(addresses.len())];
        let (from, to) = (pick(), pick());
        for to in [&to.1, &to.2] {
            let ping = format!("--target {} --net ping -c 1 -W 5 {to}", from.0);
            let words: Vec<_> = ping.split_whitespace().collect();
            let ping = || netd_tests::Program::new("nsenter").args(&words).output().ok();
            times.push(timed(ping).0);
            agent.host().exec(&format!("ping -c 1 -W 5 {to}"));
        }
    }
    report("100 sampled pairs and the host, IPv4 and IPv6: all answered", Times::of(times));
}

#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_ten_thousand_ports() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "");
    let last = 20_000 + PORTS - 1;
    let range = format!("20000-{last}:20000-{last}");
    report("agent before", memory(&agent));
    let api = Api::of(&agent);
    let (mut published, mut removed) = (vec![], vec![]);
    for protocol in ["tcp", "udp", "tcp", "udp", "tcp"] {
        let body = json!({"specs": [format!("{range}/{protocol}")]});
        published.push(timed(|| api.ok("POST", "containers/web/ports", &body)).0);
        if published.len() < 5 {
            removed.push(timed(|| api.ok("DELETE", "containers/web/ports", &body)).0);
        }
    }
    report("publish a range of 10,000 ports, of TCP and UDP in turn", all(&published));
    report("agent with 10,000 ports", memory(&agent));
    for port in [20_000, 20_000 + PORTS / 2, last] {
        let _server = web.ns.echo_tcp(&format!("0.0.0.0:{port}"));
        exchange(&mut net.outside.connect(at(HOST, port)), b"one of many");
        net.host.can_bind_tcp(([0, 0, 0, 0], port).into()).expect_err("it is held");
    }
    let (made, gone) = attachments(&agent, "bridge", 100);
    report("attach with a port, beside 10,000", &made);
    report("detach, beside 10,000", &gone);
    let list = agent.json("port ls");
    assert_eq!(rows(&list).len(), usize::from(PORTS));
    let (time, _) = timed(|| agent.netd(&format!("port rm web {range}")).ok());
    removed.push(time);
    report("remove it", all(&removed));
    let line = format!("run -d --name many -p {range} -- sleep infinity");
    report("`netd run -p` of the range", format!("{:.1?}", timed(|| agent.netd(&line).ok()).0));
    report("`netd rm -f` of it", format!("{:.1?}", timed(|| agent.netd("rm -f many").ok()).0));
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}

fn all(times: &[Duration]) -> String {
    times.iter().fold(String::new(), |mut text, time| {
        let _ = write!(text, "{time:.0?} ");
        text
    })
}
