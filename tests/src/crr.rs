//! Connect, one request, close: how many connections a second come about.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{DEADLINE, NetNs};

/// A server that answers one byte with one and closes. Ends on drop.
#[derive(Debug)]
pub struct Server {
    at: SocketAddr,
    ns: NetNs,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    #[track_caller]
    pub fn start(ns: &NetNs, addr: &str) -> Self {
        let listener = ns.run(|| TcpListener::bind(addr)).expect("listen");
        let at = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&listener, &stop)
        });
        Self { at, ns: ns.clone(), stop, thread: Some(thread) }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    while let Ok((mut stream, _)) = listener.accept() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.ns.connect_tcp(self.at, DEADLINE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connections a second from `client` to `to`, one after the other. The server
/// closes first, so that the client's ports are free again at once.
#[track_caller]
pub fn rate(client: &NetNs, to: SocketAddr, time: Duration) -> f64 {
    client.run(|| {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < time {
            let mut stream = std::net::TcpStream::connect_timeout(&to, DEADLINE).expect("connect");
            stream.write_all(&[1]).expect("ask");
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            assert!(matches!(stream.read(&mut byte), Ok(0)), "the server closes");
            let _ = stream.shutdown(Shutdown::Both);
            count += 1;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    })
}
