//! Small conversations that say what went wrong instead of ending the test:
//! for tables of many of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::{Echo, Family, NetNs, eventually};

/// How long a conversation that should come about may take to begin.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes that no other conversation of this test has.
fn payload(length: usize) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut data = n.to_be_bytes().to_vec();
    let noise = |i: u32| i.wrapping_mul(2_654_435_761).wrapping_add(n).to_be_bytes()[1];
    data.extend((4..).map(noise).take(length.saturating_sub(4)));
    data.truncate(length);
    data
}

/// One connection that carries these lengths there and back. Gives what the
/// server saw as its peer, and the client's own address.
pub fn tcp(
    from: &NetNs,
    to: SocketAddr,
    server: &Echo,
    lengths: &[usize],
) -> Result<(SocketAddr, SocketAddr)> {
    let mut stream = from.connect_tcp(to, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr().context("ask for the peer")?;
    ensure!(peer == to, "the client's peer is {peer}, not {to}");
    let first = payload(16);
    for data in std::iter::once(first.clone()).chain(lengths.iter().map(|l| payload(*l))) {
        stream.write_all(&data).context("send")?;
        let mut back = vec![0; data.len()];
        stream.read_exact(&mut back).with_context(|| format!("receive {} bytes", data.len()))?;
        ensure!(back == data, "{} bytes came back changed", data.len());
    }
    let seen = server.heard_from(|heard| heard.starts_with(&first)).context("who was heard")?;
    Ok((seen, stream.local_addr()?))
}

/// Datagrams of these lengths there and back, over a connected socket and over
/// one that is not. Gives what the server saw as their sender.
pub fn udp(
    from: &NetNs,
    to: SocketAddr,
    server: &Echo,
    lengths: &[usize],
) -> Result<(SocketAddr, SocketAddr)> {
    let connected = from.udp_to(to);
    connected.set_read_timeout(Some(PATIENCE))?;
    let mut pair = None;
    let mut buffer = vec![0; 1 << 16];
    for length in lengths {
        let data = payload(*length);
        connected.send(&data).context("send")?;
        let got = connected.recv(&mut buffer).with_context(|| format!("echo of {length} bytes"))?;
        ensure!(buffer[..got] == data, "{length} bytes came back changed");
        let seen = server.heard_from(|heard| heard == data).context("who was heard")?;
        pair.get_or_insert((seen, connected.local_addr()?));
    }
    let free = unconnected(from, if to.is_ipv4() { Family::V4 } else { Family::V6 });
    free.set_read_timeout(Some(PATIENCE))?;
    for length in lengths {
        let data = payload(*length);
        free.send_to(&data, to).context("send, not connected")?;
        let (got, sender) = free.recv_from(&mut buffer).context("echo, not connected")?;
        ensure!(buffer[..got] == data, "{length} bytes came back changed");
        ensure!(sender == to, "the echo is from {sender}, not from {to}");
    }
    pair.context("no datagram was asked for")
}

/// A UDP socket that speaks with anyone.
pub fn unconnected(from: &NetNs, family: Family) -> UdpSocket {
    let socket = from.run(|| UdpSocket::bind(family.any(0))).expect("bind a UDP socket");
    setsockopt(&socket, RcvBufForce, &(64 << 20)).expect("take a large buffer");
    socket
}

/// Echo requests of these lengths, each answered.
pub fn ping(from: &NetNs, to: SocketAddr, lengths: &[usize]) -> Result<()> {
    for length in lengths {
        let line = format!("-c 2 -i 0.01 -W 3 -s {length} {}", to.ip());
        let output = from.command("ping").args(line.split(' ')).output();
        ensure!(output.code == 0, "ping {line}: {}{}", output.stdout, output.stderr);
    }
    Ok(())
}

/// Whether a connection comes about, or how else it ends.
pub fn reaches_tcp(from: &NetNs, to: SocketAddr, within: Duration) -> bool {
    match from.connect_tcp(to, within) {
        Ok(mut stream) => {
            let echoed = stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0]));
            echoed.is_ok()
        }
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::InvalidInput, "{to}");
            false
        }
    }
}

impl Echo {
    /// The peer that sent such data, which may come a moment later.
    pub fn heard_from(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<SocketAddr> {
        let find = || self.heard().into_iter().find(|heard| wanted(&heard.data));
        find().map(|heard| heard.peer)
    }

    /// Waits until `count` datagrams or connections were heard.
    #[track_caller]
    pub fn wait_for(&self, count: usize, within: Duration) {
        eventually(within, &format!("{count} are heard"), || {
            (self.heard().len() >= count).then_some(())
        });
    }
}
