//! Which published port is asked for, and who may have it.

use netd_common::{
    abi::{
        Address, Be16, PortKey, PortTarget, Prefix,
        wire::{PROTO_TCP, PROTO_UDP},
    },
    model::World,
    pipeline::published::{admits, count_syn, find},
    verdict::DropReason,
};

const HOST: Address = Address::v4([192, 0, 2, 1]);
const WEB: Address = Address::v4([172, 17, 0, 2]);

fn six(last: u8) -> Address {
    Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

fn key(addr: Address, port: u16) -> PortKey {
    PortKey { addr, port: Be16::from_host(port), proto: PROTO_TCP, pad: 0 }
}

fn target(port: u16, allow: u32) -> PortTarget {
    PortTarget { addr: WEB, port: Be16::from_host(port), allow, ..PortTarget::default() }
}

/// A host with both families and these ports.
fn world(ports: impl IntoIterator<Item = (PortKey, PortTarget)>) -> World {
    let mut world = World::default();
    world.host_addresses.extend([HOST, six(1)]);
    for (key, target) in ports {
        world.publish(key, target);
    }
    world
}

fn found(world: &World, proto: u8, addr: Address, port: u16) -> Option<u16> {
    find(world, proto, &addr, Be16::from_host(port)).map(|(_, target)| target.port.to_host())
}

#[test]
fn a_port_of_any_address_is_on_those_of_its_family_that_are_the_hosts() {
    let world =
        world([(key(Address::ANY, 80), target(4, 0)), (key(Address::ANY6, 81), target(6, 0))]);
    assert_eq!(found(&world, PROTO_TCP, HOST, 80), Some(4));
    assert_eq!(found(&world, PROTO_TCP, six(1), 81), Some(6));
    assert_eq!(found(&world, PROTO_TCP, six(1), 80), None);
    assert_eq!(found(&world, PROTO_TCP, HOST, 81), None);
    assert_eq!(found(&world, PROTO_TCP, Address::v4([192, 0, 2, 9]), 80), None, "not the host's");
    assert_eq!(found(&world, PROTO_UDP, HOST, 80), None, "another protocol's");
    assert_eq!(found(&world, PROTO_TCP, Address::v4([127, 0, 0, 1]), 80), None);
}

#[test]
fn a_port_of_one_address_goes_before_that_of_any() {
    let world = world([(key(Address::ANY, 80), target(1, 0)), (key(HOST, 80), target(2, 0))]);
    assert_eq!(found(&world, PROTO_TCP, HOST, 80), Some(2));
}

#[test]
fn a_routed_port_is_at_the_containers_own_address() {
    let world = world([(key(WEB, 80), target(80, 0))]);
    assert_eq!(found(&world, PROTO_TCP, WEB, 80), Some(80));
    assert_eq!(found(&world, PROTO_TCP, HOST, 80), None);
}

#[test]
fn a_port_without_a_list_admits_all_and_one_with_a_list_its_sources() {
    let mut world = world([]);
    let ten = Prefix { bits: 96 + 8, addr: Address::v4([10, 0, 0, 0]) };
    world.allow.push((7, ten));
    let inside = Address::v4([10, 1, 2, 3]);
    for (allow, source, admitted) in [
        (0, HOST, true),
        (7, inside, true),
        (7, HOST, false),
        (7, six(1), false),
        (8, inside, false),
    ] {
        assert_eq!(admits(&world, &target(80, allow), &source), admitted, "{allow} {source:?}");
    }
}

#[test]
fn syns_are_counted_by_port_and_second() {
    let mut world = world([]);
    let limited = PortTarget { syn_rate: 2, ..target(80, 0) };
    let mut count = |port, now| count_syn(&mut world, &key(HOST, port), &limited, now);
    assert_eq!([count(80, 1), count(80, 1)], [Ok(()), Ok(())]);
    assert_eq!(count(80, 1), Err(DropReason::SynRate));
    assert_eq!(count(81, 1), Ok(()), "another port's");
    assert_eq!(count(80, 2), Ok(()), "a new second");
}
