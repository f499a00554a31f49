//! `FRAGMENTS`: the ports of a datagram, for the fragments that don't have them.

use super::{Address, Be16, pod};

/// Key of `FRAGMENTS`: what all fragments of a datagram have in common
/// (RFC 791 §3.2, RFC 8200 §4.5), and where they entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey {
    pub src: Address,
    pub dst: Address,
    /// As it stands in the header: IPv4's 16 bits or IPv6's 32.
    pub id: u32,
    /// IPv4's protocol number; 0 with IPv6, where later fragments don't tell.
    pub proto: u8,
    /// A [`super::Zone`], or [`FragmentKey::LEAVING`].
    pub zone: u8,
    pub pad: u16,
}

impl FragmentKey {
    /// What the stack forwarded, at the uplink.
    pub const LEAVING: u8 = 2;
}

/// Value of `FRAGMENTS`: one datagram. It goes when all of the datagram has
/// come by, so that its id can't lead a later one astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fragment {
    pub sport: Be16,
    pub dport: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// `Fragment::*` bits.
    pub flags: u8,
    pub pad: u16,
    /// Bytes that have come by.
    pub seen: u32,
    /// Bytes of the whole; 0: not known before the last fragment.
    pub total: u32,
    /// Seconds of `CLOCK_MONOTONIC` at which it began.
    pub begun: u32,
}

impl Fragment {
    /// A fragment came before the first one and went to the stack: the rest
    /// can't be put together elsewhere.
    pub const BROKEN: u8 = 1;
    /// The first fragment has come by: the ports are there.
    pub const KNOWN: u8 = 1 << 1;
}

pod!(FragmentKey: 40, Fragment: 20);
