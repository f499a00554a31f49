//! What becomes of the calls of the host's own processes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netd_common::{
    abi::{
        Address, Be16, PortKey, PortTarget, Prefix, SocketPeer,
        wire::{PROTO_TCP, PROTO_UDP},
    },
    model::{
        Call, Socket, World,
        scene::{self, ALIAS, APART, HOST, INHIBITED, OUTSIDE, ROUTED, WEB},
    },
    pipeline::socket,
    verdict::{DropReason, Verdict},
};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LOCALHOST6: Ipv6Addr = Ipv6Addr::LOCALHOST;

fn at(addr: impl Into<Address>, port: u16) -> (Address, Be16) {
    (addr.into(), Be16::from_host(port))
}

fn tcp(addr: impl Into<Address>, port: u16) -> Call {
    Call::to(addr, port, PROTO_TCP)
}

/// `call` is sent to `container`, and told of whom it asked.
#[track_caller]
fn leads_to(world: &mut World, call: Call, container: (Address, Be16)) {
    for go in [socket::connect::<Call, World>, socket::send] {
        let mut asking = call;
        assert_eq!(go(&mut asking, world), Verdict::TRANSLATED, "{call:?}");
        assert_eq!(asking.peer, container, "{call:?}");
        let mut told = asking;
        socket::restore(&mut told, world);
        assert_eq!(told.peer, call.peer, "the process is told of whom it asked");
    }
}

#[track_caller]
fn is_left_alone(world: &mut World, call: Call) {
    for go in [socket::connect::<Call, World>, socket::send] {
        let mut asking = call;
        assert_eq!(go(&mut asking, world), Verdict::PASS, "{call:?}");
        assert_eq!(asking, call);
    }
    assert!(world.peers.is_empty(), "nothing is remembered");
}

#[test]
fn any_address_of_the_hosts_leads_to_the_container() {
    for addr in [HOST.v4(), ALIAS.v4(), LOCALHOST, Ipv4Addr::new(127, 8, 8, 8)] {
        leads_to(&mut scene::world(), tcp(addr, 8080), at(WEB.address.v4(), 80));
        let call = Call::to(addr, 5353, PROTO_UDP);
        leads_to(&mut scene::world(), call, at(WEB.address.v4(), 53));
    }
}

#[test]
fn other_addresses_ports_and_protocols_are_left_alone() {
    let mut world = scene::world();
    for call in [
        tcp(OUTSIDE.v4(), 8080),
        tcp(HOST.v4(), 8099),
        Call::to(HOST.v4(), 8080, PROTO_UDP),
        Call::to(HOST.v4(), 8080, 0),
        tcp(WEB.address.v4(), 80),
        tcp(HOST.v6(), 8099),
    ] {
        is_left_alone(&mut world, call);
    }
}

#[test]
fn a_port_of_one_address_is_not_at_loopback() {
    let mut world = scene::world();
    is_left_alone(&mut world, tcp(LOCALHOST, 9090));
    is_left_alone(&mut world, tcp(LOCALHOST6, 9090));
    leads_to(&mut world, tcp(ALIAS.v4(), 9090), at(scene::QUIET.address.v4(), 90));
}

#[test]
fn a_port_of_loopback_is_there_for_processes_alone() {
    let mut world = scene::world();
    let key =
        PortKey { addr: LOCALHOST.into(), port: Be16::from_host(3000), proto: PROTO_TCP, pad: 0 };
    let target = PortTarget {
        addr: WEB.address.v4().into(),
        port: Be16::from_host(30),
        ..PortTarget::default()
    };
    world.publish(key, target);
    leads_to(&mut world, tcp(LOCALHOST, 3000), at(WEB.address.v4(), 30));
    let found = netd_common::pipeline::published::find(&world, PROTO_TCP, &key.addr, key.port);
    assert_eq!(found, None, "a packet can't reach it");
}

#[test]
fn sockets_of_other_namespaces_are_left_alone() {
    let mut world = scene::world();
    let call = Call { netns: 2, ..tcp(LOCALHOST, 8080) };
    is_left_alone(&mut world, call);
    world.config_mut().netns_cookie = 0;
    is_left_alone(&mut world, tcp(LOCALHOST, 8080));
    world.config = None;
    is_left_alone(&mut world, tcp(LOCALHOST, 8080));
}

#[test]
fn nor_are_they_told_of_anyone_elses_peer() {
    let mut world = scene::world();
    let mut call = tcp(LOCALHOST, 8080);
    socket::connect(&mut call, &mut world);
    for other in [Call { netns: 2, ..call }, Call { cookie: 8, ..call }] {
        let mut told = other;
        socket::restore(&mut told, &world);
        assert_eq!(told, other);
    }
}

#[test]
fn a_socket_that_cannot_reach_a_container_is_left_alone() {
    let mut world = with_ports_of_ipv4_alone();
    is_left_alone(&mut world, Call { source: LOCALHOST.into(), ..tcp(LOCALHOST, 8080) });
    is_left_alone(&mut world, Call { source: LOCALHOST.into(), ..tcp(HOST.v4(), 8080) });
    is_left_alone(&mut world, Call { source: HOST.v6().into(), ..tcp(LOCALHOST6, 8080) });
    is_left_alone(&mut world, Call { bound_to_link: true, ..tcp(HOST.v4(), 8080) });
    leads_to(
        &mut world,
        Call { source: ALIAS.v4().into(), ..tcp(HOST.v4(), 8080) },
        at(WEB.address.v4(), 80),
    );
}

#[test]
fn so_is_one_that_asks_for_a_network_without_the_host() {
    let mut world = scene::world();
    let key = PortKey { port: Be16::from_host(3000), proto: PROTO_TCP, ..PortKey::default() };
    let nobody = Ipv4Addr::new(172, 18, 0, 200);
    for container in [INHIBITED.address.v4(), APART.address.v4(), nobody] {
        let target = PortTarget { addr: container.into(), port: key.port, ..PortTarget::default() };
        world.publish(key, target);
        is_left_alone(&mut world, tcp(LOCALHOST, 3000));
    }
}

#[test]
fn an_allow_list_holds_for_processes_too() {
    let mut world = scene::world();
    world.ports.values_mut().for_each(|target| target.allow = 3);
    world.allow.push((3, Prefix::v4(LOCALHOST.octets(), 8)));
    world.allow.push((3, Prefix::v4(ALIAS.v4().octets(), 32)));
    leads_to(&mut world, tcp(LOCALHOST, 8080), at(WEB.address.v4(), 80));
    leads_to(&mut world, tcp(ALIAS.v4(), 8080), at(WEB.address.v4(), 80));
    leads_to(
        &mut world,
        Call { source: ALIAS.v4().into(), ..tcp(HOST.v4(), 8080) },
        at(WEB.address.v4(), 80),
    );
    world.peers.clear();
    let mut refused = tcp(HOST.v4(), 8080);
    for go in [socket::connect::<Call, World>, socket::send] {
        let verdict = go(&mut refused, &mut world);
        assert_eq!(verdict, Verdict::drop(DropReason::NotAllowed));
    }
    assert!(world.peers.is_empty());
    let event = netd_common::event::describe_call(&refused);
    assert_eq!(
        (event.src, event.dst),
        (HOST.v4().into(), HOST.v4().into()),
        "whom it would come from"
    );
    assert_eq!((event.dport.to_host(), event.proto), (8080, PROTO_TCP));
}

#[test]
fn a_routed_container_is_reached_at_its_own_address() {
    let mut world = scene::world();
    let addr = ROUTED.address.v4().into();
    let port = Be16::from_host(80);
    let key = PortKey { addr, port, proto: PROTO_TCP, pad: 0 };
    world.publish(key, PortTarget { addr, port, allow: 9, ..PortTarget::default() });
    is_left_alone(&mut world, tcp(ROUTED.address.v4(), 80));
}

#[test]
fn ports_of_ipv6_are_at_every_ipv6_address() {
    let mut world = scene::world();
    for addr in [HOST.v6(), LOCALHOST6] {
        leads_to(&mut world, tcp(addr, 8080), at(WEB.address.v6(), 80));
        leads_to(&mut world, Call::to(addr, 5353, PROTO_UDP), at(WEB.address.v6(), 53));
    }
    leads_to(&mut world, tcp(LOCALHOST, 8080), at(WEB.address.v4(), 80));
}

fn with_ports_of_ipv4_alone() -> World {
    let mut world = scene::world();
    world.ports.retain(|key, _| key.addr != Address::ANY6);
    world
}

#[test]
fn a_connection_by_loopback_in_ipv6_reaches_a_port_of_ipv4() {
    let mut world = with_ports_of_ipv4_alone();
    let mut call = tcp(LOCALHOST6, 8080);
    assert_eq!(socket::connect(&mut call, &mut world), Verdict::TRANSLATED);
    assert_eq!(call.peer, at(WEB.address.v4(), 80));
    socket::restore(&mut call, &world);
    assert_eq!(call.peer, at(LOCALHOST6, 8080));

    // Linux would refuse the address of an unconnected datagram.
    let mut datagram = Call { proto: PROTO_UDP, ..tcp(LOCALHOST6, 5353) };
    assert_eq!(socket::send(&mut datagram, &mut world), Verdict::PASS);
    assert_eq!(socket::connect(&mut datagram, &mut world), Verdict::TRANSLATED);
}

#[test]
fn unless_a_program_of_the_hosts_is_there() {
    let mut world = with_ports_of_ipv4_alone();
    world.sockets.push(Socket::bound(PROTO_TCP, Some(scene::LOCALHOST), 8080));
    is_left_alone(&mut world, tcp(LOCALHOST6, 8080));
}

#[test]
fn what_was_asked_for_stays_known_with_its_protocol() {
    let mut world = scene::world();
    socket::connect(&mut tcp(LOCALHOST, 8080), &mut world);
    let (key, peer) = world.peers.iter().next().unwrap();
    assert_eq!((key.cookie, IpAddr::from(key.addr)), (7, WEB.address.v4().into()));
    let (addr, port) = at(LOCALHOST, 8080);
    assert_eq!(*peer, SocketPeer { addr, source: addr, port, proto: PROTO_TCP, pad: 0 });
}
