//! `SOCKETS`: what the host's own processes asked for.

use super::{Address, Be16, pod};

/// Key of `SOCKETS`: a socket of the host's and the container that it was
/// sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct SocketKey {
    /// `SO_COOKIE`.
    pub cookie: u64,
    pub addr: Address,
    pub port: Be16,
    pub pad: u16,
    pub pad2: u32,
}

/// Value of `SOCKETS`: the address and port that the process named, and the
/// source that allow-lists took it for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketPeer {
    pub addr: Address,
    pub source: Address,
    pub port: Be16,
    /// IP protocol number.
    pub proto: u8,
    pub pad: u8,
}

pod!(SocketKey: 32, SocketPeer: 36);
