//! SYNs in great number from sources that nobody has: as frames, many a
//! system call, so that a million of them take seconds.

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use etherparse::PacketBuilder;
use netd_common::csum;

use crate::{Random, RawSocket};

/// Frames a system call.
const BATCH: usize = 64;

/// A SYN to `to`, of which the source is made anew for each.
#[derive(Debug)]
pub struct Syns {
    frame: Vec<u8>,
    random: Random,
    v4: bool,
}

const ETHERNET: usize = 14;

impl Syns {
    pub fn new(macs: ([u8; 6], [u8; 6]), to: SocketAddr, seed: u64) -> Self {
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
        let ip = match to.ip() {
            IpAddr::V4(to) => ethernet.ipv4([198, 18, 0, 0], to.octets(), 64),
            IpAddr::V6(to) => ethernet.ipv6(Self::prefix().octets(), to.octets(), 64),
        };
        let syn = ip.tcp(0, to.port(), 0, 64240).syn();
        syn.write(&mut frame, &[]).expect("it fits");
        Self { frame, random: Random::new(seed), v4: to.is_ipv4() }
    }

    fn prefix() -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0)
    }

    /// Sends `count` of them.
    #[track_caller]
    pub fn send(&mut self, link: &RawSocket, count: usize) {
        let mut frames = vec![self.frame.clone(); BATCH];
        for sent in (0..count).step_by(BATCH) {
            let batch = &mut frames[..BATCH.min(count - sent)];
            for frame in &mut *batch {
                self.next(frame);
            }
            let slices: Vec<_> = batch.iter().map(|frame| [IoSlice::new(frame)]).collect();
            link.send_all(&slices);
        }
    }

    /// Gives the frame a source of its own: an address of 198.18.0.0/15 or of
    /// `2001:db8:bad::/64`, a port, a sequence number.
    fn next(&mut self, frame: &mut [u8]) {
        let (low, host) = (self.random.number().to_be_bytes(), self.random.number());
        let ip_header = if self.v4 { 20 } else { 40 };
        let tcp = ETHERNET + ip_header;
        let put = |frame: &mut [u8], at: usize, bytes: [u8; 2], checks: &[usize]| {
            let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
            frame[at..at + 2].copy_from_slice(&bytes);
            for check in checks {
                let sum = u16::from_be_bytes([frame[*check], frame[*check + 1]]);
                let sum = csum::replace16(sum, old, u16::from_be_bytes(bytes));
                frame[*check..*check + 2].copy_from_slice(&sum.to_be_bytes());
            }
        };
        let tcp_check = tcp + 16;
        if self.v4 {
            let checks = [ETHERNET + 10, tcp_check];
            put(frame, ETHERNET + 12, [198, 18 + (low[0] & 1)], &checks);
            put(frame, ETHERNET + 14, [low[1], low[2]], &checks);
        } else {
            for (n, word) in host.to_be_bytes().chunks_exact(2).enumerate() {
                put(frame, ETHERNET + 16 + n * 2, [word[0], word[1]], &[tcp_check]);
            }
        }
        put(frame, tcp, [low[3] | 4, low[4]], &[tcp_check]);
        put(frame, tcp + 4, [low[5], low[6]], &[tcp_check]);
    }
}
