//! A host with networks of every kind, two uplinks and published ports, all of
//! it for both families, for tests.
//!
//! ```text
//! one        172.18.0.0/16  fd00:0:0:1::/64  WEB (published) and CLIENT
//! quiet      172.19…        fd00:0:0:2…      QUIET (published) and SHY; enable_icc=false;
//!                                            UP1 is trusted
//! inner      172.20…        fd00:0:0:3…      INNER; internal
//! unmasked   172.21…        fd00:0:0:4…      ROUTED; no masquerade
//! open       172.22…        fd00:0:0:5…      OPEN; gateway mode nat-unprotected
//! direct     172.23…        fd00:0:0:6…      DIRECT (published); gateway mode routed
//! apart      172.24…        fd00:0:0:7…      APART; gateway mode isolated
//! fixed      172.25…        fd00:0:0:8…      FIXED; host_ipv4 and host_ipv6 are ALIAS
//! legacy     172.26…        none             LEGACY
//! inhibited  172.27…        fd00:0:0:a…      INHIBITED; inhibit_ipv4
//! ```
//!
//! [`world`] is what the agent would have written to the maps, and the routes
//! that [`COMMANDS`] make in a real namespace.

mod host;

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Index,
};
use std::vec::Vec;

pub use host::{COMMANDS, FORWARDING, SOCKETS, world};

use super::{Datagram, Frame, Layer4, std};
use crate::abi::{
    Endpoint, Family, Mac,
    wire::{PROTO_TCP, PROTO_UDP},
};

/// The uplink of the default route: [`HOST`], next hop [`ROUTER`].
pub const UP0: u32 = 110;
/// A second uplink: [`HOST1`]; [`FAR`] is behind it, with a smaller MTU.
pub const UP1: u32 = 111;
/// A link that is no uplink of netd's: [`OFF`] is there.
pub const OFF0: u32 = 112;

pub const HOST: Dual = Dual::new([192, 0, 2, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
/// The host's second address on the same uplink.
pub const ALIAS: Dual = Dual::new([192, 0, 2, 77], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77]);
pub const ROUTER: Dual = Dual::new([192, 0, 2, 2], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]);
pub const HOST1: Dual = Dual::new([198, 51, 100, 1], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1]);
/// With IPv6 known by its link-local address, as routers are.
pub const ROUTER1: Dual = Dual::new([198, 51, 100, 2], [0xfe80, 0, 0, 0, 0, 0, 0, 2]);
/// Somewhere behind the default route.
pub const OUTSIDE: Dual = Dual::new([198, 18, 0, 9], [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9]);
/// Behind [`ROUTER1`], with [`ALIAS`] as the preferred source.
pub const FAR: Dual = Dual::new([203, 0, 113, 9], [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 9]);
pub const FAR_MTU: u32 = 1300;
/// The host's routes say that it can't be reached.
pub const UNREACHABLE: Dual =
    Dual::new([203, 0, 113, 200], [0x2001, 0xdb8, 0xf, 0, 0x8000, 0, 0, 0x200]);
pub const OFF: Dual = Dual::new([100, 64, 0, 9], [0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 9]);
/// The host, on the link to [`OFF`].
pub const OFF_HOST: Dual = Dual::new([100, 64, 0, 1], [0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 1]);
pub const LOCALHOST: Dual = Dual::new([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]);

/// Of both uplinks.
pub const UPLINK_MAC: Mac = Mac::from_octets([0x02, 0, 0, 0, 0, 0x01]);
pub const ROUTER_MAC: Mac = Mac::from_octets([0x02, 0, 0, 0, 0, 0x02]);

pub const ONE: u32 = 1;
pub const QUIET_NET: u32 = 2;
pub const INNER_NET: u32 = 3;
pub const ROUTED_NET: u32 = 4;
pub const OPEN_NET: u32 = 5;
pub const DIRECT_NET: u32 = 6;
pub const APART_NET: u32 = 7;
pub const FIXED_NET: u32 = 8;
pub const LEGACY_NET: u32 = 9;
pub const INHIBITED_NET: u32 = 10;
pub const NETWORKS: core::ops::RangeInclusive<u32> = ONE..=INHIBITED_NET;

pub const WEB: Container = Container::new(ONE, 10, Endpoint::ICC | Endpoint::PUBLISHED);
pub const CLIENT: Container = Container::new(ONE, 11, Endpoint::ICC);
pub const QUIET: Container = Container::new(QUIET_NET, 10, Endpoint::PUBLISHED);
pub const SHY: Container = Container::new(QUIET_NET, 11, 0);
pub const INNER: Container = Container::new(INNER_NET, 10, Endpoint::ICC);
pub const ROUTED: Container = Container::new(ROUTED_NET, 10, Endpoint::ICC);
pub const OPEN: Container = Container::new(OPEN_NET, 10, Endpoint::ICC);
pub const DIRECT: Container = Container::new(DIRECT_NET, 10, Endpoint::ICC | Endpoint::PUBLISHED);
pub const APART: Container = Container::new(APART_NET, 10, Endpoint::ICC);
pub const FIXED: Container = Container::new(FIXED_NET, 10, Endpoint::ICC);
pub const LEGACY: Container = Container::new(LEGACY_NET, 10, Endpoint::ICC);
pub const INHIBITED: Container = Container::new(INHIBITED_NET, 10, Endpoint::ICC);
pub const CONTAINERS: [Container; 12] =
    [WEB, CLIENT, QUIET, SHY, INNER, ROUTED, OPEN, DIRECT, APART, FIXED, LEGACY, INHIBITED];

/// An address of [`ONE`] that nobody has.
pub const NOBODY: Dual = Container::new(ONE, 99, 0).address;
/// List of [`PORTS`]: [`FAR`] and its neighbours, [`CLIENT`] alone.
pub const LIST: u32 = 7;
/// SYNs a second that [`PORTS`]' slow one takes.
pub const SYN_RATE: u32 = 2;

/// A published port.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Host address; `None`: any.
    pub at: Option<Dual>,
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    pub target: Dual,
    pub target_port: u16,
    pub allow: u32,
    pub syn_rate: u32,
}

/// The planner would not write those to [`INNER`] and to [`NOBODY`].
pub const PORTS: [Published; 11] = [
    Published::any(8080, PROTO_TCP, WEB.address, 80),
    Published::any(5353, PROTO_UDP, WEB.address, 53),
    Published { at: Some(ALIAS), ..Published::any(9090, PROTO_TCP, QUIET.address, 90) },
    Published::any(7070, PROTO_TCP, INNER.address, 70),
    Published::any(6060, PROTO_TCP, NOBODY, 60),
    Published { allow: LIST, ..Published::any(8443, PROTO_TCP, WEB.address, 443) },
    Published { allow: LIST, ..Published::any(5354, PROTO_UDP, WEB.address, 54) },
    Published { syn_rate: SYN_RATE, ..Published::any(8081, PROTO_TCP, WEB.address, 81) },
    Published::any(9899, SCTP, WEB.address, 9899),
    // Of a routed network: at the container's own address.
    Published { at: Some(DIRECT.address), ..Published::any(80, PROTO_TCP, DIRECT.address, 80) },
    Published {
        at: Some(DIRECT.address),
        allow: LIST,
        ..Published::any(443, PROTO_TCP, DIRECT.address, 443)
    },
];
const SCTP: u8 = 132;

impl Published {
    const fn any(port: u16, proto: u8, target: Dual, target_port: u16) -> Self {
        Self { at: None, port, proto, target, target_port, allow: 0, syn_rate: 0 }
    }
}

/// An address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual([IpAddr; 2]);

impl Dual {
    pub const fn new([a, b, c, d]: [u8; 4], v6: [u16; 8]) -> Self {
        let [e, f, g, h, i, j, k, l] = v6;
        Self([
            IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            IpAddr::V6(Ipv6Addr::new(e, f, g, h, i, j, k, l)),
        ])
    }

    pub fn v4(self) -> Ipv4Addr {
        let IpAddr::V4(address) = self.0[0] else { unreachable!("the first is IPv4's") };
        address
    }

    pub fn v6(self) -> Ipv6Addr {
        let IpAddr::V6(address) = self.0[1] else { unreachable!("the second is IPv6's") };
        address
    }
}

impl Index<Family> for Dual {
    type Output = IpAddr;

    fn index(&self, family: Family) -> &IpAddr {
        &self.0[family as usize]
    }
}

pub fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// A container's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    pub network: u32,
    pub address: Dual,
    pub mac: Mac,
    pub gateway_mac: Mac,
    /// Of its host side.
    pub ifindex: u32,
    pub flags: u32,
}

impl Container {
    const fn new(network: u32, host: u8, flags: u32) -> Self {
        let meets_host = !matches!(network, INNER_NET | APART_NET);
        let flags = if meets_host { flags | Endpoint::MEETS_HOST } else { flags };
        #[expect(clippy::cast_possible_truncation, reason = "there are ten networks")]
        let number = network as u8;
        Self {
            network,
            address: Dual::new(
                [172, 17 + number, 0, host],
                [0xfd00, 0, 0, number as u16, 0, 0, 0, host as u16],
            ),
            mac: Mac::from_octets([0x02, 0x42, 172, 17 + number, 0, host]),
            gateway_mac: Mac::from_octets([0x02, 0x6e, 0x64, 0, 0, number]),
            ifindex: 100 + network * 20 + host as u32,
            flags,
        }
    }

    pub const fn endpoint(&self) -> Endpoint {
        Endpoint {
            ifindex: self.ifindex,
            network: self.network,
            mac: self.mac,
            gateway_mac: self.gateway_mac,
            flags: self.flags,
            last_seen: 0,
        }
    }

    /// Has its network IPv6?
    pub const fn is_dual(&self) -> bool {
        self.network != LEGACY_NET
    }

    /// The address that IPv6 makes of its MAC.
    pub fn link_local(&self) -> Ipv6Addr {
        link_local(self.mac)
    }

    /// A packet to anyone but a neighbour: by way of the gateway.
    pub fn sends(&self, dst: IpAddr, layer4: Layer4) -> Datagram {
        let src = self.address[family(dst)];
        datagram((self.mac, src), (self.gateway_mac, dst), layer4)
    }

    /// A packet to a container that it takes for a neighbour.
    pub fn tells(&self, family: Family, other: &Self, layer4: Layer4) -> Datagram {
        let (src, dst) = (self.address[family], other.address[family]);
        datagram((self.mac, src), (other.mac, dst), layer4)
    }

    /// `datagram` as it comes in by the container's link.
    pub fn frame(&self, datagram: &Datagram) -> Frame {
        frame(self.ifindex, datagram.frame())
    }
}

/// The link-local address of a MAC.
pub fn link_local(mac: Mac) -> Ipv6Addr {
    crate::abi::Address::link_local(mac).octets().into()
}

/// A packet from outside, as it comes in by an uplink.
pub fn incoming(src: IpAddr, dst: IpAddr, layer4: Layer4) -> Datagram {
    datagram((ROUTER_MAC, src), (UPLINK_MAC, dst), layer4)
}

/// A frame at a link, which knows its own MAC.
pub fn frame(ifindex: u32, bytes: Vec<u8>) -> Frame {
    let mut frame = Frame::new(ifindex, bytes);
    frame.for_another = is_for_another(&frame);
    frame
}

/// As `eth_type_trans` (net/ethernet/eth.c) says "for another host". No one
/// sends to the MAC of a container's host side.
pub fn is_for_another(frame: &Frame) -> bool {
    let own = matches!(frame.ifindex, UP0 | UP1).then_some(UPLINK_MAC);
    let dst = crate::abi::wire::read::<Mac>(&frame.bytes, 0);
    dst.is_some_and(|dst| !dst.is_group() && Some(dst) != own)
}

fn datagram(from: (Mac, IpAddr), to: (Mac, IpAddr), layer4: Layer4) -> Datagram {
    Datagram {
        src_mac: from.0,
        dst_mac: to.0,
        src: from.1,
        dst: to.1,
        ttl: 64,
        // Whole packets of IPv6 have none.
        id: if from.1.is_ipv4() { 0x1234 } else { 0 },
        fragment: 0,
        options: Vec::new(),
        extensions: Vec::new(),
        layer4,
        payload: Vec::from(*b"hello, world"),
    }
}

pub const fn bridge(network: u32) -> u32 {
    100 + network * 20
}

/// The bridge of the container behind this link.
pub fn bridge_of(ifindex: u32) -> u32 {
    let own = CONTAINERS.iter().find(|container| container.ifindex == ifindex);
    bridge(own.expect("a container's link").network)
}

pub const fn gateway(network: u32) -> Dual {
    Container::new(network, 1, 0).address
}
