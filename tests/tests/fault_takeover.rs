//! An agent goes and another takes its place while traffic flows: no datagram
//! is lost or doubled, no connection is refused, none breaks.

use std::time::{Duration, Instant};

use netd_tests::{
    Agent, DEADLINE, NetNs, Topology, build, eventually, exchange,
    load::{Connecting, Connections, Datagrams, Stream},
    topology::{HOST, OUTSIDE, at},
};
use serde_json::Value;

/// Rates, a second, and how often each way of taking over is gone through.
#[derive(Clone, Copy)]
struct Load {
    connections: u32,
    datagrams: u32,
    rounds: u32,
    /// Of iperf3's stream.
    bits: &'static str,
}

/// The tag of the program that a pinned link runs: a hash of its instructions.
fn tag(agent: &Agent, program: &str) -> String {
    let host = agent.host();
    let pins = agent.pins();
    let pin = format!("{}/links/{}-{program}", pins.display(), host.ifindex("up0"));
    let json = |line: &str| -> Value { serde_json::from_str(&host.exec(line)).expect("JSON") };
    let link = json(&format!("bpftool -j link show pinned {pin}"));
    let program = json(&format!("bpftool -j prog show id {}", link["prog_id"]));
    program["tag"].to_string()
}

/// Waits until traffic has flowed on for a while, under the new agent.
fn flow_on(agent: &Agent) {
    let packets = || agent.json("stats").to_string();
    let before = packets();
    eventually(DEADLINE, "packets are counted", || (packets() != before).then_some(()));
}

fn take_over_under(load: Load) {
    let net = Topology::new();
    let mut agent = net.agent();
    let web = agent.container("web", "-p 8080:80 -p 9000:90/udp");
    let client = agent.container("client", "");
    let _in_web = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    let mut long_in = net.outside.connect(at(HOST, 8080));
    let mut long_out = client.ns.connect(at(OUTSIDE, 7));
    let (other, changed) = build::other(agent.dir());
    assert_ne!(changed, 0, "netd has programs in it");
    let own = netd_tests::netd_path();
    let server = net.outside.command("iperf3").args(["-s", "-1"]);
    let _server = server.start(&agent.dir().path().join("iperf3-server.log"));
    net.outside.wait_for_listener(5201);
    let log = agent.dir().path().join("iperf3.log");
    let line = format!("-c {OUTSIDE} -t 3600 -b {} --forceflush", load.bits);
    let mut bulk = client.ns.command("iperf3").args(line.split(' ')).start(&log);

    let mut builds = [other.as_path(), own.as_path()].into_iter().cycle();
    for (name, end) in WAYS {
        let traffic = Traffic::start(&net, &web.ns, &client.ns, load);
        let mut away = Duration::ZERO;
        for _ in 0..load.rounds {
            let before = tag(&agent, "from_uplink");
            let began = Instant::now();
            end(&mut agent);
            if name == OTHER {
                agent.set_binary(builds.next().expect("they go round"));
            }
            agent.start_again();
            away = away.max(began.elapsed());
            let same = tag(&agent, "from_uplink") == before;
            assert_eq!(same, name != OTHER, "the programs are those of the new agent");
            flow_on(&agent);
        }
        traffic.finish(name, load.rounds, away);
        exchange(&mut long_in, b"goes on");
        exchange(&mut long_out, b"goes on");
    }
    assert!(bulk.ended().is_none(), "iperf3's stream goes on");
}

const OTHER: &str = "SIGTERM, and another build starts";
type End = fn(&mut Agent);
const WAYS: [(&str, End); 3] = [
    ("SIGTERM, and it starts again", Agent::stop),
    ("SIGKILL, and it starts again", Agent::kill),
    (OTHER, Agent::stop),
];

#[test]
fn nothing_is_lost_while_one_agent_follows_another() {
    take_over_under(Load { connections: 40, datagrams: 1000, rounds: 1, bits: "50M" });
}

#[test]
fn soak_nothing_is_lost_in_thirty_takeovers_under_load() {
    if netd_tests::soaks() {
        take_over_under(Load { connections: 200, datagrams: 10_000, rounds: 10, bits: "1G" });
    }
}

struct Traffic {
    streams: [Stream; 2],
    connecting: [Connecting; 2],
}

impl Traffic {
    fn start(net: &Topology, web: &NetNs, client: &NetNs, load: Load) -> Self {
        let any = |port| at([0, 0, 0, 0], port);
        Self {
            streams: [
                Stream::start(&net.outside, at(HOST, 9000), web, any(90), load.datagrams),
                Stream::start(client, at(OUTSIDE, 91), &net.outside, any(91), load.datagrams),
            ],
            connecting: [
                Connecting::start(&net.outside, at(HOST, 8080), load.connections),
                Connecting::start(client, at(OUTSIDE, 7), load.connections),
            ],
        }
    }

    #[track_caller]
    fn finish(self, name: &str, rounds: u32, away: Duration) {
        let connections = self.connecting.map(Connecting::finish);
        let datagrams = self.streams.map(Stream::finish);
        eprintln!("{name} x {rounds}, at most {away:?} until the next agent answers:");
        eprintln!("  in:  {:?} {:?}", datagrams[0], connections[0]);
        eprintln!("  out: {:?} {:?}", datagrams[1], connections[1]);
        for Datagrams { lost, doubled, .. } in datagrams {
            assert_eq!((lost, doubled), (0, 0), "{name}: {datagrams:?}");
        }
        for Connections { failed, .. } in connections {
            assert_eq!(failed, 0, "{name}: {connections:?}");
        }
    }
}
