//! Frames out of choices: new ones, answers, complaints, pieces, nonsense.

use core::net::{IpAddr, Ipv6Addr};
use std::{collections::VecDeque, vec, vec::Vec};

use super::{
    super::{
        Arp, Complaint, DESTINATION, Datagram, Extension, Frame, HOP_BY_HOP, Layer4, Ndp, ROUTING,
        scene::{
            self, ALIAS, CONTAINERS, Container, Dual, FAR, HOST, HOST1, LOCALHOST, NOBODY, OFF,
            OUTSIDE, ROUTER, ROUTER_MAC, UNREACHABLE, UP0, UP1, UPLINK_MAC, gateway, incoming,
        },
        std,
    },
    input::Input,
};
use crate::{
    abi::{
        Family,
        wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    },
    verdict::{Hook, Verdict},
};

/// A packet on its way through a hook.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) hook: Hook,
    pub(super) frame: Frame,
}

/// A packet that came by, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) hook: Hook,
    pub(super) frame: Frame,
    pub(super) out: Frame,
    pub(super) verdict: Verdict,
}

const FLAGS: [u8; 8] = [
    TCP_SYN,
    TCP_SYN | TCP_ACK,
    TCP_ACK,
    TCP_FIN | TCP_ACK,
    TCP_RST,
    TCP_RST | TCP_ACK,
    TCP_SYN | TCP_FIN,
    0,
];
const PORTS: [u16; 16] =
    [40_000, 40_001, 80, 443, 8080, 5353, 9090, 7070, 6060, 8443, 5354, 8081, 9899, 22, 2001, 0];
const ADDRESSES: [Dual; 16] = [
    OUTSIDE,
    FAR,
    HOST,
    ALIAS,
    HOST1,
    ROUTER,
    OFF,
    UNREACHABLE,
    LOCALHOST,
    NOBODY,
    gateway(scene::ONE),
    gateway(scene::INNER_NET),
    Dual::new([255; 4], [0xff02, 0, 0, 0, 0, 0, 0, 1]),
    Dual::new([0; 4], [0; 8]),
    Dual::new([224, 0, 0, 251], [0xff05, 0, 0, 0, 0, 0, 0, 0xfb]),
    Dual::new([172, 18, 255, 255], [0xfe80, 0, 0, 0, 0, 0, 0, 0x99]),
];
const QUOTED: [usize; 6] = [0, 4, 8, 20, 28, usize::MAX];
/// By two bits of an input; `FromHost` is tried with what `ToContainer` gets.
const HOOKS: [Hook; 4] = [Hook::FromContainer, Hook::ToContainer, Hook::FromUplink, Hook::ToUplink];

/// What `what` means: most often one packet.
pub(super) fn steps(what: u8, input: &mut Input, memory: &[Sent]) -> VecDeque<Step> {
    let step = match what & 0xf {
        0..=4 => Some(fresh(input)),
        5..=8 => about(input, memory, Datagram::answer),
        9 => {
            let kind = input.pick(&Complaint::ALL);
            let quoted = input.pick(&QUOTED);
            let by = address(input, Family::V4);
            let other = input.byte() & 3 == 0;
            about(input, memory, |got| {
                let by = if other && got.src.is_ipv4() { by } else { got.dst };
                got.complaint(by, kind, quoted)
            })
        }
        10 => return in_pieces(input, memory),
        11 => Some(nonsense(input)),
        12 => again(input, memory),
        13 => patched(input, memory),
        14 => Some(ndp(input)),
        _ => Some(arp(input)),
    };
    step.into_iter().collect()
}

fn at(hook: Hook, ifindex: u32, bytes: Vec<u8>) -> Step {
    Step { hook, frame: scene::frame(ifindex, bytes) }
}

fn container(input: &mut Input) -> Container {
    input.pick(&CONTAINERS)
}

fn address(input: &mut Input, f: Family) -> IpAddr {
    let n = input.byte();
    let index = usize::from(n & 0xf);
    match n >> 6 {
        0 | 1 => ADDRESSES[index][f],
        2 => CONTAINERS[index % CONTAINERS.len()].address[f],
        _ if f == Family::V6 => CONTAINERS[index % CONTAINERS.len()].link_local().into(),
        _ => OUTSIDE[f],
    }
}

fn fresh(input: &mut Input) -> Step {
    let (hook, ifindex, datagram) = datagram(input);
    let mut step = at(hook, ifindex, datagram.frame());
    if hook == Hook::ToContainer {
        step.frame.ingress_ifindex = input.pick(&[0, UP0, UP1]);
    }
    step
}

fn datagram(input: &mut Input) -> (Hook, u32, Datagram) {
    let shape = input.byte();
    let f = if shape & 1 == 0 { Family::V4 } else { Family::V6 };
    let hook = HOOKS[usize::from(shape >> 1 & 3)];
    let own = container(input);
    let layer4 = layer4(input);
    let (ifindex, mut datagram) = match hook {
        Hook::FromContainer if shape & 8 != 0 => {
            (own.ifindex, own.tells(f, &container(input), layer4))
        }
        Hook::FromContainer => (own.ifindex, own.sends(address(input, f), layer4)),
        Hook::FromUplink => {
            let (src, dst) = (address(input, f), address(input, f));
            (input.pick(&[UP0, UP1]), incoming(src, dst, layer4))
        }
        Hook::ToContainer => {
            let got = incoming(address(input, f), own.address[f], layer4);
            (own.ifindex, Datagram { src_mac: own.gateway_mac, dst_mac: own.mac, ..got })
        }
        _ => {
            let (src, dst) = (address(input, f), address(input, f));
            let left = incoming(src, dst, layer4);
            let left = Datagram { src_mac: UPLINK_MAC, dst_mac: ROUTER_MAC, ..left };
            (input.pick(&[UP0, UP1]), left)
        }
    };
    if shape & 0x10 != 0 {
        datagram.ttl = input.pick(&[1, 0, 2, 255]);
    }
    if shape & 0x20 != 0 {
        extend(input, &mut datagram);
    }
    if shape & 0x40 != 0 {
        let len = usize::from(input.byte()) * 8;
        datagram.payload = vec![0x5a; len];
    }
    if shape & 0x80 != 0 {
        datagram.fragment = input.pick(&[0x2000, 0x0001, 0x2001, 0x00b9, 0x8000, 0x4000]);
        datagram.id = u32::from(input.byte() & 3);
    }
    (hook, ifindex, datagram)
}

fn extend(input: &mut Input, datagram: &mut Datagram) {
    if datagram.src.is_ipv4() {
        datagram.options = vec![1; 4 * input.below(11)];
        return;
    }
    let count = input.below(9);
    datagram.extensions = (0..count)
        .map(|_| {
            let kind = input.pick(&[HOP_BY_HOP, ROUTING, DESTINATION]);
            Extension::new(kind, input.pick(&[0, 0, 1, 25]))
        })
        .collect();
}

fn layer4(input: &mut Input) -> Layer4 {
    let kind = input.byte();
    let ports = input.byte();
    let (sport, dport) = (PORTS[usize::from(ports >> 4)], PORTS[usize::from(ports & 0xf)]);
    match kind & 0xf {
        0..=4 => Layer4::Tcp { sport, dport, flags: FLAGS[usize::from(kind >> 5)] },
        5 => {
            let mss = input.pick(&[1460, 536, 9000, 0]);
            Layer4::TcpMss { sport, dport, flags: TCP_SYN, mss }
        }
        6..=8 => Layer4::Udp { sport, dport },
        9 => Layer4::BareUdp { sport, dport },
        10 => Layer4::Sctp { sport, dport },
        11 | 12 => Layer4::EchoRequest { id: sport },
        13 => Layer4::EchoReply { id: dport },
        14 => Layer4::Icmp { kind: input.byte(), code: kind >> 4, rest: u32::from(ports) },
        _ => Layer4::Raw { proto: input.byte() },
    }
}

/// The other end's word on a packet that moved.
fn about(
    input: &mut Input,
    memory: &[Sent],
    reply: impl FnOnce(&Datagram) -> Datagram,
) -> Option<Step> {
    let moved: Vec<_> = memory
        .iter()
        .filter(|sent| {
            sent.verdict.is_deliver()
                || sent.verdict.is_forward()
                || sent.verdict == Verdict::TRANSLATED
        })
        .collect();
    if moved.is_empty() {
        return None;
    }
    // The newest first.
    let sent = moved[moved.len() - 1 - input.below(moved.len())];
    let got = Datagram::parse(&sent.out.bytes)?;
    let mut said = reply(&got);
    (said.src_mac, said.dst_mac) = (got.dst_mac, got.src_mac);
    let tweak = input.byte();
    if let Layer4::Tcp { flags, .. } = &mut said.layer4
        && tweak & 8 != 0
    {
        *flags = FLAGS[usize::from(tweak & 7)];
    }
    if tweak & 0x80 != 0 {
        said.ttl = 1;
    }
    if sent.verdict.is_deliver() {
        return Some(at(Hook::FromContainer, sent.verdict.ifindex(), said.frame()));
    }
    (said.src_mac, said.dst_mac) = (ROUTER_MAC, UPLINK_MAC);
    let by = if sent.verdict.is_forward() { sent.verdict.ifindex() } else { sent.frame.ifindex };
    Some(at(Hook::FromUplink, by, said.frame()))
}

/// A new datagram, or one that came by, in pieces and in any order.
fn in_pieces(input: &mut Input, memory: &[Sent]) -> VecDeque<Step> {
    let (hook, ifindex, whole) = match input.pick_of(&[0_u8, 1]) {
        Some(1) => {
            let Some(step) = about(input, memory, Datagram::answer) else {
                return VecDeque::new();
            };
            let Some(datagram) = Datagram::parse(&step.frame.bytes) else {
                return VecDeque::new();
            };
            (step.hook, step.frame.ifindex, datagram)
        }
        _ => datagram(input),
    };
    let (size, id) = (input.byte(), u32::from(input.byte() & 3));
    let payload = vec![0xa5; 40 + usize::from(size) * 4];
    let plain = Datagram { payload, id, fragment: 0, extensions: vec![], ..whole };
    let mut pieces = plain.fragments(input.pick(&[200, 400, 1280]));
    let (a, b) = (input.below(pieces.len()), input.below(pieces.len()));
    pieces.swap(a, b);
    pieces.iter().map(|piece| at(hook, ifindex, piece.frame())).collect()
}

fn nonsense(input: &mut Input) -> Step {
    let (hook, len) = (input.pick(&HOOKS), input.below(120));
    let ifindex = match hook {
        Hook::FromContainer | Hook::ToContainer => container(input).ifindex,
        _ => input.pick(&[UP0, UP1]),
    };
    at(hook, ifindex, input.bytes(len))
}

fn remembered(input: &mut Input, memory: &[Sent]) -> Option<Step> {
    if memory.is_empty() {
        return None;
    }
    let Sent { hook, frame, .. } = &memory[memory.len() - 1 - input.below(memory.len())];
    Some(Step { hook: *hook, frame: frame.clone() })
}

fn again(input: &mut Input, memory: &[Sent]) -> Option<Step> {
    let mut step = remembered(input, memory)?;
    match input.below(4) {
        0 => step.frame.gso_size = u32::from(input.word()),
        1 => step.frame.vlan = true,
        2 => step.frame.refuses_edits = true,
        _ => {}
    }
    Some(step)
}

/// Some bytes of it are others.
fn patched(input: &mut Input, memory: &[Sent]) -> Option<Step> {
    let mut step = remembered(input, memory)?;
    for _ in 0..=input.below(4) {
        let (at, to) = (usize::from(input.byte()), input.byte());
        if let Some(byte) = step.frame.bytes.get_mut(at) {
            *byte = to;
        }
    }
    if input.byte() & 7 == 1 {
        step.frame.bytes.truncate(usize::from(input.byte()));
    }
    step.frame.for_another = scene::is_for_another(&step.frame);
    Some(step)
}

fn ndp(input: &mut Input) -> Step {
    let (own, other) = (container(input), container(input));
    let any = |of: &Container, n: usize| match n {
        0 => of.link_local(),
        1 => Ipv6Addr::UNSPECIFIED,
        2 => of.address.v6(),
        _ => gateway(of.network).v6(),
    };
    let src = any(&own, input.below(4));
    let mut message = match input.below(4) {
        0 => Ndp::advertisement(own.mac, src),
        1 => Ndp::router(input.pick(&[133, 134, 137]), own.mac, src),
        _ => Ndp::solicitation(own.mac, src, any(&other, 2)),
    };
    match input.below(6) {
        0 => message.src_mac = other.mac,
        1 => message.link = Some(other.mac),
        2 => message.target = any(&other, input.below(4)),
        3 => message.hop_limit = 64,
        _ => {}
    }
    at(Hook::FromContainer, own.ifindex, message.frame())
}

fn arp(input: &mut Input) -> Step {
    let (own, other) = (container(input), container(input));
    let liar = input.byte();
    let pick = |bit: u8| if liar & bit == 0 { own } else { other };
    let message = Arp {
        src_mac: pick(1).mac,
        sender_mac: pick(2).mac,
        sender: pick(4).address.v4(),
        target: gateway(own.network).v4(),
    };
    at(Hook::FromContainer, own.ifindex, message.frame())
}
