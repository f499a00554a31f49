//! `ENDPOINTS`, `NETWORKS`, `SUBNETS` and `HOST_ADDRS`: who is where.

use super::{Address, Mac, pod};

/// Value of `ENDPOINTS`, by the endpoint's [`Address`]. Written by the IPAM
/// controller before a lease is acknowledged, and once the container's end is
/// in a namespace of its own: `redirect_peer` drops what it can't take there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Endpoint {
    /// Host-side veth, in the agent's namespace.
    pub ifindex: u32,
    /// The network's index, key of `NETWORKS`.
    pub network: u32,
    pub mac: Mac,
    /// What the container sees as the gateway's MAC.
    pub gateway_mac: Mac,
    /// `Endpoint::*` bits.
    pub flags: u32,
    /// Seconds of `CLOCK_MONOTONIC` at which the endpoint last sent; 0: never.
    pub last_seen: u32,
}

impl Endpoint {
    /// It has published ports: its on-link packets may be replies of a hairpin.
    pub const PUBLISHED: u32 = 1;
    /// Its neighbours may reach it ([`Network::ICC`], kept here so that a
    /// delivery needs no look-up of its network).
    pub const ICC: u32 = 1 << 1;
}

/// Value of `NETWORKS`, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Network {
    /// The bridge, whose forwarding is on.
    pub bridge_ifindex: u32,
    /// `Network::*` bits.
    pub flags: u32,
    /// The gateway: source of a container that reaches itself.
    pub gateway: Address,
}

impl Network {
    /// Outbound packets take a host address as source.
    pub const MASQUERADE: u32 = 1;
    /// No way in or out of the network but the bridge itself.
    pub const INTERNAL: u32 = 1 << 1;
    /// Containers of the network may reach each other.
    pub const ICC: u32 = 1 << 2;
}

/// Key of `SUBNETS` (LPM), value: the network's index. `bits` counts from the
/// start of the 16-byte address, so an IPv4 prefix adds 96.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix {
    pub bits: u32,
    pub addr: Address,
}

pod!(Endpoint: 28, Network: 24, Prefix: 20);
