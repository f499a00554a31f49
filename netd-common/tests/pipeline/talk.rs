//! Both ends of a conversation, and the host between them.

use std::net::IpAddr;

use netd_common::{
    abi::{
        Family, Quota, Tally,
        wire::{TCP_ACK, TCP_FIN, TCP_SYN},
    },
    model::{
        self, Datagram, Frame, Layer4, World,
        cases::FAMILIES,
        checksums,
        scene::{self, Container, Dual, HOST, OUTSIDE, ROUTER_MAC, UP0, UPLINK_MAC, WEB, incoming},
    },
    verdict::{Hook, Verdict},
};
use proptest::prelude::*;

/// A world in which each of these may have `max` flows.
pub(crate) fn limited(max: u32, containers: &[&Container]) -> World {
    let mut world = scene::world();
    for container in containers {
        world.quotas.insert(container.ifindex, Quota { max, ..Quota::default() });
        world.tallies.insert(container.ifindex, Tally::default());
    }
    world
}

/// The answered flows that a container takes part in.
pub(crate) fn answered(world: &World, container: &Container) -> u64 {
    world.tallies[&container.ifindex].answered
}

/// A container's packet, and what it became.
#[track_caller]
pub(crate) fn from_container(
    world: &mut World,
    container: &Container,
    datagram: &Datagram,
) -> (Verdict, Datagram) {
    through(world, Hook::FromContainer, container.frame(datagram))
}

/// A packet from outside, and what it became.
#[track_caller]
pub(crate) fn from_uplink(world: &mut World, datagram: &Datagram) -> (Verdict, Datagram) {
    through(world, Hook::FromUplink, scene::frame(UP0, datagram.frame()))
}

/// Whatever comes out has its checksums in order.
#[track_caller]
fn through(world: &mut World, hook: Hook, mut frame: Frame) -> (Verdict, Datagram) {
    let verdict = model::run(hook, &mut frame, world);
    checksums(&frame.bytes).expect("the checksums hold");
    (verdict, Datagram::parse(&frame.bytes).expect("it is still a packet"))
}

/// What the outside answers to a packet that was forwarded.
pub(crate) fn answer(sent: &Datagram) -> Datagram {
    Datagram { src_mac: ROUTER_MAC, dst_mac: UPLINK_MAC, ..sent.answer() }
}

/// `datagram` with other TCP flags.
pub(crate) fn flagged(datagram: &Datagram, new: u8) -> Datagram {
    let mut datagram = datagram.clone();
    if let Layer4::Tcp { flags, .. } = &mut datagram.layer4 {
        *flags = new;
    }
    datagram
}

pub(crate) const fn tcp(sport: u16, dport: u16, flags: u8) -> Layer4 {
    Layer4::Tcp { sport, dport, flags }
}

pub(crate) const fn udp(sport: u16, dport: u16) -> Layer4 {
    Layer4::Udp { sport, dport }
}

/// What leaves by an uplink.
#[track_caller]
pub(crate) fn forwarded((verdict, datagram): (Verdict, Datagram)) -> Datagram {
    assert!(verdict.is_forward(), "{verdict:?}");
    datagram
}

/// What arrives at the container.
#[track_caller]
pub(crate) fn delivered(to: &Container, (verdict, datagram): (Verdict, Datagram)) -> Datagram {
    assert_eq!(verdict, Verdict::deliver(to.ifindex));
    assert_eq!((datagram.dst_mac, datagram.dst), (to.mac, to.address[datagram.family()]));
    datagram
}

/// A connection from outside to the published port: its SYN, and that as it was
/// delivered.
#[track_caller]
pub(crate) fn connect_in(f: Family, world: &mut World) -> (Datagram, Datagram) {
    let asked = incoming(OUTSIDE[f], HOST[f], tcp(40_000, 8080, TCP_SYN));
    let received = delivered(&WEB, from_uplink(world, &asked));
    let back = flagged(&received.answer(), TCP_SYN | TCP_ACK);
    forwarded(from_container(world, &WEB, &back));
    delivered(&WEB, from_uplink(world, &flagged(&asked, TCP_ACK)));
    (asked, received)
}

/// Both sides end what [`connect_in`] made, the server first.
#[track_caller]
pub(crate) fn close_in(world: &mut World, asked: &Datagram, received: &Datagram) {
    let last = TCP_FIN | TCP_ACK;
    forwarded(from_container(world, &WEB, &flagged(&received.answer(), last)));
    delivered(&WEB, from_uplink(world, &flagged(asked, last)));
}

/// Someone behind the default route.
pub(crate) fn outside(family: Family, host: u8) -> IpAddr {
    let v6 = [0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(host)];
    Dual::new([198, 18, 0, host], v6)[family]
}

pub(crate) fn families() -> impl Strategy<Value = Family> {
    proptest::sample::select(&FAMILIES[..])
}
