//! Echo servers that remember who spoke to them, and clients with deadlines.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, connect, listen,
    setsockopt, shutdown, socket,
    sockopt::{Ipv6V6Only, RcvBufForce, ReuseAddr},
};

use crate::{DEADLINE, NetNs};

/// Room for a burst of datagrams that nobody has read yet.
const BURST: usize = 64 << 20;
/// How often an idle UDP server looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(50);
const SMALL_STACK: usize = 128 << 10;

/// What one peer has sent: over one connection, or in one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub peer: SocketAddr,
    pub data: Vec<u8>,
}

/// A server that sends back what it gets. Ends on drop.
#[derive(Debug)]
pub struct Echo {
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    listener: Option<RawFd>,
    server: Option<JoinHandle<()>>,
}

impl NetNs {
    #[track_caller]
    pub fn echo_tcp(&self, addr: &str) -> Echo {
        let listener = TcpListener::from(self.bind(addr, SockType::Stream));
        listen(&listener, Backlog::MAXCONN).unwrap_or_else(|e| panic!("listen on {addr}: {e}"));
        let at = listener.local_addr().expect("a bound socket has an address");
        Echo::start(at, Some(listener.as_raw_fd()), move |heard, stop| {
            serve_tcp(&listener, heard, stop);
        })
    }

    #[track_caller]
    pub fn echo_udp(&self, addr: &str) -> Echo {
        let socket = UdpSocket::from(self.bind(addr, SockType::Datagram));
        setsockopt(&socket, RcvBufForce, &BURST).expect("take a large buffer");
        socket.set_read_timeout(Some(LOOK_UP)).expect("set a deadline");
        let at = socket.local_addr().expect("a bound socket has an address");
        Echo::start(at, None, move |heard, stop| {
            serve_udp(&socket, heard, stop);
        })
    }

    /// A socket inside that is bound, and that speaks one family: IPv4 and IPv6
    /// servers share a port.
    #[track_caller]
    fn bind(&self, addr: &str, kind: SockType) -> OwnedFd {
        let at: SocketAddr = addr.parse().unwrap_or_else(|e| panic!("`{addr}`: {e}"));
        let make = || -> nix::Result<OwnedFd> {
            let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
            if at.is_ipv6() {
                setsockopt(&socket, Ipv6V6Only, &true)?;
            }
            if kind == SockType::Stream {
                setsockopt(&socket, ReuseAddr, &true)?;
            }
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
            Ok(socket)
        };
        self.run(make).unwrap_or_else(|e| panic!("bind {addr}: {e}"))
    }

    /// A connection from inside, with deadlines on all it does.
    pub fn connect_tcp(&self, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
        let stream = self.run(|| TcpStream::connect_timeout(&to, within))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// As [`Self::connect_tcp`], from this address of the namespace's; port 0:
    /// from any.
    pub fn connect_from(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        within: Duration,
    ) -> io::Result<TcpStream> {
        let socket = self.bind(&from.to_string(), SockType::Stream);
        let stream = TcpStream::from(socket);
        // The kernel gives up a connect after this long too.
        stream.set_write_timeout(Some(within))?;
        self.run(|| connect(stream.as_raw_fd(), &SockaddrStorage::from(to)))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection that must come about.
    #[track_caller]
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let stream = self.connect_tcp(to, DEADLINE);
        stream.unwrap_or_else(|e| panic!("connect from {} to {to}: {e}", self.name()))
    }

    /// A UDP socket inside that speaks with `to` alone, with deadlines.
    pub fn udp_to(&self, to: SocketAddr) -> UdpSocket {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.run(|| UdpSocket::bind(any)).expect("bind a UDP socket");
        setsockopt(&socket, RcvBufForce, &BURST).expect("take a large buffer");
        self.run(|| socket.connect(to))
            .unwrap_or_else(|e| panic!("route from {} to {to}: {e}", self.name()));
        socket.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        socket
    }

    /// Sends a datagram again and again until it is echoed: `true`, or until
    /// `within` has passed.
    pub fn udp_echoes(&self, to: SocketAddr, within: Duration) -> bool {
        let socket = self.udp_to(to);
        socket.set_read_timeout(Some(within / 4)).expect("set a deadline");
        (0..4_u8).any(|n| {
            let sent = socket.send(&[n]).is_ok();
            sent && matches!(socket.recv(&mut [0]), Ok(1))
        })
    }
}

/// Sends `data` and reads as many bytes back; they must be the same.
#[track_caller]
pub fn exchange(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(data).expect("send");
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).expect("receive the echo");
    assert_eq!(back, data, "the echo is what was sent");
}

impl Echo {
    fn start(
        addr: SocketAddr,
        listener: Option<RawFd>,
        serve: impl FnOnce(&Arc<Mutex<Vec<Heard>>>, &AtomicBool) + Send + 'static,
    ) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let server = thread::spawn({
            let (heard, stop) = (heard.clone(), stop.clone());
            move || serve(&heard, &stop)
        });
        Self { addr, heard, stop, listener, server: Some(server) }
    }

    /// All that was heard so far, in the order in which it began.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no server thread panics").clone()
    }

    pub fn peers(&self) -> Vec<SocketAddr> {
        self.heard().into_iter().map(|heard| heard.peer).collect()
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes a thread in accept, which owns the socket until it is joined.
        if let Some(listener) = self.listener {
            let _ = shutdown(listener, Shutdown::Both);
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Connections are served until their clients close them.
fn serve_tcp(listener: &TcpListener, heard: &Arc<Mutex<Vec<Heard>>>, stop: &AtomicBool) {
    while let Ok((stream, peer)) = listener.accept() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let index = {
            let mut heard = heard.lock().expect("no server thread panics");
            heard.push(Heard { peer, data: Vec::new() });
            heard.len() - 1
        };
        let heard = heard.clone();
        let connection = move || {
            let _ = stream.set_nodelay(true);
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = (&stream).read(&mut buffer) {
                let data = &buffer[..length];
                heard.lock().expect("no server thread panics")[index].data.extend(data);
                if (&stream).write_all(data).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().stack_size(SMALL_STACK);
        thread.spawn(connection).expect("start a thread for a connection");
    }
}

fn serve_udp(socket: &UdpSocket, heard: &Arc<Mutex<Vec<Heard>>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Acquire) {
        // A deadline, or an ICMP error about an earlier reply: neither ends it.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let data = buffer[..length].to_vec();
        let mut heard = heard.lock().expect("no server thread panics");
        heard.push(Heard { peer, data });
        let _ = socket.send_to(&buffer[..length], peer);
    }
}
