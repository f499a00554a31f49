//! The host's maps, routes and sockets, and the commands that make it.

use core::net::IpAddr;
use std::vec::Vec;

use super::{
    super::{Hop, Route, Socket, World, std},
    ALIAS, APART_NET, CLIENT, CONTAINERS, DIRECT_NET, Dual, FAR, FAR_MTU, FIXED_NET, HOST, HOST1,
    INHIBITED_NET, INNER_NET, LEGACY_NET, LIST, LOCALHOST, NETWORKS, OFF_HOST, OFF0, OPEN_NET,
    PORTS, QUIET_NET, ROUTED_NET, ROUTER, ROUTER1, UNREACHABLE, UP0, UP1, UPLINK_MAC, bridge,
    family, gateway,
};
use crate::abi::{
    Address, Be16, Family, Link, Network, NetworkKey, PortKey, PortTarget, Prefix, TrustedKey,
    Uplink,
    wire::{PROTO_TCP, PROTO_UDP},
};

const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// `ip` in an empty namespace, after which its routes are those of [`world`].
/// Every link of a container is to be made before, and [`FORWARDING`] to be set
/// after. The deprecated addresses are no candidates for a source.
pub const COMMANDS: [&str; 44] = [
    "link add up0 index 110 address 02:00:00:00:00:01 type veth",
    "link add up1 index 111 address 02:00:00:00:00:01 type veth",
    "link add off0 index 112 type veth",
    "link add br1 index 120 type bridge",
    "link add br2 index 140 type bridge",
    "link add br3 index 160 type bridge",
    "link add br4 index 180 type bridge",
    "link add br5 index 200 type bridge",
    "link add br6 index 220 type bridge",
    "link add br7 index 240 type bridge",
    "link add br8 index 260 type bridge",
    "link add br9 index 280 type bridge",
    "link add br10 index 300 type bridge",
    "addr add 192.0.2.1/24 broadcast + dev up0",
    "addr add 192.0.2.77/24 broadcast + dev up0",
    "addr add 198.51.100.1/24 broadcast + dev up1",
    "addr add 100.64.0.1/16 broadcast + dev off0",
    "addr add 172.18.0.1/16 broadcast + dev br1",
    "addr add 172.19.0.1/16 broadcast + dev br2",
    "addr add 172.20.0.1/16 broadcast + dev br3",
    "addr add 172.21.0.1/16 broadcast + dev br4",
    "addr add 172.22.0.1/16 broadcast + dev br5",
    "addr add 172.23.0.1/16 broadcast + dev br6",
    "addr add 172.25.0.1/16 broadcast + dev br8",
    "addr add 172.26.0.1/16 broadcast + dev br9",
    "addr add 2001:db8::1/64 nodad dev up0",
    "addr add 2001:db8::77/64 nodad preferred_lft 0 dev up0",
    "addr add 2001:db8:1::1/64 nodad dev up1",
    "addr add 2001:db8:64::1/64 nodad dev off0",
    "addr add fd00:0:0:1::1/64 nodad dev br1",
    "addr add fd00:0:0:2::1/64 nodad dev br2",
    "addr add fd00:0:0:3::1/64 nodad dev br3",
    "addr add fd00:0:0:4::1/64 nodad dev br4",
    "addr add fd00:0:0:5::1/64 nodad dev br5",
    "addr add fd00:0:0:6::1/64 nodad dev br6",
    "addr add fd00:0:0:8::1/64 nodad dev br8",
    "addr add fd00:0:0:a::1/64 nodad dev br10",
    "link set group 0 up",
    "route add default via 192.0.2.2",
    "route add 203.0.113.0/24 via 198.51.100.2 src 192.0.2.77 mtu lock 1300",
    "route add unreachable 203.0.113.128/25",
    "-6 route add default via 2001:db8::2 dev up0",
    "-6 route add 2001:db8:f::/64 via fe80::2 dev up1 src 2001:db8::77 mtu lock 1300",
    "-6 route add unreachable 2001:db8:f:0:8000::/65",
];

/// The links that forward both families.
pub const FORWARDING: [&str; 10] =
    ["br1", "br2", "br3", "br4", "br5", "br6", "br7", "br8", "br9", "br10"];

/// What the host's own processes hold: a listener, and ports within SNAT's.
pub const SOCKETS: [Socket; 6] = [
    Socket::bound(PROTO_TCP, None, 22),
    Socket::bound(PROTO_UDP, None, 546),
    Socket::bound(PROTO_UDP, Some(HOST), 2001),
    Socket::bound(PROTO_TCP, Some(HOST), 2002),
    Socket::bound(PROTO_UDP, Some(ALIAS), 5001),
    Socket::bound(PROTO_UDP, None, 5002),
];

/// A network's policy for one family; `None`: it does not have the family.
fn policy(index: u32, family: Family) -> Option<Network> {
    use Network as N;
    let own = match index {
        QUIET_NET => N::MASQUERADE,
        INNER_NET => N::INTERNAL | N::ICC,
        ROUTED_NET => N::ICC,
        OPEN_NET => N::MASQUERADE | N::ICC | N::UNPROTECTED,
        DIRECT_NET => N::ROUTED | N::ICC,
        APART_NET => N::ISOLATED | N::INTERNAL | N::ICC,
        LEGACY_NET if family == Family::V6 => return None,
        INHIBITED_NET if family == Family::V4 => N::MASQUERADE | N::ICC | N::INHIBITED,
        // ONE, FIXED_NET, and the rest of the last two.
        _ => N::MASQUERADE | N::ICC,
    };
    let source = if index == FIXED_NET { ALIAS[family].into() } else { Address::ANY };
    let gateway = gateway(index)[family].into();
    Some(N { bridge_ifindex: bridge(index), flags: own, gateway, source })
}

/// Whether the host has the gateway's address.
fn has_gateway(index: u32, family: Family) -> bool {
    let inhibited = index == INHIBITED_NET && family == Family::V4;
    index != APART_NET && !inhibited && policy(index, family).is_some()
}

/// The host as the maps and the routes have it.
pub fn world() -> World {
    let mut world = World::default();
    for index in NETWORKS {
        for family in BOTH {
            let Some(network) = policy(index, family) else { continue };
            world.networks.insert(NetworkKey::new(index, family), network);
            world.subnets.push((subnet(index, family), index));
            if has_gateway(index, family) {
                world.host_addresses.insert(network.gateway);
            }
        }
    }
    for container in CONTAINERS {
        let endpoint = container.endpoint();
        world.endpoints.insert(container.address[Family::V4].into(), endpoint);
        let mut flags = 0;
        if container.is_dual() {
            world.endpoints.insert(container.address[Family::V6].into(), endpoint);
            world.endpoints.insert(Address::link_local(container.mac), endpoint);
            flags = Link::IPV6;
        }
        world.links.insert(container.ifindex, Link { network: container.network, flags });
    }
    for own in [HOST, ALIAS, HOST1, OFF_HOST, LOCALHOST] {
        world.host_addresses.extend(BOTH.map(|family| Address::from(own[family])));
    }
    for (ifindex, own) in [(UP0, HOST), (UP1, HOST1)] {
        let (addr4, addr6) = (own[Family::V4].into(), own[Family::V6].into());
        world
            .uplinks
            .insert(ifindex, Uplink { addr4, addr6, mac: UPLINK_MAC, ..Uplink::default() });
    }
    world.trusted.insert(TrustedKey { network: QUIET_NET, ifindex: UP1 });
    for port in PORTS {
        for family in BOTH {
            let any = if family == Family::V4 { Address::ANY } else { Address::ANY6 };
            let addr = port.at.map_or(any, |at| at[family].into());
            let key = PortKey { addr, port: Be16::from_host(port.port), proto: port.proto, pad: 0 };
            let target = PortTarget {
                addr: port.target[family].into(),
                port: Be16::from_host(port.target_port),
                pad: 0,
                allow: port.allow,
                syn_rate: port.syn_rate,
            };
            world.publish(key, target);
        }
    }
    for (whom, host_bits) in [(FAR, 8), (CLIENT.address, 0)] {
        let prefix = |family: Family| Prefix::of(whom[family], host_bits);
        world.allow.extend(BOTH.map(|family| (LIST, prefix(family))));
    }
    world.sockets.extend(SOCKETS);
    world.routes = routes();
    world
}

fn subnet(index: u32, family: Family) -> Prefix {
    Prefix::of(gateway(index)[family], if family == Family::V4 { 16 } else { 64 })
}

fn routes() -> Vec<Route> {
    let to = |dst: IpAddr, host_bits| Prefix::of(dst, host_bits);
    let hop = |ifindex, gateway: Option<IpAddr>, source: IpAddr, mtu| {
        let (gateway, source) = (gateway.map(Address::from), source.into());
        Some(Hop { ifindex, gateway, source, mtu })
    };
    let mut routes = Vec::new();
    for f in BOTH {
        let (all, half) = if f == Family::V4 { (32, 7) } else { (128, 63) };
        let own = |own: Dual, host_bits4, ifindex| {
            (own[f], if f == Family::V4 { host_bits4 } else { 64 }, ifindex)
        };
        let mut subnets = std::vec![own(HOST, 8, UP0), own(HOST1, 8, UP1), own(OFF_HOST, 16, OFF0)];
        let bridges = NETWORKS.filter(|index| has_gateway(*index, f));
        subnets.extend(bridges.map(|index| own(gateway(index), 16, bridge(index))));
        let far = if f == Family::V4 { 8 } else { 64 };
        routes.extend([
            Route { to: to(HOST[f], all), by: hop(UP0, Some(ROUTER[f]), HOST[f], 1500) },
            Route { to: to(FAR[f], far), by: hop(UP1, Some(ROUTER1[f]), ALIAS[f], FAR_MTU) },
            Route { to: to(UNREACHABLE[f], half), by: None },
            Route { to: to(LOCALHOST[f], if f == Family::V4 { 24 } else { 0 }), by: None },
            Route { to: to(ALIAS[f], 0), by: None },
        ]);
        for (own, host_bits, ifindex) in subnets {
            let subnet = to(own, host_bits);
            routes.push(Route { to: subnet, by: hop(ifindex, None, own, 1500) });
            routes.push(Route { to: to(own, 0), by: None });
            // The broadcast address, or the anycast one of all routers.
            let group = subnet.end(family(own));
            if f == Family::V4 || ifindex > OFF0 {
                routes.push(Route { to: to(group, 0), by: None });
            }
        }
    }
    routes
}

impl Prefix {
    /// The prefix of `address` that leaves `host_bits` open.
    fn of(address: IpAddr, host_bits: u32) -> Self {
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let bits = u128::from_be_bytes(Address::from(address).octets());
        // All of IPv4 is still a prefix of 96 bits.
        let addr = Address::from_octets((bits & mask).to_be_bytes());
        Self { bits: 128 - host_bits, addr }
    }

    /// Its last address with IPv4, its first with IPv6.
    fn end(&self, family: Family) -> IpAddr {
        let first = u128::from_be_bytes(self.addr.octets());
        let end =
            if family == Family::V4 { first | !(u128::MAX << (128 - self.bits)) } else { first };
        Address::from_octets(end.to_be_bytes()).into()
    }
}
