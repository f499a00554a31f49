//! `PORTS`: published ports.

use super::{Address, Be16, pod};

/// Key of `PORTS`. `addr` is a host address or [`Address::ANY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PortKey {
    pub addr: Address,
    pub port: Be16,
    /// IP protocol number.
    pub proto: u8,
    pub pad: u8,
}

/// Value of `PORTS`: the container and its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortTarget {
    pub addr: Address,
    pub port: Be16,
    pub pad: u16,
    /// Source allow-list; 0: everyone.
    pub allow: u32,
}

pod!(PortKey: 20, PortTarget: 24);
