//! A flood of SYNs that nobody means: it costs those who talk already nothing
//! but time.

use std::{
    net::TcpStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netd_tests::{Container, Family, RawSocket, Topology, exchange, syn::Syns, topology::at};

const SYNS: usize = 1_000_000;
/// Established before the flood: half of them in, half of them out.
const CONNECTIONS: usize = 1000;
const CLIENTS: usize = 4;
/// What a million may take on a busy machine.
const FLOOD: Duration = Duration::from_secs(180);
/// One flood at a time: each takes all of a small machine.
static ONE: Mutex<()> = Mutex::new(());

fn established(net: &Topology, web: &Container, family: Family) -> Vec<TcpStream> {
    let into = at(family.host(), 8080);
    let out = at(family.outside(), 7);
    let streams = (0..CONNECTIONS).map(|n| match n % 2 {
        0 => net.outside.connect(into),
        _ => web.ns.connect(out),
    });
    streams.collect()
}

/// Speaks on each of them, over and over, until the flood is over, and once
/// more. Gives the number of rounds.
fn keep_talking(streams: &mut [TcpStream], over: &AtomicBool) -> u32 {
    let mut rounds = 0_u32;
    loop {
        let last = over.load(Ordering::Acquire);
        for stream in &mut *streams {
            exchange(stream, &rounds.to_be_bytes());
        }
        rounds += 1;
        if last {
            return rounds;
        }
    }
}

fn a_million_syns_break_no_connection(family: Family) {
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", family.pick("", "--ipv6 --subnet fd00:18::/64"));
    let web = agent.container("web", "--network mine -p 8080:80");
    let _server = web.ns.echo_tcp(&family.any(80));
    let _outside = net.outside.echo_tcp(&family.any(7));
    let (from, to) = (RawSocket::open(&net.outside, "eth0"), RawSocket::open(&net.host, "up0"));
    let mut streams = established(&net, &web, family);

    let over = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = streams
            .chunks_mut(CONNECTIONS / CLIENTS)
            .map(|streams| scope.spawn(|| keep_talking(streams, &over)))
            .collect();
        let mut syns = Syns::new((from.mac, to.mac), at(family.host(), 8080), 1);
        drop(to);
        for _ in 0..SYNS / 10_000 {
            syns.send(&from, 10_000);
            assert!(start.elapsed() < FLOOD, "a million SYNs are sent within {FLOOD:?}");
        }
        over.store(true, Ordering::Release);
        for client in clients {
            assert!(client.join().expect("no connection breaks") >= 2, "spoke during the flood");
        }
    });
    // They came as far as the published port, and went nowhere else.
    let stats = agent.json("stats");
    let delivered: u64 = netd_tests::json::rows(&stats)
        .iter()
        .filter(|row| row["Program"] == "from_uplink" && row["Outcome"] == "deliver")
        .map(|row| netd_tests::json::number(row, "/Packets"))
        .sum();
    assert!(delivered >= SYNS as u64, "{delivered} packets came in: {stats:#}");
    assert_eq!(web.ns.checksum_errors(), 0);
}

#[test]
fn a_million_syns_break_no_connection_ipv4() {
    a_million_syns_break_no_connection(Family::V4);
}

#[test]
fn a_million_syns_break_no_connection_ipv6() {
    a_million_syns_break_no_connection(Family::V6);
}
