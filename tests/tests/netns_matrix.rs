//! Every path of the product by every protocol, printed as one table.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Result, ensure};
use netd_tests::{Agent, Container, Echo, Family, NetNs, Offload, Topology, probe, topology::at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Neighbour,
    Out,
    In,
    HostByAddress,
    HostByLoopback,
    Hairpin,
    Itself,
    Across,
}

const PATHS: [(Path, &str); 8] = [
    (Path::Neighbour, "container → container"),
    (Path::Out, "container → outside"),
    (Path::In, "outside → published port"),
    (Path::HostByAddress, "host → published, by its address"),
    (Path::HostByLoopback, "host → published, by loopback"),
    (Path::Hairpin, "hairpin to another container"),
    (Path::Itself, "hairpin to itself"),
    (Path::Across, "across networks"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Tcp,
    Udp,
    Icmp,
    /// UDP in datagrams of 8 KB.
    Fragments,
}

const CELLS: [(Cell, &str); 4] =
    [(Cell::Tcp, "TCP"), (Cell::Udp, "UDP"), (Cell::Icmp, "ICMP"), (Cell::Fragments, "8 KB UDP")];

const OFFLOADS: [(Offload, &str); 2] = [(Offload::Default, "plain"), (Offload::TxOff, "tx off")];

/// Echo servers of one namespace and family.
struct Servers {
    tcp: Echo,
    udp: Echo,
}

impl Servers {
    fn start(ns: &NetNs, family: Family, port: u16) -> Self {
        Self { tcp: ns.echo_tcp(&family.any(port)), udp: ns.echo_udp(&family.any(port)) }
    }
}

/// The world that all cells share: `web` and `client` in one network, `other`
/// in another; `web` publishes 8080, `other` 8081.
struct Scene {
    web: Container,
    client: Container,
    other: Container,
    _agent: Agent,
    net: Topology,
}

impl Scene {
    fn set() -> Self {
        let net = Topology::new();
        let agent = net.agent();
        let v6 = |subnet: &str| format!("--ipv6 --subnet {subnet}");
        agent.network("a", "172.18.0.0/24", &v6("fd00:18::/64"));
        agent.network("b", "172.19.0.0/24", &v6("fd00:19::/64"));
        let web = agent.container("web", "--network a -p 8080:80 -p 8080:80/udp");
        let client = agent.container("client", "--network a");
        let other = agent.container("other", "--network b -p 8081:80 -p 8081:80/udp");
        Self { web, client, other, _agent: agent, net }
    }

    /// From where to where, to which server, and as whom it sees the client.
    fn ends<'a>(&'a self, path: Path, family: Family, servers: &'a AllServers) -> Ends<'a> {
        let gateway = family
            .pick(Ipv4Addr::new(172, 18, 0, 1).into(), "fd00:18::1".parse().expect("an address"));
        let client = self.client.address(family);
        let published = at(family.host(), 8080);
        let (from, to, server, seen) = match path {
            Path::Neighbour => {
                (&self.client.ns, at(self.web.address(family), 80), &servers.web, client)
            }
            Path::Out => {
                (&self.client.ns, at(family.outside(), 7), &servers.outside, family.host())
            }
            Path::In => (&self.net.outside, published, &servers.web, family.outside()),
            Path::HostByAddress => (&self.net.host, published, &servers.web, gateway),
            Path::HostByLoopback => {
                (&self.net.host, at(family.loopback(), 8080), &servers.web, gateway)
            }
            Path::Hairpin => (&self.client.ns, published, &servers.web, client),
            Path::Itself => (&self.web.ns, published, &servers.web, gateway),
            Path::Across => (&self.client.ns, at(family.host(), 8081), &servers.other, client),
        };
        Ends { from, to, server, seen }
    }

    fn namespaces(&self) -> [&NetNs; 5] {
        let Self { web, client, other, net, .. } = self;
        [&net.host, &net.outside, &web.ns, &client.ns, &other.ns]
    }
}

struct AllServers {
    web: Servers,
    other: Servers,
    outside: Servers,
}

struct Ends<'a> {
    from: &'a NetNs,
    to: SocketAddr,
    server: &'a Servers,
    seen: IpAddr,
}

impl Ends<'_> {
    /// None: there is no such thing.
    fn run(&self, path: Path, cell: Cell) -> Option<Result<()>> {
        let Self { from, to, server, seen } = self;
        // Odd and even, below, at and above what one segment takes.
        let talk = match cell {
            Cell::Tcp => probe::tcp(from, *to, &server.tcp, &[1, 1447, 1460, 40_001, 7]),
            Cell::Udp => probe::udp(from, *to, &server.udp, &[5, 64, 333, 1400, 1452]),
            Cell::Fragments => probe::udp(from, *to, &server.udp, &[8000, 8192, 1501, 4003]),
            Cell::Icmp if matches!(path, Path::Neighbour | Path::Out) => {
                return Some(probe::ping(from, *to, &[0, 57, 1400]));
            }
            // A published port is one of TCP or UDP.
            Cell::Icmp => return None,
        };
        Some(talk.and_then(|(peer, own)| {
            ensure!(peer.ip() == *seen, "the server saw {peer}, not {seen} (it was {own})");
            let kept = matches!(path, Path::Neighbour | Path::In | Path::Across);
            ensure!(!kept || peer.port() == own.port(), "the server saw {peer}, not {own}");
            Ok(())
        }))
    }
}

#[test]
fn everyone_speaks_with_everyone_by_everything() {
    let scene = Scene::set();
    let mut table = String::new();
    let mut failures = Vec::new();
    for (offload, offload_name) in OFFLOADS {
        scene.net.set_offload(offload, &[&scene.web, &scene.client, &scene.other]);
        for family in Family::ALL {
            let heading = format!("{family}, {offload_name}");
            let _ = write!(table, "\n{heading:34}");
            for (_, name) in CELLS {
                let _ = write!(table, "{name:>10}");
            }
            table.push('\n');
            let servers = AllServers {
                web: Servers::start(&scene.web.ns, family, 80),
                other: Servers::start(&scene.other.ns, family, 80),
                outside: Servers::start(&scene.net.outside, family, 7),
            };
            for (path, path_name) in PATHS {
                let _ = write!(table, "{path_name:34}");
                let ends = scene.ends(path, family, &servers);
                for (cell, name) in CELLS {
                    let word = match ends.run(path, cell) {
                        None => "–",
                        Some(Ok(())) => "pass",
                        Some(Err(error)) => {
                            failures.push(format!("{heading}: {path_name}, {name}: {error:#}"));
                            "FAIL"
                        }
                    };
                    let _ = write!(table, "{word:>10}");
                }
                table.push('\n');
            }
        }
    }
    for ns in scene.namespaces() {
        match ns.checksum_errors() {
            0 => {}
            errors => failures.push(format!("{errors} InCsumErrors in {}", ns.name())),
        }
    }
    // Not captured: the table is what this test is for.
    std::io::stderr().write_all(table.as_bytes()).expect("print the table");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
