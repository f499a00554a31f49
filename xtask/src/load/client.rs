//! The end that asks, and measures.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{Client, ECHO, Mode, ONCE, PATIENCE, SINK};

/// Before anything counts: caches, flows and the CPU's clock get ready.
const WARM_UP: Duration = Duration::from_millis(30);
/// More losses than this and the path is no path.
const MAX_LOST: u64 = 3;

pub(super) fn main(client: &Client) -> Result<()> {
    match client.mode {
        Mode::TcpRr => tcp_rr(client),
        Mode::UdpRr => udp_rr(client),
        Mode::Crr => crr(client),
        Mode::UdpPps => udp_pps(client),
    }
}

fn tcp_rr(client: &Client) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&client.server(ECHO), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [1];
    measure(client, || {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        Ok(Some(Times { whole: start.elapsed(), connect: None }))
    })
}

fn udp_rr(client: &Client) -> Result<()> {
    let socket = udp(client, ECHO)?;
    let (mut buffer, mut next) = ([0; 64], 0_u64);
    measure(client, || {
        let start = Instant::now();
        next += 1;
        let [.., asked] = next.to_be_bytes();
        socket.send(&[asked])?;
        loop {
            match socket.recv(&mut buffer) {
                // An answer that was given up already is nobody's.
                Ok(1) if buffer[0] == asked => {
                    return Ok(Some(Times { whole: start.elapsed(), connect: None }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    })
}

fn crr(client: &Client) -> Result<()> {
    let server = client.server(ONCE);
    // With a time-out, connecting takes two system calls more.
    TcpStream::connect_timeout(&server, PATIENCE)?;
    let mut byte = [1];
    measure(client, || {
        let start = Instant::now();
        let mut stream = TcpStream::connect(server)?;
        let connect = Some(start.elapsed());
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        let whole = start.elapsed();
        // Its end: the server closes first.
        if stream.read(&mut byte)? != 0 {
            bail!("the server sent more than was asked for");
        }
        Ok(Some(Times { whole, connect }))
    })
}

/// Sends for the time asked for; what arrives by then counts.
fn udp_pps(client: &Client) -> Result<()> {
    let socket = udp(client, SINK)?;
    let before = counted(&socket)?;
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < client.time() {
        for _ in 0..64 {
            // A full queue is what this is about.
            let _ = socket.send(&[7; 64]);
            sent += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let arrived = counted(&socket)?.saturating_sub(before);
    println!("{}", json!({"transactions": arrived, "seconds": seconds, "sent": sent}));
    Ok(())
}

/// What the sink has counted until now.
fn counted(socket: &UdpSocket) -> Result<u64> {
    for _ in 0..20 {
        // Whatever is on its way, or was for an earlier question, goes first.
        thread::sleep(Duration::from_millis(10));
        socket.send(&[0])?;
        let mut count = [0; 8];
        socket.set_read_timeout(Some(PATIENCE / 5))?;
        if let Ok(8) = socket.recv(&mut count) {
            return Ok(u64::from_be_bytes(count));
        }
    }
    bail!("the sink does not answer")
}

fn udp(client: &Client, port: u16) -> Result<UdpSocket> {
    let any = match client.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(client.server(port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Of one transaction.
struct Times {
    whole: Duration,
    connect: Option<Duration>,
}

/// Does one transaction after another and prints what they took. `None`: it
/// was lost.
fn measure(client: &Client, mut transaction: impl FnMut() -> Result<Option<Times>>) -> Result<()> {
    let mut lost = 0;
    let mut run = |time: Duration| -> Result<_> {
        let (mut whole, mut connect) = (Vec::with_capacity(1 << 18), Vec::new());
        let start = Instant::now();
        while start.elapsed() < time {
            match transaction().context("a transaction failed")? {
                Some(times) => {
                    whole.push(times.whole);
                    connect.extend(times.connect);
                }
                None => lost += 1,
            }
            if lost > MAX_LOST {
                bail!("no answers");
            }
        }
        Ok((whole, connect, start.elapsed()))
    };
    run(WARM_UP)?;
    let (whole, connect, took) = run(client.time())?;
    let mut line = json!({
        "transactions": whole.len(),
        "seconds": took.as_secs_f64(),
        "lost": lost,
        "latency": percentiles(whole),
    });
    if !connect.is_empty() {
        line["connect"] = percentiles(connect);
    }
    println!("{line}");
    Ok(())
}

/// In microseconds.
fn percentiles(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort_unstable();
    let at = |per_mille: usize| {
        let index = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
        times.get(index).map(|time| time.as_secs_f64() * 1e6)
    };
    json!({"p50": at(500), "p90": at(900), "p99": at(990), "p99.9": at(999)})
}
