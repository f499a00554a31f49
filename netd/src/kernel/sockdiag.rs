//! Ends sockets of the host's by their cookies, as `ss --kill` does: `sock_diag`
//! (Linux 4.5, `CONFIG_INET_DIAG_DESTROY`). A blocked read or write of theirs
//! returns at once, with `ECONNABORTED`.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
        NetlinkPayload, NetlinkSerializable,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG},
};

#[expect(clippy::cast_possible_truncation, reason = "they are 2 and 10")]
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

#[expect(clippy::cast_possible_truncation, reason = "they are 6 and 17")]
const PROTOCOLS: [u8; 2] = [libc::IPPROTO_TCP as u8, libc::IPPROTO_UDP as u8];
/// In place of a port: connected to any, or not at all.
const ANY: u16 = 0;

/// A socket that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connected {
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// The other end, as the kernel knows it.
    pub address: IpAddr,
    pub port: u16,
}

/// Ends those of `sockets` that are there and still connected as they say;
/// the answer is how many. `EOPNOTSUPP`: this kernel ends none.
pub fn end(sockets: &[Connected]) -> io::Result<usize> {
    let mut by_port: HashMap<_, HashSet<_>> = HashMap::new();
    for socket in sockets {
        by_port
            .entry((socket.protocol, socket.port))
            .or_default()
            .insert((socket.cookie, socket.address));
    }
    let mut ended = 0;
    let mut diag = Diag::open()?;
    for ((protocol, port), wanted) in by_port {
        for family in FAMILIES {
            for id in diag.connected(family, protocol, port)? {
                let other = id.destination_address.to_canonical();
                if wanted.contains(&(cookie(&id), other)) && diag.destroy(family, protocol, id)? {
                    ended += 1;
                }
            }
        }
    }
    Ok(ended)
}

/// The cookies of all TCP and UDP sockets of the host's that are in use.
pub fn alive() -> io::Result<HashSet<u64>> {
    let mut diag = Diag::open()?;
    let mut cookies = HashSet::new();
    for protocol in PROTOCOLS {
        for family in FAMILIES {
            cookies.extend(diag.connected(family, protocol, ANY)?.iter().map(cookie));
        }
    }
    Ok(cookies)
}

/// The kernel tells it as two words, the lower one first.
fn cookie(id: &SocketId) -> u64 {
    let [a, b, c, d, e, f, g, h] = id.cookie;
    let (low, high) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
    u64::from(high) << 32 | u64::from(low)
}

#[derive(Debug)]
struct Diag {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Diag {
    fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// The sockets of the host's that are connected to `port`, or [`ANY`].
    fn connected(&mut self, family: u8, protocol: u8, port: u16) -> io::Result<Vec<SocketId>> {
        let mut id = SocketId::new_v4();
        id.destination_port = port;
        let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT;
        let extensions = ExtensionFlags::empty();
        let request = InetRequest { family, protocol, extensions, states, socket_id: id };
        self.send(SockDiagMessage::InetRequest(request), NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            for message in self.receive::<SockDiagMessage>()? {
                match message {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        found.push(response.header.socket_id);
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }

    /// Whether there was one to be ended.
    fn destroy(&mut self, family: u8, protocol: u8, socket_id: SocketId) -> io::Result<bool> {
        let (extensions, states) = (ExtensionFlags::empty(), StateFlags::all());
        let request = InetRequest { family, protocol, extensions, states, socket_id };
        let request = SockDiagMessage::InetRequest(request);
        self.send(SockDiagDestroy::new(request), NLM_F_ACK)?;
        for message in self.receive::<SockDiagMessage>()? {
            if let NetlinkPayload::Error(error) = message
                && error.code.is_some()
            {
                return match error.to_io() {
                    error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
                    error => Err(error),
                };
            }
        }
        Ok(true)
    }

    fn send<T: NetlinkSerializable>(&self, request: T, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::new(
            rtnetlink::packet_core::NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(request),
        );
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// The messages of one datagram.
    fn receive<T: NetlinkDeserializable>(&mut self) -> io::Result<Vec<NetlinkPayload<T>>> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        let mut rest = self.buffer.as_slice();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            found.push(message.payload);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(found)
    }
}
