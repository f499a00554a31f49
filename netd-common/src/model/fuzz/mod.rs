//! Packets from any bytes, and what must hold whatever they are.
//!
//! A fuzzer drives [`play`]: its bytes become packets for the hooks of the
//! [`super::scene`]'s host, most of them such that flows live and die. After
//! each packet the rules of [`rules`] are asserted; a breach is a panic.

mod frames;
mod input;
mod rules;

use std::{collections::VecDeque, vec::Vec};

use self::{
    frames::{Sent, Step},
    input::Input,
};
use super::{Datagram, Frame, World, run, scene, std};
use crate::{
    abi::PortRange,
    model::scene::{ROUTER_MAC, UP0, UP1, UPLINK_MAC},
    verdict::{Hook, Verdict},
};

/// Packets that one input makes at most.
const STEPS: usize = 96;
/// Packets that can be answered, complained about, or sent again.
const MEMORY: usize = 12;

/// Plays what `data` means, from its first byte to its last.
pub fn play(data: &[u8]) {
    let mut input = Input::new(data);
    let mut host = Host::new(&mut input);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        host.go_on(&mut input);
    }
}

/// Takes a corpus apart: inputs one after the other, each behind its length
/// (four bytes, big-endian). `None`: it is cut short.
pub fn unpack(mut corpus: &[u8]) -> Option<Vec<&[u8]>> {
    let mut inputs = Vec::new();
    while let Some((len, rest)) = corpus.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (input, rest) = rest.split_at_checked(len)?;
        inputs.push(input);
        corpus = rest;
    }
    corpus.is_empty().then_some(inputs)
}

struct Host {
    world: World,
    memory: Vec<Sent>,
    /// The rest of a datagram in pieces.
    next: VecDeque<Step>,
    /// Whether what comes from outside is shown to XDP as well.
    asks_xdp: bool,
}

impl Host {
    fn new(input: &mut Input) -> Self {
        let mut world = scene::world();
        let options = input.byte();
        if options & 2 != 0 {
            world.flows_capacity = 7;
        }
        let config = world.config_mut();
        config.seed = u32::from(input.byte());
        if options & 1 != 0 {
            (config.snat_low.first, config.snat_low.last) = (2000, 2002);
            config.snat_high = PortRange::EMPTY;
        }
        if options & 4 != 0 {
            config.features = 0;
        }
        let asks_xdp = options & 8 != 0;
        Self { world, memory: Vec::new(), next: VecDeque::new(), asks_xdp }
    }

    fn go_on(&mut self, input: &mut Input) {
        let what = input.byte();
        if what & 0xf0 == 0xf0 {
            self.change_the_world(input);
            return;
        }
        if let Some(step) = self.next.pop_front() {
            self.send(step);
            return;
        }
        let mut steps = frames::steps(what, input, &self.memory);
        if let Some(first) = steps.pop_front() {
            self.next = steps;
            self.send(first);
        }
    }

    fn send(&mut self, step: Step) {
        let Step { hook, frame } = step;
        let early = (self.asks_xdp && hook == Hook::FromUplink && !frame.vlan)
            .then(|| run(Hook::UplinkXdp, &mut frame.clone(), &mut self.world.clone()));
        let mut out = frame.clone();
        let verdict = run(hook, &mut out, &mut self.world);
        rules::hold(&self.world, hook, &frame, &out, verdict);
        if let Some(early) = early {
            rules::means_the_same(&frame, early, verdict);
        }
        if hook == Hook::ToContainer {
            self.try_at_the_bridge(&frame, verdict);
        }
        if verdict.is_forward() {
            self.leave(out.clone(), verdict);
        }
        if self.memory.len() == MEMORY {
            self.memory.remove(0);
        }
        self.memory.push(Sent { hook, frame, out, verdict });
    }

    /// What goes past the bridge is what its container is let have.
    fn try_at_the_bridge(&self, frame: &Frame, verdict: Verdict) {
        let bridge = scene::bridge_of(frame.ifindex);
        let mut at_bridge = Frame { ifindex: bridge, ..frame.clone() };
        let early = run(Hook::FromHost, &mut at_bridge, &mut self.world.clone());
        assert!(!early.is_drop(), "the bridge's program drops nothing");
        assert_eq!(
            at_bridge.translated,
            early.is_past_bridge(),
            "the mark says that it was let in"
        );
        if early.is_past_bridge() {
            assert_eq!(verdict, Verdict::PASS, "{frame:02x?}");
            rules::arrives_at_its_owner(&self.world, frame, early);
        }
    }

    /// What netd sends goes by the uplink's own program.
    fn leave(&mut self, mut frame: Frame, verdict: Verdict) {
        frame.ifindex = verdict.ifindex();
        assert!(frame.translated, "what netd forwards has its mark");
        let verdict = run(Hook::ToUplink, &mut frame, &mut self.world);
        assert_eq!(verdict, Verdict::PASS, "what netd forwards leaves");
        assert!(!frame.translated, "the mark goes no further");
    }

    fn change_the_world(&mut self, input: &mut Input) {
        let world = &mut self.world;
        match input.below(6) {
            0 => world.raise_generation(),
            1 => world.now += u32::from(input.byte()),
            2 => {
                let mut keys: Vec<_> = world.embryonic.keys().copied().collect();
                keys.sort();
                if let Some(key) = input.pick_of(&keys) {
                    world.embryonic.remove(&key);
                }
            }
            3 => {
                let mut keys: Vec<_> = world.fragments.keys().copied().collect();
                keys.sort();
                if let Some(key) = input.pick_of(&keys) {
                    world.fragments.remove(&key);
                }
            }
            4 => {
                // The default routes lead by the other uplink.
                let to = input.pick(&[UP0, UP1]);
                for route in &mut world.routes {
                    let default = matches!(route.to.bits, 0 | 96);
                    if let Some(hop) = route.by.as_mut().filter(|_| default) {
                        hop.ifindex = to;
                    }
                }
                world.raise_generation();
            }
            _ => self.forward_by_the_stack(input),
        }
    }

    /// What was passed on to the stack comes to the uplink, one hop later.
    fn forward_by_the_stack(&mut self, input: &mut Input) {
        let passed =
            |sent: &&Sent| sent.hook == Hook::FromContainer && sent.verdict == Verdict::PASS;
        let passed: Vec<_> = self.memory.iter().filter(passed).collect();
        if passed.is_empty() {
            return;
        }
        let sent = passed[input.below(passed.len())];
        let Some(datagram) = Datagram::parse(&sent.out.bytes) else { return };
        let (src_mac, dst_mac) = (UPLINK_MAC, ROUTER_MAC);
        let ttl = datagram.ttl.saturating_sub(1);
        let datagram = Datagram { src_mac, dst_mac, ttl, ..datagram };
        let frame = scene::frame(input.pick(&[UP0, UP1]), datagram.frame());
        self.send(Step { hook: Hook::ToUplink, frame });
    }
}
