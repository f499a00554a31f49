//! Many flows at once: from each of many source ports a datagram to each of a
//! few ports of the server's, answered by it. What is between keeps them until
//! it forgets them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

/// Ports that the server answers at, from here on.
const FIRST_PORT: u16 = 9000;
/// The highest source port; they are taken downwards.
const LAST_SOURCE: u16 = 65_535;
/// How many answers may be on their way.
const WINDOW: u16 = 24;
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's address; none: be the server
    address: Option<IpAddr>,
    /// How many flows
    #[arg(long, default_value_t = 100)]
    count: u32,
}

/// Ports of the server's: with 60,000 source ports, room for a million flows.
const PORTS: u16 = 17;

pub(super) fn main(args: &Args) -> Result<()> {
    let Some(address) = args.address else { return serve() };
    let (mut open, mut source) = (0, LAST_SOURCE);
    while open < args.count {
        ensure!(source > 1024, "no source ports are left");
        let any = match address {
            IpAddr::V4(_) => "0.0.0.0",
            IpAddr::V6(_) => "::",
        };
        let socket = UdpSocket::bind((any, source));
        source -= 1;
        // Somebody may have that one.
        let Ok(socket) = socket else { continue };
        socket.set_read_timeout(Some(PATIENCE))?;
        let wanted = u32::from(PORTS).min(args.count - open);
        open += round(&socket, address, u16::try_from(wanted)?)?;
    }
    println!("{open}");
    Ok(())
}

/// Opens `wanted` flows from one port; gives how many were answered.
fn round(socket: &UdpSocket, address: IpAddr, wanted: u16) -> Result<u32> {
    debug_assert!(wanted <= WINDOW, "the socket's buffer holds the answers");
    for n in 0..wanted {
        socket.send_to(&[0], SocketAddr::new(address, FIRST_PORT + n))?;
    }
    let mut answers = 0;
    let mut byte = [0];
    while answers < wanted && socket.recv(&mut byte).is_ok() {
        answers += 1;
    }
    ensure!(answers > 0, "no answers");
    Ok(u32::from(answers))
}

fn serve() -> Result<()> {
    let mut threads = Vec::new();
    for n in 0..PORTS {
        let socket = UdpSocket::bind(("::", FIRST_PORT + n))?;
        threads.push(thread::spawn(move || {
            let mut byte = [0; 8];
            while let Ok((len, from)) = socket.recv_from(&mut byte) {
                let _ = socket.send_to(&byte[..len], from);
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}
