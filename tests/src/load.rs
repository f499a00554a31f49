//! Load that goes on until it is stopped, and then tells what became of each
//! datagram and each connection: what a gap in the datapath would cost.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::{DEADLINE, NetNs};

/// Between two bursts of datagrams.
const TICK: Duration = Duration::from_millis(5);
/// After the last datagram was sent, the others are waited for this long.
const LAST: Duration = Duration::from_secs(3);
/// A connection that took longer had its SYN sent again (RFC 6298: after a
/// second).
const RETRANSMITTED: Duration = Duration::from_millis(950);

/// What became of numbered datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    pub sent: u32,
    pub lost: u32,
    pub doubled: u32,
    /// The longest time without one, in milliseconds.
    pub longest_gap: u64,
}

/// What became of connections: each sends a few bytes and reads them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub opened: u32,
    pub failed: u32,
    /// A SYN, or its answer, was lost on the way.
    pub late: u32,
    /// The slowest, in milliseconds.
    pub slowest: u64,
}

/// A stream of numbered datagrams, one way.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<(Vec<u8>, Duration)>,
    sent: Arc<std::sync::atomic::AtomicU32>,
}

impl Stream {
    /// Sends `rate` datagrams a second from a socket in `from` to `to`, where a
    /// socket that is bound to `bound` in `receiver` reads them. The first is
    /// waited for.
    pub fn start(
        from: &NetNs,
        to: SocketAddr,
        receiver: &NetNs,
        bound: SocketAddr,
        rate: u32,
    ) -> Self {
        let ear = receiver.run(|| UdpSocket::bind(bound)).expect("bind a receiver");
        setsockopt(&ear, RcvBufForce, &(256 << 20)).expect("take a large buffer");
        let mouth = from.udp_to(to);
        ear.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        mouth.send(&u32::MAX.to_be_bytes()).expect("send the first datagram");
        let mut first = [0; 4];
        ear.recv(&mut first).unwrap_or_else(|e| panic!("the first datagram to {to}: {e}"));
        ear.set_read_timeout(Some(LAST)).expect("set a deadline");

        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(std::sync::atomic::AtomicU32::new(u32::MAX));
        let sender = thread::spawn({
            let stop = stop.clone();
            move || send(&mouth, rate, &stop)
        });
        let receiver = thread::spawn({
            let sent = sent.clone();
            move || receive(&ear, &sent)
        });
        Self { stop, sender, receiver, sent }
    }

    pub fn finish(self) -> Datagrams {
        self.stop.store(true, Ordering::Release);
        let sent = self.sender.join().expect("the sender lives");
        self.sent.store(sent, Ordering::Release);
        let (counts, gap) = self.receiver.join().expect("the receiver lives");
        let count = |n: u32| counts.get(n as usize).copied().unwrap_or_default();
        let sum = |what: fn(u8) -> u32| (0..sent).map(|n| what(count(n))).sum();
        Datagrams {
            sent,
            lost: sum(|count| u32::from(count == 0)),
            doubled: sum(|count| u32::from(count.saturating_sub(1))),
            longest_gap: millis(gap),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn send(socket: &UdpSocket, rate: u32, stop: &AtomicBool) -> u32 {
    let (start, mut next) = (Instant::now(), 0_u32);
    while !stop.load(Ordering::Acquire) {
        let due = start.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(next) < due {
            // Refused for the moment (ENOBUFS, or an ICMP error): tried again.
            if socket.send(&next.to_be_bytes()).is_ok() {
                next += 1;
            }
        }
        thread::sleep(TICK);
    }
    next
}

/// How often each number came, and the longest time between two datagrams.
fn receive(socket: &UdpSocket, sent: &std::sync::atomic::AtomicU32) -> (Vec<u8>, Duration) {
    let mut counts = Vec::new();
    let (mut last, mut gap, mut got) = (Instant::now(), Duration::ZERO, 0_u32);
    let mut buffer = [0; 16];
    while got < sent.load(Ordering::Acquire) {
        let Ok(4) = socket.recv(&mut buffer) else { break };
        let n = u32::from_be_bytes(*buffer.first_chunk().expect("four bytes"));
        if n == u32::MAX {
            continue;
        }
        gap = gap.max(last.elapsed());
        last = Instant::now();
        if counts.len() <= n as usize {
            counts.resize(n as usize + 1, 0_u8);
        }
        counts[n as usize] = counts[n as usize].saturating_add(1);
        got += 1;
    }
    (counts, gap)
}

/// Connections at a rate, to a server that echoes.
#[derive(Debug)]
pub struct Connecting {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Connections>>,
}

/// They share the rate, so that a slow connection delays few others.
const WORKERS: u32 = 4;

impl Connecting {
    /// Opens `rate` connections a second from `from` to `to`.
    pub fn start(from: &NetNs, to: SocketAddr, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = |_| {
            let (stop, from) = (stop.clone(), from.clone());
            // The thread stays in the namespace, for it ends with its work.
            thread::spawn(move || from.run(|| connect(to, f64::from(rate / WORKERS), &stop)))
        };
        let threads = (0..WORKERS).map(work).collect();
        Self { stop, threads }
    }

    pub fn finish(self) -> Connections {
        self.stop.store(true, Ordering::Release);
        let mut all = Connections::default();
        for thread in self.threads {
            let one = thread.join().expect("the connecting thread lives");
            all.opened += one.opened;
            all.failed += one.failed;
            all.late += one.late;
            all.slowest = all.slowest.max(one.slowest);
        }
        all
    }
}

fn connect(to: SocketAddr, rate: f64, stop: &AtomicBool) -> Connections {
    let (start, mut all) = (Instant::now(), Connections::default());
    while !stop.load(Ordering::Acquire) {
        let due = start.elapsed().as_secs_f64() * rate;
        if f64::from(all.opened) >= due {
            thread::sleep(TICK);
            continue;
        }
        let began = Instant::now();
        all.opened += 1;
        if let Err(error) = converse(to) {
            eprintln!("a connection to {to} failed: {error}");
            all.failed += 1;
        }
        let took = began.elapsed();
        all.late += u32::from(took > RETRANSMITTED);
        all.slowest = all.slowest.max(millis(took));
    }
    all
}

fn converse(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = std::net::TcpStream::connect_timeout(&to, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"is anyone there?")?;
    let mut back = [0; 16];
    stream.read_exact(&mut back)
}
