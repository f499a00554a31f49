//! `PORTS`, `ALLOW` and `SYN_RATES`: published ports and who may reach them.

use super::{Address, Be16, pod};

/// Key of `PORTS`. `addr` is a host address, [`Address::ANY`] (any IPv4 address
/// of the host), [`Address::ANY6`] (any IPv6 one), or on a routed network the
/// container's own.
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
    /// Source allow-list, see [`AllowKey`]; 0: everyone.
    pub allow: u32,
    /// TCP SYNs that it takes in a second (`netd.syn_rate`); 0: any number.
    pub syn_rate: u32,
}

/// Key of `ALLOW` (LPM), whose prefix is 32 bits of list and those of the
/// address: an entry allows its sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct AllowKey {
    pub list: u32,
    pub addr: Address,
}

/// Value of `SYN_RATES`, by [`PortKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SynRate {
    /// Seconds of `CLOCK_MONOTONIC` that `count` is of.
    pub second: u32,
    pub count: u32,
}

pod!(PortKey: 20, PortTarget: 28, AllowKey: 20, SynRate: 8);
