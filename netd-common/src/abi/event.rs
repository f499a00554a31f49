//! `EVENTS`: packets that were dropped, for `netd monitor`.

use super::{Address, Be16, pod};

/// A record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// [`Address::ANY`] where the packet has no IP header.
    pub src: Address,
    pub dst: Address,
    /// The link that the program ran on.
    pub ifindex: u32,
    /// A [`crate::verdict::Hook`].
    pub hook: u32,
    /// As in `STATS`.
    pub outcome: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// Drops on this CPU, since its event before, that left no event.
    pub missed: u32,
    pub sport: Be16,
    pub dport: Be16,
    pub ethertype: Be16,
    /// IP protocol number.
    pub proto: u8,
    pub pad: u8,
    pub pad2: u32,
}

pod!(Event: 72);
