//! The end that answers, for IPv4 and IPv6.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result};

use super::{ECHO, ONCE, PATIENCE, SINK};

pub(super) fn main() -> Result<()> {
    let any = Ipv6Addr::UNSPECIFIED;
    let tcp = |port| TcpListener::bind((any, port)).with_context(|| format!("TCP port {port}"));
    let udp = |port| UdpSocket::bind((any, port)).with_context(|| format!("UDP port {port}"));
    let (echo, once) = (tcp(ECHO)?, tcp(ONCE)?);
    let (datagrams, sink) = (udp(ECHO)?, udp(SINK)?);
    thread::spawn(move || serve_echo(&echo));
    thread::spawn(move || serve_once(&once));
    thread::spawn(move || count(&sink));
    match answer(&datagrams)? {}
}

fn serve_echo(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || echo(stream));
    }
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

/// One connection after another: a thread for each would cost more than the
/// network does. The server closes first, as one of HTTP/1.0 does, so that the
/// client's ports are free again.
fn serve_once(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
    }
}

fn answer(socket: &UdpSocket) -> Result<Infallible> {
    let mut buffer = [0; 64];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        // An error is the client's to see, by its silence.
        let _ = socket.send_to(&buffer[..len], from);
    }
}

fn count(socket: &UdpSocket) {
    let mut buffer = [0; 64];
    let mut count = 0_u64;
    loop {
        // Errors are of datagrams that were sent before.
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        if len == 1 {
            let _ = socket.send_to(&count.to_be_bytes(), from);
        } else {
            count += 1;
        }
    }
}
