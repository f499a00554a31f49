//! A process's call on a socket, as the kernel would show it to a program.

use crate::{
    abi::{Address, Be16},
    pipeline::socket::SocketCall,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub netns: u64,
    pub cookie: u64,
    pub proto: u8,
    pub peer: (Address, Be16),
    pub source: Address,
    pub bound_to_link: bool,
}

impl Call {
    /// An unbound socket of the host's names `addr` and `port`.
    pub fn to(addr: impl Into<Address>, port: u16, proto: u8) -> Self {
        Self {
            netns: 1,
            cookie: 7,
            proto,
            peer: (addr.into(), Be16::from_host(port)),
            source: Address::ANY,
            bound_to_link: false,
        }
    }
}

impl SocketCall for Call {
    fn netns(&self) -> u64 {
        self.netns
    }

    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn proto(&self) -> u8 {
        self.proto
    }

    fn peer(&self) -> (Address, Be16) {
        self.peer
    }

    fn set_peer(&mut self, addr: &Address, port: Be16) {
        self.peer = (*addr, port);
    }

    fn source(&self) -> Address {
        self.source
    }

    fn is_bound_to_link(&self) -> bool {
        self.bound_to_link
    }
}
