//! `cargo xtask load`: the load generator of the benchmark, for the modes that
//! iperf3 has not: one request after another, on one connection or on a new one
//! each, and small datagrams one way. [`Serve`](What::Serve) answers all of
//! them; a client prints one line of JSON. Knows nothing of what lies between.

mod client;
mod flows;
mod serve;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Answer all kinds of load until killed
    Serve,
    /// Be one client, and print what it measured
    Client(Client),
    /// Open many flows, each of one answered datagram, and print how many
    Flows(flows::Args),
}

#[derive(Debug, clap::Args)]
struct Client {
    mode: Mode,
    address: IpAddr,
    /// Added to the ports that the server has
    #[arg(long, default_value_t = 0)]
    shift: u16,
    /// How long to measure, after a short warm-up
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// One byte there and one back, on one connection
    TcpRr,
    /// One byte there and one back, each a datagram
    UdpRr,
    /// Connect, one byte there and one back, close
    Crr,
    /// Datagrams of 64 bytes, one way
    UdpPps,
}

/// TCP and UDP: each byte is answered with one.
const ECHO: u16 = 7000;
/// TCP: one byte is answered with one, and the connection closed.
const ONCE: u16 = 7001;
/// UDP: datagrams are counted; one of a single byte asks for the count.
const SINK: u16 = 7002;

/// How long an answer may take. What takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn main(args: &Args) -> Result<()> {
    match &args.what {
        What::Serve => serve::main(),
        What::Client(client) => client::main(client),
        What::Flows(args) => flows::main(args),
    }
}

impl Client {
    fn server(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port + self.shift)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}
