//! Many conversations at once, each byte of them numbered, so that a loss, a
//! mix-up or a corruption names itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use crate::{Echo, NetNs};

/// Who sent number `n`: the client's own address, by number.
pub type Senders = BTreeMap<u32, SocketAddr>;

/// Datagrams of each socket of [`udp`].
const PER_SOCKET: u32 = 20;

/// Payload `n`: its number, then bytes that follow from it; lengths differ,
/// odd and even.
fn payload(n: u32) -> Vec<u8> {
    let length = 16 + n * 7 % 1100;
    let mut data = n.to_be_bytes().to_vec();
    let noise = |i: u32| i.wrapping_mul(2_654_435_761).wrapping_add(n).to_be_bytes()[1];
    data.extend((4..length).map(noise));
    data
}

/// The number of a payload that is whole.
#[track_caller]
fn number(data: &[u8]) -> u32 {
    let head = data.first_chunk().expect("a payload begins with its number");
    let n = u32::from_be_bytes(*head);
    assert_eq!(data, payload(n), "payload {n} arrived as it was sent");
    n
}

/// Opens `count` connections, all open at once, then sends on each of them,
/// then reads each echo.
pub fn tcp(client: &NetNs, to: SocketAddr, count: u32) -> Senders {
    let mut streams: Vec<_> = (0..count).map(|_| client.connect(to)).collect();
    for (stream, n) in streams.iter_mut().zip(0..) {
        stream.write_all(&payload(n)).unwrap_or_else(|e| panic!("send on connection {n}: {e}"));
    }
    let mut senders = Senders::new();
    for (stream, n) in streams.iter_mut().zip(0..) {
        let mut back = vec![0; payload(n).len()];
        stream.read_exact(&mut back).unwrap_or_else(|e| panic!("echo of connection {n}: {e}"));
        assert_eq!(number(&back), n, "a connection gets its own echo");
        senders.insert(n, stream.local_addr().expect("a socket has an address"));
    }
    senders
}

/// Sends `count` datagrams from `count / 20` sockets before it reads the first
/// echo.
pub fn udp(client: &NetNs, to: SocketAddr, count: u32) -> Senders {
    let sockets: Vec<_> = (0..count / PER_SOCKET).map(|_| client.udp_to(to)).collect();
    for round in 0..PER_SOCKET {
        for (socket, s) in sockets.iter().zip(0..) {
            let n = s * PER_SOCKET + round;
            socket.send(&payload(n)).unwrap_or_else(|e| panic!("send datagram {n}: {e}"));
        }
    }
    let mut senders = Senders::new();
    for (socket, s) in sockets.iter().zip(0..) {
        let from = socket.local_addr().expect("a socket has an address");
        let first = s * PER_SOCKET;
        let mut left: BTreeSet<_> = (first..first + PER_SOCKET).collect();
        let mut buffer = [0; 2048];
        while !left.is_empty() {
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|e| panic!("echoes {left:?} from {to} to {from}: {e}"));
            let n = number(&buffer[..length]);
            assert!(
                left.remove(&n),
                "socket {s} got an echo of datagram {n}, not its own or twice"
            );
            senders.insert(n, from);
        }
    }
    senders
}

/// Datagrams of [`large`] that are on their way at a time.
const WINDOW: usize = 32;
/// Bytes of each: six fragments on Ethernet.
const LARGE: usize = 8192;

fn large_payload(n: u32, tag: u8) -> Vec<u8> {
    let mut data = n.to_be_bytes().to_vec();
    data.resize(LARGE, tag);
    // Each fragment says whose it is.
    for (at, byte) in (0_u32..).zip(&mut data).skip(4) {
        if at % 8 < 4 {
            *byte = (n.wrapping_mul(2_654_435_761) ^ at).to_be_bytes()[1];
        }
    }
    data
}

/// What became of the datagrams of [`large`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub echoed: u32,
    pub lost: u32,
}

/// Sends `count` datagrams of 8 KB, marked with `tag`, from one socket, and
/// reads their echoes. One that has not come back within `patience`, or before
/// all that were sent later, is lost; one that is not what was sent panics.
pub fn large(client: &NetNs, to: SocketAddr, count: u32, tag: u8, patience: Duration) -> Fate {
    let socket = client.udp_to(to);
    socket.set_read_timeout(Some(patience)).expect("set a deadline");
    let mut buffer = vec![0; 1 << 16];
    let (mut fate, mut next, mut waiting) = (Fate::default(), 0, BTreeSet::new());
    while next < count || !waiting.is_empty() {
        while waiting.len() < WINDOW && next < count {
            socket.send(&large_payload(next, tag)).unwrap_or_else(|e| panic!("send {next}: {e}"));
            waiting.insert(next);
            next += 1;
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            fate.lost += u32::try_from(waiting.len()).expect("a window");
            waiting.clear();
            continue;
        };
        let n = large_number(&buffer[..length], tag);
        // Late: it was given up.
        if waiting.remove(&n) {
            fate.echoed += 1;
        }
    }
    fate
}

/// The number of a datagram of [`large`], which must be whole and marked so.
#[track_caller]
pub fn large_number(data: &[u8], tag: u8) -> u32 {
    let n = u32::from_be_bytes(*data.first_chunk().expect("a datagram begins with its number"));
    assert!(data == large_payload(n, tag), "datagram {n} of {tag} arrived as it was sent");
    n
}

/// What the server heard, by number: each of `count` payloads once and whole.
#[track_caller]
pub fn heard_all(server: &Echo, count: u32) -> Senders {
    let heard = server.heard();
    let senders: Senders = heard.iter().map(|h| (number(&h.data), h.peer)).collect();
    assert_eq!(heard.len(), count as usize, "the server hears each payload once");
    assert!(senders.keys().copied().eq(0..count), "the server hears every number");
    senders
}
