//! The host's own sockets that were sent to a container: which of them were
//! sent there by a published port that is no more, and which are no more.

use std::{
    collections::HashSet,
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::maps::{HashMap, Map, MapData};
use netd_common::{
    abi::{Address, PortKey, PortTarget, SocketKey, SocketPeer, names},
    pipeline::published,
};

use super::{
    Error,
    allow::AllowLists,
    bpf,
    tables::{failed, pinned},
};

#[derive(Debug)]
pub struct SocketTable {
    data: MapData,
    ports: HashMap<MapData, PortKey, PortTarget>,
    allow: AllowLists,
    /// Those that the last sweep found no socket for: it may just have been in
    /// the making.
    suspects: Mutex<HashSet<SocketKey>>,
}

/// Below this a sweep lets the dead lie. At four times as much the kernel
/// begins to push out entries, of living sockets too.
const FEW: usize = 16_384;

impl SocketTable {
    pub(super) fn open(pins: &Path) -> Result<Self, Error> {
        let ports = Map::HashMap(pinned(pins, names::PORTS)?);
        Ok(Self {
            data: pinned(pins, names::SOCKETS)?,
            ports: ports.try_into().map_err(failed(names::PORTS))?,
            allow: AllowLists::pinned(pins)?,
            suspects: Mutex::default(),
        })
    }

    /// The sockets that a published port has led to where it no longer leads,
    /// or let in where it no longer does, and what they asked for.
    pub fn stray(&self) -> Result<Vec<(SocketKey, SocketPeer)>, Error> {
        let ports = |port: &PortKey| self.ports.get(port, 0).ok();
        let allows = |list, source: &Address| self.allow.has(list, source);
        let mut found = self.entries()?;
        found.retain(|(key, peer)| !leads_to(ports, allows, peer, key));
        Ok(found)
    }

    /// Forgets sockets that are not among the cookies `alive`, which is asked
    /// for only where there is much to forget. Gives how many were forgotten.
    pub fn sweep(&self, alive: impl FnOnce() -> io::Result<HashSet<u64>>) -> Result<usize, Error> {
        let mut dead = self.entries()?;
        if dead.len() < FEW {
            return Ok(0);
        }
        let alive = alive().map_err(Error::Sockets)?;
        dead.retain(|(key, _)| !alive.contains(&key.cookie));
        let dead: HashSet<_> = dead.into_iter().map(|(key, _)| key).collect();
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<_> = suspects.intersection(&dead).copied().collect();
        *suspects = dead;
        self.forget(&over)?;
        Ok(over.len())
    }

    fn entries(&self) -> Result<Vec<(SocketKey, SocketPeer)>, Error> {
        let mut found = Vec::new();
        bpf::walk(self.data.fd().as_fd(), |keys: &[SocketKey], peers: &[SocketPeer]| {
            found.extend(keys.iter().copied().zip(peers.iter().copied()));
        })
        .map_err(|source| Error::Walk { name: names::SOCKETS, source })?;
        Ok(found)
    }

    pub fn forget(&self, keys: &[SocketKey]) -> Result<(), Error> {
        bpf::delete(self.data.fd().as_fd(), keys)
            .map_err(|source| Error::Walk { name: names::SOCKETS, source })
    }
}

/// Whether what a socket asked for leads to where it was sent, and lets it in.
fn leads_to(
    ports: impl Fn(&PortKey) -> Option<PortTarget>,
    allows: impl Fn(u32, &Address) -> bool,
    asked: &SocketPeer,
    key: &SocketKey,
) -> bool {
    let by_loopback6 = (asked.addr == Address::LOOPBACK6)
        .then(|| published::by_loopback6(asked.proto, asked.port));
    let keys = published::keys(asked.proto, &asked.addr, asked.port).into_iter();
    let target = keys.chain(by_loopback6).find_map(|port| ports(&port));
    target.is_some_and(|target| {
        let open = target.allow == 0 || allows(target.allow, &asked.source);
        open && (target.addr, target.port) == (key.addr, key.port)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use netd_common::abi::{Be16, wire::PROTO_TCP};

    use super::*;

    const WEB: Address = Address::v4([172, 17, 0, 2]);
    const OTHER: Address = Address::v4([172, 17, 0, 3]);

    const LIST: u32 = 3;

    fn asks(asked: impl Into<Address>, published: Address, target: Address) -> bool {
        asks_from(Address::ANY, asked, published, target)
    }

    fn asks_from(
        source: impl Into<Address>,
        asked: impl Into<Address>,
        published: Address,
        target: Address,
    ) -> bool {
        let source = source.into();
        let (port, inner) = (Be16::from_host(8080), Be16::from_host(80));
        let allows = |list, source: &Address| list == LIST && source.is_loopback();
        let ports = |key: &PortKey| {
            let this = PortKey { addr: published, port, proto: PROTO_TCP, pad: 0 };
            let allow = if source == Address::ANY { 0 } else { LIST };
            let target = PortTarget { addr: target, port: inner, allow, ..PortTarget::default() };
            (*key == this).then_some(target)
        };
        let peer = SocketPeer { addr: asked.into(), source, port, proto: PROTO_TCP, pad: 0 };
        let key = SocketKey { addr: WEB, port: inner, ..SocketKey::default() };
        leads_to(ports, allows, &peer, &key)
    }

    #[test]
    fn a_socket_stays_as_long_as_its_port_does() {
        let host = Ipv4Addr::new(192, 0, 2, 1);
        assert!(asks(host, Address::ANY, WEB));
        assert!(asks(host, host.into(), WEB));
        assert!(asks(Ipv4Addr::LOCALHOST, Address::ANY, WEB));
        assert!(asks(Ipv6Addr::LOCALHOST, Address::ANY, WEB));
        assert!(asks(Ipv6Addr::LOCALHOST, Address::ANY6, WEB));
    }

    #[test]
    fn and_as_long_as_its_port_lets_it_in() {
        let (loopback, host) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1));
        assert!(asks_from(loopback, loopback, Address::ANY, WEB));
        assert!(!asks_from(host, host, Address::ANY, WEB));
    }

    #[test]
    fn and_goes_when_it_leads_elsewhere_or_nowhere() {
        let (host, second) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 9));
        assert!(!asks(host, Address::ANY, OTHER));
        assert!(!asks(host, second.into(), WEB));
        assert!(!asks(host, Address::ANY6, WEB));
    }
}
