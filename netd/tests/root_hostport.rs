//! Host ports against a real kernel: needs root. Each test has a network
//! namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod root;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use netd::{
    kernel::hostport::{HostPort, HostPorts},
    model::Protocol,
};
use root::{in_netns, ip};

#[test]
fn a_reserved_port_is_nobody_elses_until_it_is_released() {
    in_netns(async |_| {
        ip("link set lo up");
        let mut ports = HostPorts::default();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = HostPort { address: Ipv4Addr::UNSPECIFIED.into(), port: 8080, protocol };
            ports.reserve(at).unwrap();
            ports.reserve(at).unwrap();
            let bind = || match protocol {
                Protocol::Tcp => TcpListener::bind("127.0.0.1:8080").map(drop),
                _ => UdpSocket::bind("127.0.0.1:8080").map(drop),
            };
            assert_eq!(bind().unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
            assert!(
                HostPorts::default().reserve(at).unwrap_err().refused() == Some(at),
                "a second agent is refused"
            );
            ports.release(at);
            // A program that another test is starting has our files until it runs.
            let soon = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while bind().is_err() && std::time::Instant::now() < soon {
                std::thread::yield_now();
            }
            bind().unwrap();
        }
    });
}

#[test]
fn nothing_connects_to_a_reserved_port_and_datagrams_to_it_vanish() {
    in_netns(async |_| {
        ip("link set lo up");
        let mut ports = HostPorts::default();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let address = Ipv4Addr::LOCALHOST.into();
            ports.reserve(HostPort { address, port: 8080, protocol }).unwrap();
        }
        let to = SocketAddr::from(([127, 0, 0, 1], 8080));
        assert!(TcpStream::connect(to).is_err());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            socket.send_to(b"hello", to).unwrap();
        }
        let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        let line = table.lines().find(|line| line.contains(":1F90")).unwrap();
        // Nothing queued: rx_queue is the second half of the fifth word.
        assert!(line.contains(" 00000000:00000000 "), "{line}");
    });
}

#[test]
fn the_owner_of_a_taken_port_is_named() {
    in_netns(async |_| {
        ip("link set lo up");
        let own = format!("(pid {})", std::process::id());
        let tcp = TcpListener::bind("0.0.0.0:8080").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:8080").unwrap();
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let error = HostPorts::default()
                .reserve(HostPort { address: Ipv4Addr::LOCALHOST.into(), port: 8080, protocol })
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("failed to bind host port 127.0.0.1:8080/{name}: address already in use")
            );
            let hint = error.hint().unwrap();
            assert!(hint.starts_with("by process `") && hint.ends_with(&own), "{hint}");
        }
        drop((tcp, udp));
    });
}
