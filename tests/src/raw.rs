//! Whole Ethernet frames in and out of a link (`AF_PACKET`).

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    net::if_::if_nametoindex,
    sys::{
        socket::{
            AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType,
            SockaddrLike as _, bind, recv, send, sendmmsg, setsockopt, socket,
            sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::NetNs;

/// Sends and sees frames of one link, in both directions.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
    pub mac: [u8; 6],
    pub ifindex: u32,
}

impl RawSocket {
    pub fn open(ns: &NetNs, link: &str) -> Self {
        ns.run(|| Self::open_here(link))
    }

    fn open_here(link: &str) -> Self {
        let ifindex = if_nametoindex(link).unwrap_or_else(|e| panic!("find {link}: {e}"));
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("open a packet socket");
        let links = getifaddrs().expect("list links").filter(|i| i.interface_name == link);
        let address = links
            .filter_map(|i| i.address)
            .find(|a| a.family() == Some(AddressFamily::Packet))
            .expect("every link has a link address");
        bind(socket.as_raw_fd(), &address).expect("bind the packet socket");
        let mac = address.as_link_addr().and_then(nix::sys::socket::LinkAddr::addr);
        Self { socket, mac: mac.expect("an Ethernet address"), ifindex }
    }

    pub(crate) fn into_inner(self) -> OwnedFd {
        self.socket
    }

    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "send a frame");
    }

    /// Sends many frames by as few calls as it takes.
    #[track_caller]
    pub fn send_all(&self, frames: &[[IoSlice<'_>; 1]]) {
        let mut left = frames;
        while !left.is_empty() {
            let mut headers = MultiHeaders::<()>::preallocate(left.len(), None);
            let addresses = vec![None; left.len()];
            let socket = self.socket.as_raw_fd();
            let none = MsgFlags::empty();
            match sendmmsg(socket, &mut headers, left, &addresses, [], none) {
                Ok(sent) => left = &left[sent.count()..],
                // The link's queue is full for the moment.
                Err(Errno::ENOBUFS) => thread::yield_now(),
                Err(error) => panic!("send frames: {error}"),
            }
        }
    }

    /// The first frame that is `wanted`, seen before `within` has passed.
    pub fn wait_for(
        &self,
        within: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let start = Instant::now();
        let mut frame = vec![0; 1 << 16];
        while let Some(left) = within.checked_sub(start.elapsed()) {
            let left = i64::try_from(left.as_micros()).expect("a short wait").max(1);
            setsockopt(&self.socket, ReceiveTimeout, &TimeVal::microseconds(left))
                .expect("set a deadline");
            if let Ok(length) = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty())
                && wanted(&frame[..length])
            {
                frame.truncate(length);
                return Some(frame);
            }
        }
        None
    }
}
