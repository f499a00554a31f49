//! A hop between the host and the outside that nobody sees, and that swaps
//! fragments: a bridge of two packet sockets in a namespace of its own.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::{
    socket::{
        LinkAddr, MsgFlags, recvfrom, send, setsockopt,
        sockopt::{RcvBufForce, ReceiveTimeout},
    },
    time::TimeVal,
};

use crate::{NetNs, Random, RawSocket};

/// Room for a burst that is not yet sent on.
const BURST: usize = 64 << 20;
/// How long a fragment is held back where nothing follows it.
const PATIENCE: Duration = Duration::from_millis(5);
/// `PACKET_OUTGOING` (`include/uapi/linux/if_packet.h`).
const OUTGOING: u8 = 4;

/// Carries frames both ways until it is dropped.
#[derive(Debug)]
pub struct Hop {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Hop {
    /// Between the links `left` and `right`: each frame goes on, some
    /// fragments one frame later than they came.
    pub fn swapping(ns: &NetNs, left: &str, right: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one_way = |from: &str, to: &str, seed: u64| {
            let (from, to) = (RawSocket::open(ns, from), RawSocket::open(ns, to));
            let (from, to) = (from.into_inner(), to.into_inner());
            setsockopt(&from, RcvBufForce, &BURST).expect("take a large buffer");
            let patience = TimeVal::new(0, PATIENCE.subsec_micros().into());
            setsockopt(&from, ReceiveTimeout, &patience).expect("set a deadline");
            let stop = stop.clone();
            thread::spawn(move || carry(&from, &to, seed, &stop))
        };
        let threads = vec![one_way(left, right, 1), one_way(right, left, 2)];
        Self { stop, threads }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn carry(from: &OwnedFd, to: &OwnedFd, seed: u64, stop: &AtomicBool) {
    let mut random = Random::new(seed);
    let mut held: Option<Vec<u8>> = None;
    let mut buffer = vec![0; 1 << 16];
    let send = |frame: &[u8]| {
        // A link that is down, or a frame too long for it: lost, as on a wire.
        let _ = send(to.as_raw_fd(), frame, MsgFlags::empty());
    };
    while !stop.load(Ordering::Acquire) {
        match recvfrom::<LinkAddr>(from.as_raw_fd(), &mut buffer) {
            Ok((_, Some(address))) if address.pkttype() == OUTGOING => {}
            Ok((length, _)) => {
                let frame = &buffer[..length];
                if held.is_none() && is_fragment(frame) && random.once_in(2) {
                    held = Some(frame.to_vec());
                } else {
                    send(frame);
                    held.take().iter().for_each(|held| send(held));
                }
            }
            Err(_) => held.take().iter().for_each(|held| send(held)),
        }
    }
}

fn is_fragment(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        // More fragments, or an offset.
        Some([0x08, 0x00]) => frame.get(20..22).is_some_and(|f| f[0] & 0x3f != 0 || f[1] != 0),
        // The fragment header is the first.
        Some([0x86, 0xdd]) => frame.get(20) == Some(&44),
        _ => false,
    }
}
