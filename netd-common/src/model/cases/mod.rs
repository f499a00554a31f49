//! Packets and what must become of them, on the host of [`super::scene`]:
//! every verdict and every drop reason that a hook can come to. The model and
//! the kernel both have to say so.
//!
//! SNAT has the one port [`SNAT_PORT`] here, so that packets are known to the
//! byte. Some cases need what a test run in the kernel can't do: see
//! [`Case::model_only`].

use core::net::{IpAddr, Ipv6Addr};
use std::vec::Vec;

use super::{Datagram, Frame, Layer4, World, scene, std};
use crate::{
    abi::{
        Family, PortRange,
        wire::{TCP_ACK, TCP_RST, TCP_SYN},
    },
    verdict::{DropReason, Hook, Verdict},
};

mod egress;
mod errors;
mod fragments;
mod from_container;
mod from_uplink;
mod modes;
mod ndp;
mod pressure;
mod protocols;
mod uplink_xdp;

/// The only port that SNAT may use.
pub const SNAT_PORT: u16 = 5000;
/// What the datapath carries.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// One packet, what came before it, and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub what: &'static str,
    pub hook: Hook,
    pub frame: Frame,
    /// Packets that came before.
    pub before: Vec<(Hook, Frame)>,
    /// How the world differs from the scene.
    pub given: fn(&mut World),
    pub verdict: Verdict,
    pub bytes: Vec<u8>,
    /// It needs metadata that `BPF_PROG_TEST_RUN` does not set, or a failure
    /// that it can't provoke.
    pub model_only: bool,
}

/// All of them.
pub fn cases() -> Vec<Case> {
    FAMILIES.into_iter().flat_map(cases_of).collect()
}

/// Those of one family.
pub fn cases_of(f: Family) -> Vec<Case> {
    let both = [
        from_container::cases,
        from_uplink::cases,
        egress::cases,
        errors::cases,
        fragments::cases,
        modes::cases,
        pressure::cases,
        protocols::cases,
        uplink_xdp::cases,
    ];
    let mut all: Vec<_> = both.into_iter().flat_map(|of| of(f)).collect();
    if f == Family::V6 {
        all.extend(ndp::cases());
    }
    all
}

impl Case {
    fn new(hook: Hook, what: &'static str, frame: Frame) -> Self {
        Self {
            what,
            hook,
            bytes: frame.bytes.clone(),
            frame,
            before: Vec::new(),
            given: |_| {},
            verdict: Verdict::PASS,
            model_only: false,
        }
    }

    /// What it is, in full.
    pub fn name(&self) -> std::string::String {
        let family = if is_v6(&self.frame) { "IPv6" } else { "IPv4" };
        std::format!("{}, {family}: {}", self.hook.name(), self.what)
    }

    /// The world before the first packet.
    pub fn world(&self) -> World {
        let mut world = scene::world();
        let config = world.config_mut();
        config.snat_low = PortRange { first: SNAT_PORT, last: SNAT_PORT };
        config.snat_high = PortRange::EMPTY;
        (self.given)(&mut world);
        world
    }

    fn after(mut self, hook: Hook, frame: Frame) -> Self {
        self.before.push((hook, frame));
        self
    }

    fn given(mut self, given: fn(&mut World)) -> Self {
        self.given = given;
        self
    }

    fn model_only(mut self) -> Self {
        self.model_only = true;
        self
    }

    /// The kernel refuses to edit the packet, which then has to go.
    fn refusing_edits(mut self) -> Self {
        self.frame.refuses_edits = true;
        self.model_only()
    }

    /// On to the stack, as it came.
    fn passes(self) -> Self {
        self.becomes(Verdict::PASS)
    }

    /// On to the stack, past the bridge of the container that sent it.
    fn arrives(self) -> Self {
        let bridge = scene::bridge_of(self.frame.ifindex);
        self.becomes(Verdict::past_bridge(bridge))
    }

    /// Past its bridge to a container, under netd's mark.
    fn goes_past_the_bridge(self, to: &scene::Container) -> Self {
        self.becomes(Verdict::past_bridge(to.ifindex))
    }

    /// Dropped, as it came.
    fn drops(self, reason: DropReason) -> Self {
        self.becomes(Verdict::drop(reason))
    }

    fn becomes(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    fn delivers(mut self, to: &scene::Container, datagram: &Datagram) -> Self {
        self.bytes = datagram.frame();
        self.becomes(Verdict::deliver(to.ifindex))
    }

    fn forwards(mut self, uplink: u32, datagram: &Datagram) -> Self {
        self.bytes = datagram.frame();
        self.becomes(Verdict::forward(uplink))
    }

    fn translates(mut self, datagram: &Datagram) -> Self {
        self.bytes = datagram.frame();
        self.becomes(Verdict::TRANSLATED)
    }
}

/// All of a link (RFC 4291 §2.7.1).
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

const fn syn(sport: u16, dport: u16) -> Layer4 {
    Layer4::Tcp { sport, dport, flags: TCP_SYN }
}

const fn ack(sport: u16, dport: u16) -> Layer4 {
    Layer4::Tcp { sport, dport, flags: TCP_ACK }
}

const fn syn_ack(sport: u16, dport: u16) -> Layer4 {
    Layer4::Tcp { sport, dport, flags: TCP_SYN | TCP_ACK }
}

const fn rst(sport: u16, dport: u16) -> Layer4 {
    Layer4::Tcp { sport, dport, flags: TCP_RST }
}

const fn udp(sport: u16, dport: u16) -> Layer4 {
    Layer4::Udp { sport, dport }
}

fn is_v6(frame: &Frame) -> bool {
    frame.bytes.get(12..14) == Some(&[0x86, 0xdd])
}

/// A header that says more bytes than there are.
fn cut_short(mut frame: Frame) -> Frame {
    let len = if is_v6(&frame) { 60 } else { 40 };
    frame.bytes.truncate(len);
    frame
}

/// `datagram` after a hop, with these addresses and ports.
fn routed(datagram: &Datagram, src: IpAddr, dst: IpAddr, layer4: Layer4) -> Datagram {
    Datagram { src, dst, layer4, ttl: datagram.ttl - 1, ..datagram.clone() }
}

/// As [`routed`], with the MACs of a delivery to `to`.
fn delivered(datagram: &Datagram, src: IpAddr, to: &scene::Container, layer4: Layer4) -> Datagram {
    Datagram {
        src_mac: to.gateway_mac,
        dst_mac: to.mac,
        ..routed(datagram, src, to.address[scene::family(src)], layer4)
    }
}
