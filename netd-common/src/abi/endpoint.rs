//! `ENDPOINTS`, `LINKS`, `NETWORKS`, `TRUSTED`, `SUBNETS` and `HOST_ADDRS`: who is
//! where, and who may reach whom.

use super::{Address, Mac, pod};

/// Value of `ENDPOINTS`, by each of the endpoint's addresses: IPv4, IPv6 and
/// the link-local one that is made of its MAC (RFC 4291, appendix A). Written by the IPAM
/// controller before a lease is acknowledged. For as long as the container's
/// end is in the host's namespace `redirect_peer` drops what is for it.
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
    /// It may reach the host at all of the host's addresses: its network is
    /// neither internal nor isolated in any family.
    pub const MEETS_HOST: u32 = 1 << 2;
}

/// Value of `LINKS`, by the ifindex of an endpoint's host-side veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Link {
    /// The network's index.
    pub network: u32,
    /// `Link::*` bits.
    pub flags: u32,
}

impl Link {
    /// The network has IPv6.
    pub const IPV6: u32 = 1;
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    V4 = 0,
    V6 = 1,
}

/// Key of `NETWORKS`: a network has a policy for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NetworkKey(pub u32);

impl NetworkKey {
    #[inline(always)]
    pub const fn new(index: u32, family: Family) -> Self {
        Self(index << 1 | family as u32)
    }
}

/// Value of `NETWORKS`: how packets of one family cross a network's border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Network {
    /// The bridge, whose forwarding is on.
    pub bridge_ifindex: u32,
    /// `Network::*` bits.
    pub flags: u32,
    /// The gateway: source of a container that reaches itself.
    pub gateway: Address,
    /// Source of masqueraded packets (`host_ipv4`, `host_ipv6`);
    /// [`Address::ANY`]: the route's, or else the uplink's.
    pub source: Address,
}

impl Network {
    /// Outbound packets take a host address as source.
    pub const MASQUERADE: u32 = 1;
    /// No way in or out of the network but the bridge itself.
    pub const INTERNAL: u32 = 1 << 1;
    /// Containers of the network may reach each other.
    pub const ICC: u32 = 1 << 2;
    /// Others may reach every port of a container at its own address
    /// (gateway mode `nat-unprotected`).
    pub const UNPROTECTED: u32 = 1 << 3;
    /// Others may ping a container at its own address (gateway mode `routed`;
    /// its published ports are in `PORTS` under that address).
    pub const ROUTED: u32 = 1 << 4;
    /// The host is no member of the network (gateway mode `isolated`).
    pub const ISOLATED: u32 = 1 << 5;
    /// The gateway is not the host (`inhibit_ipv4`): what is sent to another
    /// MAC than the bridge's is the bridge's to carry.
    pub const INHIBITED: u32 = 1 << 6;
}

/// Key of `TRUSTED`: whoever comes in by this link reaches the network's
/// containers at their own addresses (`trusted_host_interfaces`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct TrustedKey {
    /// The network's index.
    pub network: u32,
    pub ifindex: u32,
}

/// Key of `SUBNETS` (LPM), value: the network's index. `bits` counts from the
/// start of the 16-byte address, so an IPv4 prefix adds 96.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix {
    pub bits: u32,
    pub addr: Address,
}

pod!(Endpoint: 28, Link: 8, NetworkKey: 4, Network: 40, TrustedKey: 8, Prefix: 20);
