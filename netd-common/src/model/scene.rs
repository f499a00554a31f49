//! A host with four networks, two uplinks and published ports, for tests.
//!
//! ```text
//! one      172.18.0.0/16  WEB (published) and CLIENT
//! quiet    172.19.0.0/16  QUIET (published) and SHY; enable_icc=false
//! inner    172.20.0.0/16  INNER; internal
//! routed   172.21.0.0/16  ROUTED; no masquerade
//! ```
//!
//! [`world`] is what the agent would have written to the maps, and the routes
//! that [`COMMANDS`] make in a real namespace.

use core::net::Ipv4Addr;
use std::vec::Vec;

use super::{Datagram, Frame, Hop, Layer4, Route, World, std};
use crate::abi::{
    Address, Be16, Endpoint, Family, Mac, Network, NetworkKey, PortKey, PortTarget, Prefix, Uplink,
    wire::{PROTO_TCP, PROTO_UDP},
};

/// The uplink of the default route: [`HOST`], next hop [`ROUTER`].
pub const UP0: u32 = 110;
/// A second uplink: [`HOST1`]; [`FAR`] is behind it, with a smaller MTU.
pub const UP1: u32 = 111;
/// A link that is no uplink of netd's: [`OFF`] is there.
pub const OFF0: u32 = 112;

pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The host's second address on the same uplink.
pub const ALIAS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const HOST1: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const ROUTER1: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Somewhere behind the default route.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);
/// Behind [`ROUTER1`], with [`ALIAS`] as the preferred source.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub const FAR_MTU: u32 = 1300;
/// The host's routes say that it can't be reached.
pub const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
pub const OFF: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);

pub const UPLINK_MAC: Mac = Mac::from_octets([0x02, 0, 0, 0, 0, 0x01]);
pub const ROUTER_MAC: Mac = Mac::from_octets([0x02, 0, 0, 0, 0, 0x02]);

pub const ONE: u32 = 1;
pub const QUIET_NET: u32 = 2;
pub const INNER_NET: u32 = 3;
pub const ROUTED_NET: u32 = 4;

pub const WEB: Container = Container::new(ONE, 10, Endpoint::ICC | Endpoint::PUBLISHED);
pub const CLIENT: Container = Container::new(ONE, 11, Endpoint::ICC);
pub const QUIET: Container = Container::new(QUIET_NET, 10, Endpoint::PUBLISHED);
pub const SHY: Container = Container::new(QUIET_NET, 11, 0);
pub const INNER: Container = Container::new(INNER_NET, 10, Endpoint::ICC);
pub const ROUTED: Container = Container::new(ROUTED_NET, 10, Endpoint::ICC);
pub const CONTAINERS: [Container; 6] = [WEB, CLIENT, QUIET, SHY, INNER, ROUTED];

/// Host address (`None`: any), port, protocol, and what it leads to.
pub const PORTS: [(Option<Ipv4Addr>, u16, u8, Ipv4Addr, u16); 5] = [
    (None, 8080, PROTO_TCP, WEB.address, 80),
    (None, 5353, PROTO_UDP, WEB.address, 53),
    (Some(ALIAS), 9090, PROTO_TCP, QUIET.address, 90),
    // The planner writes neither of these two.
    (None, 7070, PROTO_TCP, INNER.address, 70),
    (None, 6060, PROTO_TCP, Ipv4Addr::new(172, 18, 0, 99), 60),
];

/// A container's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    pub network: u32,
    pub address: Ipv4Addr,
    pub mac: Mac,
    pub gateway_mac: Mac,
    /// Of its host side.
    pub ifindex: u32,
    pub flags: u32,
}

impl Container {
    const fn new(network: u32, host: u8, flags: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "there are four networks")]
        let number = network as u8;
        Self {
            network,
            address: Ipv4Addr::new(172, 17 + number, 0, host),
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

    /// A packet to anyone but a neighbour: by way of the gateway.
    pub fn sends(&self, dst: Ipv4Addr, layer4: Layer4) -> Datagram {
        datagram((self.mac, self.address), (self.gateway_mac, dst), layer4)
    }

    /// A packet to a container that it takes for a neighbour.
    pub fn tells(&self, other: &Self, layer4: Layer4) -> Datagram {
        datagram((self.mac, self.address), (other.mac, other.address), layer4)
    }

    /// `datagram` as it comes in by the container's link.
    pub fn frame(&self, datagram: &Datagram) -> Frame {
        Frame::new(self.ifindex, datagram.frame())
    }
}

/// A packet from outside, as it comes in by an uplink.
pub fn incoming(src: Ipv4Addr, dst: Ipv4Addr, layer4: Layer4) -> Datagram {
    datagram((ROUTER_MAC, src), (UPLINK_MAC, dst), layer4)
}

fn datagram(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), layer4: Layer4) -> Datagram {
    Datagram {
        src_mac: from.0,
        dst_mac: to.0,
        src: from.1,
        dst: to.1,
        ttl: 64,
        id: 0x1234,
        fragment: 0,
        options: Vec::new(),
        layer4,
        payload: Vec::from(*b"hello, world"),
    }
}

pub const fn bridge(network: u32) -> u32 {
    100 + network * 20
}

pub const fn gateway(network: u32) -> Ipv4Addr {
    #[expect(clippy::cast_possible_truncation, reason = "there are four networks")]
    Ipv4Addr::new(172, 17 + network as u8, 0, 1)
}

/// `ip` in an empty namespace, after which its routes are those of [`world`].
/// Every link of a container is to be made too.
pub const COMMANDS: [&str; 19] = [
    "link add up0 index 110 type veth",
    "link add up1 index 111 type veth",
    "link add off0 index 112 type veth",
    "link add br1 index 120 type bridge",
    "link add br2 index 140 type bridge",
    "link add br3 index 160 type bridge",
    "link add br4 index 180 type bridge",
    "addr add 192.0.2.1/24 broadcast + dev up0",
    "addr add 192.0.2.77/24 broadcast + dev up0",
    "addr add 198.51.100.1/24 broadcast + dev up1",
    "addr add 100.64.0.1/16 broadcast + dev off0",
    "addr add 172.18.0.1/16 broadcast + dev br1",
    "addr add 172.19.0.1/16 broadcast + dev br2",
    "addr add 172.20.0.1/16 broadcast + dev br3",
    "addr add 172.21.0.1/16 broadcast + dev br4",
    "link set group 0 up",
    "route add default via 192.0.2.2",
    "route add 203.0.113.0/24 via 198.51.100.2 src 192.0.2.77 mtu lock 1300",
    "route add unreachable 203.0.113.128/25",
];

/// The host as the maps and the routes have it.
pub fn world() -> World {
    let mut world = World::default();
    for (index, flags) in [
        (ONE, Network::MASQUERADE | Network::ICC),
        (QUIET_NET, Network::MASQUERADE),
        (INNER_NET, Network::INTERNAL | Network::ICC),
        (ROUTED_NET, Network::ICC),
    ] {
        let (bridge_ifindex, gateway) = (bridge(index), gateway(index).into());
        let network = Network { bridge_ifindex, flags, gateway, source: Address::ANY };
        world.networks.insert(NetworkKey::new(index, Family::V4), network);
        let [a, b, ..] = Address::v4_octets(&gateway);
        world.subnets.push((Prefix::v4([a, b, 0, 0], 16), index));
    }
    for container in CONTAINERS {
        world.endpoints.insert(container.address.into(), container.endpoint());
    }
    let gateways = [ONE, QUIET_NET, INNER_NET, ROUTED_NET].map(gateway);
    let own = [HOST, ALIAS, HOST1, Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::LOCALHOST];
    world.host_addresses.extend(own.into_iter().chain(gateways).map(Address::from));
    for (ifindex, address) in [(UP0, HOST), (UP1, HOST1)] {
        world
            .uplinks
            .insert(ifindex, Uplink { addr4: address.into(), addr6: Address::ANY, flags: 0 });
    }
    for (at, port, proto, target, target_port) in PORTS {
        let addr = at.map_or(Address::ANY, Address::from);
        let key = PortKey { addr, port: Be16::from_host(port), proto, pad: 0 };
        let port = Be16::from_host(target_port);
        world.ports.insert(key, PortTarget { addr: target.into(), port, ..PortTarget::default() });
    }
    world.reserved_ports.extend(PORTS.map(|(_, port, ..)| port));
    world.routes = routes();
    world
}

fn routes() -> Vec<Route> {
    let hop = |ifindex, gateway: Option<Ipv4Addr>, source: Ipv4Addr, mtu| {
        let (gateway, source) = (gateway.map(Address::from), source.into());
        Some(Hop { ifindex, gateway, source, mtu })
    };
    let subnets = [
        (UP0, HOST, 24),
        (UP1, HOST1, 24),
        (OFF0, Ipv4Addr::new(100, 64, 0, 1), 16),
        (bridge(ONE), gateway(ONE), 16),
        (bridge(QUIET_NET), gateway(QUIET_NET), 16),
        (bridge(INNER_NET), gateway(INNER_NET), 16),
        (bridge(ROUTED_NET), gateway(ROUTED_NET), 16),
    ];
    let mut routes = std::vec![
        Route { to: Prefix::v4([0; 4], 0), by: hop(UP0, Some(ROUTER), HOST, 1500) },
        Route { to: Prefix::v4([203, 0, 113, 0], 24), by: hop(UP1, Some(ROUTER1), ALIAS, FAR_MTU) },
        Route { to: Prefix::v4([203, 0, 113, 128], 25), by: None },
        Route { to: Prefix::v4([127, 0, 0, 0], 8), by: None },
        Route { to: Prefix::v4(ALIAS.octets(), 32), by: None },
    ];
    for (ifindex, own, len) in subnets {
        let mask = u32::MAX << (32 - len);
        let (network, broadcast) = (own.to_bits() & mask, own.to_bits() | !mask);
        let to = |bits: u32, len| Prefix::v4(bits.to_be_bytes(), len);
        routes.push(Route { to: to(network, len), by: hop(ifindex, None, own, 1500) });
        routes.push(Route { to: to(own.to_bits(), 32), by: None });
        routes.push(Route { to: to(broadcast, 32), by: None });
    }
    routes
}
