//! Host ports, held by sockets that nobody reads (DESIGN §4.6): other
//! programs get EADDRINUSE, and the kernel gives the port to no client.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{
            AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt,
            socket, sockopt,
        },
    },
};

use super::{owner, sys};
use crate::model::Protocol;

/// The ports that this agent holds. Dropping it lets all of them go.
#[derive(Debug, Default)]
pub struct HostPorts {
    /// `None`: nothing on this host could take the port.
    held: HashMap<HostPort, Option<OwnedFd>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("failed to bind host port {at}: address already in use")]
    InUse { at: HostPort, owner: Option<String> },
    #[error("failed to bind host port {0}: the host does not have this address")]
    NoAddress(HostPort),
    #[error("failed to bind host port {at}")]
    Bind {
        at: HostPort,
        #[source]
        source: io::Error,
    },
}

impl PortError {
    /// Who is in the way, or what to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { owner, .. } => owner.clone(),
            Self::NoAddress(_) => {
                Some("publish on an address that `ip address` shows, or on 0.0.0.0".to_owned())
            }
            Self::Bind { .. } => None,
        }
    }

    /// The port that someone else holds; another one may be free.
    pub fn refused(&self) -> Option<HostPort> {
        match self {
            Self::InUse { at, .. } => Some(*at),
            _ => None,
        }
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = SocketAddr::new(self.address, self.port);
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        write!(f, "{at}/{protocol}")
    }
}

impl HostPorts {
    /// Holds a port of the calling thread's namespace; one that is held
    /// already stays so.
    pub fn reserve(&mut self, at: HostPort) -> Result<(), PortError> {
        if let Entry::Vacant(free) = self.held.entry(at) {
            free.insert(hold(at)?);
        }
        Ok(())
    }

    /// Lets a port go; one that isn't held is gone already.
    pub fn release(&mut self, at: HostPort) {
        self.held.remove(&at);
    }

    pub fn holds(&self, at: HostPort) -> bool {
        self.held.contains_key(&at)
    }
}

fn hold(at: HostPort) -> Result<Option<OwnedFd>, PortError> {
    match try_hold(at) {
        // A kernel without SCTP gives the port to nobody.
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if at.protocol == Protocol::Sctp => {
            return Ok(None);
        }
        held => held.map(Some),
    }
    .map_err(|errno| match errno {
        Errno::EADDRINUSE => {
            PortError::InUse { at, owner: owner::hint(at.address, at.port, at.protocol) }
        }
        Errno::EADDRNOTAVAIL => PortError::NoAddress(at),
        errno => PortError::Bind { at, source: errno.into() },
    })
}

/// Without `SO_REUSEADDR`: with it on both sides, a socket that doesn't listen
/// is in nobody's way. Without `IP_FREEBIND`, and it can't be inherited: an
/// address that the host doesn't have is refused, unless
/// `net.ipv4.ip_nonlocal_bind` says that it shall not be.
fn try_hold(at: HostPort) -> nix::Result<OwnedFd> {
    let family = match at.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let (kind, protocol) = match at.protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if family == AddressFamily::Inet6 {
        // `[::]` is reserved apart from 0.0.0.0.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if at.protocol == Protocol::Udp {
        // Before it is bound: a datagram must never wait in it.
        sys::drop_all(socket.as_fd())
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    }
    let address = SockaddrStorage::from(SocketAddr::new(at.address, at.port));
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Lets the agent hold as many descriptors as the kernel allows it: each port
/// is one, or two where it is published in both families. To be called once, at
/// start; what it starts later inherits it.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let most = fs::read_to_string("/proc/sys/fs/nr_open")?;
    let most = most.trim().parse().map_err(io::Error::other)?;
    // Above what it was given it needs CAP_SYS_RESOURCE.
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_dockers_do() {
        let at =
            HostPort { address: "0.0.0.0".parse().unwrap(), port: 80, protocol: Protocol::Tcp };
        assert_eq!(
            PortError::InUse { at, owner: None }.to_string(),
            "failed to bind host port 0.0.0.0:80/tcp: address already in use"
        );
    }

    #[test]
    fn an_address_that_the_host_does_not_have_is_refused() {
        let at = HostPort {
            // TEST-NET-1: nobody's.
            address: "192.0.2.1".parse().unwrap(),
            port: 8080,
            protocol: Protocol::Udp,
        };
        let error = HostPorts::default().reserve(at).unwrap_err();
        assert!(matches!(error, PortError::NoAddress(_)), "{error}");
    }
}
