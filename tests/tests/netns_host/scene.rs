//! A host, a container with a published port, and processes that ask for it.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use netd_tests::{
    Agent, Container, DEADLINE, Echo, Family, NetNs, Topology, exchange, topology::at,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub(crate) const SECOND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 9);
pub(crate) const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// How a process speaks to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    /// By `connect` and `send`.
    UdpConnected,
    /// By `sendto` alone.
    Udp,
}

pub(crate) const WAYS: [Way; 3] = [Way::Tcp, Way::UdpConnected, Way::Udp];

impl Way {
    /// Asks `to` from a socket that is bound to `from`; gives the peer, as
    /// `getpeername` and `recvfrom` tell it.
    pub(crate) fn ask_from(
        self,
        ns: &NetNs,
        from: IpAddr,
        to: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let patience = Some(DEADLINE);
        if self == Self::Tcp {
            let mut stream = connect_from(ns, from, to)?;
            stream.set_read_timeout(patience)?;
            stream.write_all(b"hello")?;
            stream.read_exact(&mut [0; 5])?;
            return stream.peer_addr();
        }
        let socket = ns.run(|| UdpSocket::bind((from, 0)))?;
        socket.set_read_timeout(patience)?;
        if self == Self::UdpConnected {
            socket.connect(to)?;
            assert_eq!(socket.peer_addr()?, to, "getpeername");
            socket.send(b"hello")?;
        } else {
            socket.send_to(b"hello", to)?;
        }
        let (length, peer) = socket.recv_from(&mut [0; 16])?;
        assert_eq!(length, 5);
        Ok(peer)
    }

    pub(crate) fn ask(self, ns: &NetNs, to: SocketAddr) -> io::Result<SocketAddr> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let any = family.pick(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        self.ask_from(ns, any, to)
    }
}

/// `std` has no way to bind before it connects.
pub(crate) fn connect_from(ns: &NetNs, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = ns.run(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))?;
    if !from.is_unspecified() {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// A host with two addresses of each family, an agent, and a container with
/// the port 8080 and servers of both protocols behind it.
pub(crate) struct Scene {
    pub(crate) net: Topology,
    pub(crate) agent: Agent,
    pub(crate) web: Container,
    pub(crate) tcp: Echo,
    pub(crate) udp: Echo,
    pub(crate) family: Family,
}

impl Scene {
    /// A container that has IPv4 alone, or the IPv6 half of one that has both.
    pub(crate) fn new(family: Family) -> Self {
        Self::with(family, "")
    }

    /// With something behind each port, such as `,from=…`.
    pub(crate) fn with(family: Family, suffix: &str) -> Self {
        let net = Topology::new();
        net.host.ip(&format!("addr add {SECOND}/24 dev up0"));
        net.host.ip(&format!("addr add {SECOND6}/64 dev up0 nodad"));
        let agent = net.agent();
        let v6 = family.pick("", "--ipv6 --subnet fd00:30::/64");
        agent.network("n", "172.30.0.0/24", v6);
        let ports = format!("--network n -p 8080:80/tcp{suffix} -p 8080:80/udp{suffix}");
        let web = agent.container("web", &ports);
        let any = family.any(80);
        let (tcp, udp) = (web.ns.echo_tcp(&any), web.ns.echo_udp(&any));
        Self { net, agent, web, tcp, udp, family }
    }

    pub(crate) fn host(&self) -> &NetNs {
        &self.net.host
    }

    /// The port at the address that `localhost` is.
    pub(crate) fn local(&self) -> SocketAddr {
        at(self.family.loopback(), 8080)
    }

    /// The port at the host's first address.
    pub(crate) fn first(&self) -> SocketAddr {
        at(self.family.host(), 8080)
    }

    /// The host's other address.
    pub(crate) fn second(&self) -> IpAddr {
        self.family.pick(SECOND.into(), SECOND6.into())
    }

    /// Where the container's servers see the last client.
    pub(crate) fn client(&self, way: Way) -> IpAddr {
        let server = if way == Way::Tcp { &self.tcp } else { &self.udp };
        server.peers().last().expect("a client").ip()
    }

    pub(crate) fn gateway(&self) -> IpAddr {
        let [v4, v6] = ["172.30.0.1", "fd00:30::1"].map(|text| text.parse().expect("an address"));
        self.family.pick(v4, v6)
    }
}

/// What holds for both families.
pub(crate) fn each(test: impl Fn(Scene)) {
    for family in Family::ALL {
        eprintln!("--- {family}");
        test(Scene::new(family));
    }
}

/// A TCP and a UDP socket of the host's that are connected, and have spoken.
pub(crate) fn connected(scene: &Scene) -> (TcpStream, UdpSocket) {
    let mut stream = scene.host().connect(scene.local());
    exchange(&mut stream, b"hello");
    let socket = scene.host().udp_to(scene.local());
    socket.send(b"hello").expect("send");
    socket.recv(&mut [0; 16]).expect("an echo");
    (stream, socket)
}
