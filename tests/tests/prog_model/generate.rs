//! Packets by chance, of which enough make sense for flows to live and die.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netd_common::{
    abi::{
        Family, Mac,
        wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    },
    model::{
        Arp, Complaint, DESTINATION, Datagram, Extension, Frame, HOP_BY_HOP, Layer4, Ndp, ROUTING,
        cases::FAMILIES,
        scene::{
            self, ALIAS, CLIENT, CONTAINERS, Dual, FAR, HOST, HOST1, LOCALHOST, NOBODY, OFF,
            OUTSIDE, ROUTER, ROUTER_MAC, UNREACHABLE, UP0, UP1, UPLINK_MAC, WEB, gateway, incoming,
        },
    },
    verdict::{Hook, Verdict},
};
use netd_tests::Random;

/// A packet on its way through a hook.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) hook: Hook,
    pub(crate) frame: Frame,
}

/// One side of a conversation: what it may say next.
#[derive(Clone, Debug)]
struct Line {
    hook: Hook,
    ifindex: u32,
    datagram: Datagram,
}

pub(crate) struct Generator {
    random: Random,
    lines: Vec<Line>,
    /// What is said next: the rest of a datagram in pieces.
    next: VecDeque<Line>,
    /// Many talk to one service.
    crowded: bool,
}

const TCP_FLAGS: [u8; 10] = [
    TCP_SYN,
    TCP_SYN,
    TCP_SYN | TCP_ACK,
    TCP_ACK,
    TCP_ACK,
    TCP_ACK,
    TCP_FIN | TCP_ACK,
    TCP_FIN | TCP_ACK,
    TCP_RST,
    TCP_RST | TCP_ACK,
];
/// Few, so that flows meet.
const CLIENT_PORTS: [u16; 6] = [40_000, 40_001, 40_002, 1024, 80, 0];
const SERVER_PORTS: [u16; 17] =
    [80, 443, 8080, 5353, 9090, 7070, 6060, 53, 8443, 5354, 8081, 9899, 22, 2001, 8081, 8081, 443];
/// Few as well, so that datagrams are mixed up.
const IDS: [u32; 3] = [7, 8, 0x1_0000];
const MACS: [Mac; 4] =
    [UPLINK_MAC, CLIENT.mac, Mac::from_octets([0xff; 6]), Mac::from_octets([1, 0, 0x5e, 0, 0, 1])];

impl Generator {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, lines: Vec::new(), next: VecDeque::new(), crowded: false }
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// From now on many talk to one service, so that its ports run out.
    pub(crate) fn crowd(&mut self) {
        self.crowded = true;
    }

    pub(crate) fn step(&mut self) -> Step {
        let Line { hook, mut ifindex, mut datagram } = match self.next.pop_front() {
            Some(line) if !self.random.once_in(8) => line,
            _ => {
                let known = !self.lines.is_empty() && !self.random.once_in(3);
                let line = if known { self.next_line() } else { self.new_line() };
                if self.random.once_in(8) { self.in_pieces(line) } else { line }
            }
        };
        if self.random.once_in(12) {
            self.disturb(&mut datagram);
        }
        if self.random.once_in(40) {
            ifindex = self.random.pick(&CONTAINERS).ifindex;
        }
        let mut frame = scene::frame(ifindex, datagram.frame());
        if self.random.once_in(30) {
            frame.bytes = if self.random.once_in(2) { self.arp() } else { self.ndp() };
        }
        if self.random.once_in(15) {
            self.spoil(&mut frame);
        }
        frame.for_another = scene::is_for_another(&frame);
        if matches!(hook, Hook::ToContainer | Hook::FromHost) {
            frame.ingress_ifindex = self.random.pick(&[0, UP0, UP1]);
        }
        let early = hook == Hook::FromUplink && self.random.once_in(4);
        Step { hook: if early { Hook::UplinkXdp } else { hook }, frame }
    }

    /// Takes note of what became of a step, for others to answer it.
    pub(crate) fn saw(&mut self, step: &Step, out: &Frame, verdict: Verdict) {
        let Some(sent) = Datagram::parse(&step.frame.bytes) else { return };
        let Some(received) = Datagram::parse(&out.bytes) else { return };
        let mut answer = received.answer();
        let (hook, ifindex) = if verdict.is_deliver() {
            (Hook::FromContainer, verdict.ifindex())
        } else if verdict.is_forward() {
            (answer.src_mac, answer.dst_mac) = (ROUTER_MAC, UPLINK_MAC);
            (Hook::FromUplink, verdict.ifindex())
        } else if verdict == Verdict::TRANSLATED {
            (answer.src_mac, answer.dst_mac) = (ROUTER_MAC, UPLINK_MAC);
            (Hook::FromUplink, step.frame.ifindex)
        } else {
            return;
        };
        if self.lines.len() > 60 {
            let oldest = self.random.below(self.lines.len());
            self.lines.swap_remove(oldest);
        }
        if self.random.once_in(5) {
            let datagram = self.complaint(&received, &answer);
            self.lines.push(Line { hook, ifindex, datagram });
        }
        self.lines.push(Line { hook, ifindex, datagram: answer });
        if self.random.once_in(2) {
            let Step { hook, frame } = step;
            self.lines.push(Line { hook: *hook, ifindex: frame.ifindex, datagram: sent });
        }
    }

    /// What the other end, or a router on the way, has against a packet.
    fn complaint(&mut self, received: &Datagram, answer: &Datagram) -> Datagram {
        let f = received.family();
        let by = match self.random.below(4) {
            0 => ROUTER[f],
            1 => self.source(f),
            _ => answer.src,
        };
        let kind = self.random.pick(&Complaint::ALL);
        let quoted = self.random.pick(&[0, 4, 8, 20, 28, usize::MAX]);
        let (src_mac, dst_mac) = (answer.src_mac, answer.dst_mac);
        Datagram { src_mac, dst_mac, ..received.complaint(by, kind, quoted) }
    }

    /// The first piece of a long datagram; the others come next, in this order
    /// or another.
    fn in_pieces(&mut self, line: Line) -> Line {
        let Line { hook, ifindex, datagram } = line;
        let len = 100 + self.random.below(1500);
        let payload = self.random.bytes(len);
        let id = self.random.pick(&IDS);
        let whole = Datagram { payload, id, extensions: Vec::new(), ..datagram };
        let mtu = self.random.pick(&[200, 576, 1280]);
        let mut pieces = whole.fragments(mtu);
        if self.random.once_in(3) {
            let (a, b) = (self.random.below(pieces.len()), self.random.below(pieces.len()));
            pieces.swap(a, b);
        }
        let mut lines = pieces.into_iter().map(|datagram| Line { hook, ifindex, datagram });
        let first = lines.next().expect("a piece");
        self.next.extend(lines);
        first
    }

    fn next_line(&mut self) -> Line {
        let at = self.random.below(self.lines.len());
        let mut line = self.lines[at].clone();
        if let Layer4::Tcp { flags, .. } = &mut line.datagram.layer4
            && self.random.once_in(2)
        {
            *flags = self.random.pick(&TCP_FLAGS);
        }
        line
    }

    fn new_line(&mut self) -> Line {
        let layer4 = self.layer4();
        let f = self.random.pick(&FAMILIES);
        let container = self.random.pick(&CONTAINERS);
        match self.random.below(12) {
            0..=4 => {
                let dst = self.destination(f);
                let datagram = container.sends(dst, layer4);
                Line { hook: Hook::FromContainer, ifindex: container.ifindex, datagram }
            }
            5 => {
                let other = self.random.pick(&CONTAINERS);
                let datagram = container.tells(f, &other, layer4);
                Line { hook: Hook::FromContainer, ifindex: container.ifindex, datagram }
            }
            6..=8 => {
                let (src, dst) = (self.source(f), self.destination(f));
                let ifindex = self.random.pick(&[UP0, UP1]);
                Line { hook: Hook::FromUplink, ifindex, datagram: incoming(src, dst, layer4) }
            }
            9 => {
                let mut datagram = incoming(self.source(f), container.address[f], layer4);
                (datagram.src_mac, datagram.dst_mac) = (container.gateway_mac, container.mac);
                let (hook, ifindex) = if self.random.once_in(2) {
                    (Hook::ToContainer, container.ifindex)
                } else {
                    (Hook::FromHost, scene::bridge(container.network))
                };
                Line { hook, ifindex, datagram }
            }
            _ => {
                let src = self.source(f);
                let mut datagram = incoming(src, self.destination(f), layer4);
                (datagram.src_mac, datagram.dst_mac) = (UPLINK_MAC, ROUTER_MAC);
                let ifindex = self.random.pick(&[UP0, UP1]);
                Line { hook: Hook::ToUplink, ifindex, datagram }
            }
        }
    }

    fn layer4(&mut self) -> Layer4 {
        let sport = self.random.pick(&CLIENT_PORTS);
        let dport = self.random.pick(&SERVER_PORTS);
        if self.crowded && self.random.once_in(2) {
            return Layer4::Udp { sport, dport: 443 };
        }
        match self.random.below(12) {
            10 => Layer4::Sctp { sport, dport },
            11 => {
                let flags = self.random.pick(&[TCP_SYN, TCP_SYN | TCP_ACK]);
                Layer4::TcpMss { sport, dport, flags, mss: self.random.pick(&[536, 1460, 9000]) }
            }
            0..=4 => Layer4::Tcp { sport, dport, flags: self.random.pick(&TCP_FLAGS) },
            5 | 6 => Layer4::Udp { sport, dport },
            7 => Layer4::BareUdp { sport, dport },
            8 => match self.random.below(3) {
                0 => Layer4::EchoReply { id: self.random.pick(&[0, 7, 0x100]) },
                _ => Layer4::EchoRequest { id: self.random.pick(&[0, 7, 0x100]) },
            },
            _ => Layer4::Raw {
                proto: self
                    .random
                    .pick(&[1, 2, 6, 17, 33, 41, 47, 47, 47, 47, 50, 50, 58, 59, 132, 255]),
            },
        }
    }

    fn destination(&mut self, f: Family) -> IpAddr {
        if self.crowded && self.random.once_in(2) {
            return OUTSIDE[f];
        }
        let fixed = [
            OUTSIDE,
            OUTSIDE,
            FAR,
            HOST,
            HOST,
            ALIAS,
            HOST1,
            UNREACHABLE,
            OFF,
            gateway(scene::ONE),
            LOCALHOST,
            Dual::new([255; 4], [0xff02, 0, 0, 0, 0, 0, 0, 1]),
            Dual::new([0; 4], [0; 8]),
            Dual::new([224, 0, 0, 251], [0xff05, 0, 0, 0, 0, 0, 0, 0xfb]),
            Dual::new([172, 18, 255, 255], [0xfd00, 0, 0, 1, 0, 0, 0, 0]),
            NOBODY,
            Dual::new([192, 0, 2, 255], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]),
            Dual::new([192, 0, 2, 200], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200]),
        ];
        match self.random.below(10) {
            0 => self.random.pick(&CONTAINERS).address[f],
            1 => self.anyone(f),
            _ => self.random.pick(&fixed)[f],
        }
    }

    fn source(&mut self, f: Family) -> IpAddr {
        let fixed = [OUTSIDE, OUTSIDE, FAR, FAR, HOST, gateway(scene::ONE), LOCALHOST];
        match self.random.below(4) {
            0 => self.random.pick(&CONTAINERS).address[f],
            _ => self.random.pick(&fixed)[f],
        }
    }

    fn anyone(&mut self, f: Family) -> IpAddr {
        let word = self.random.word();
        match f {
            Family::V4 => Ipv4Addr::from_bits(u32::from(word) << 16 | 0x0505).into(),
            Family::V6 => Ipv6Addr::new(word, 0xdb8, 0, 0, 0, 0, 0, 5).into(),
        }
    }

    /// One field of a good packet is another than it was.
    fn disturb(&mut self, datagram: &mut Datagram) {
        let f = datagram.family();
        match self.random.below(10) {
            0 | 1 => datagram.ttl = self.random.pick(&[0, 1, 2, 255]),
            2 => datagram.src_mac = self.random.pick(&MACS),
            3 => datagram.dst_mac = self.random.pick(&MACS),
            4 => datagram.src = self.source(f),
            5 if f == Family::V4 => {
                let len = 4 * self.random.below(11);
                datagram.options = vec![1; len];
            }
            5 => datagram.extensions = self.extensions(),
            6 => datagram.fragment = self.random.pick(&[0x2000, 0x4000, 0x00b9, 0x20b9, 0x8000]),
            7 => {
                let len = self.random.below(1600);
                datagram.payload = self.random.bytes(len);
            }
            8 => datagram.id = self.random.word().into(),
            _ => datagram.dst = WEB.address[f],
        }
    }

    fn extensions(&mut self) -> Vec<Extension> {
        let kinds = [HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION];
        let count = self.random.below(4);
        let one = |random: &mut Random| Extension::new(random.pick(&kinds), random.below(4));
        (0..count).map(|_| one(&mut self.random)).collect()
    }

    fn arp(&mut self) -> Vec<u8> {
        let (own, other) = (self.random.pick(&CONTAINERS), self.random.pick(&CONTAINERS));
        let mut message = Arp {
            src_mac: own.mac,
            sender_mac: own.mac,
            sender: own.address.v4(),
            target: gateway(own.network).v4(),
        };
        match self.random.below(6) {
            0 => message.src_mac = other.mac,
            1 => message.sender_mac = other.mac,
            2 => message.sender = other.address.v4(),
            _ => {}
        }
        message.frame()
    }

    fn ndp(&mut self) -> Vec<u8> {
        let (own, other) = (self.random.pick(&CONTAINERS), self.random.pick(&CONTAINERS));
        let address = |of: &scene::Container, random: &mut Random| match random.below(3) {
            0 => of.link_local(),
            1 => Ipv6Addr::UNSPECIFIED,
            _ => of.address.v6(),
        };
        let src = address(&own, &mut self.random);
        let target = address(&other, &mut self.random);
        let mut message = match self.random.below(4) {
            0 => Ndp::advertisement(own.mac, src),
            1 => Ndp::router(self.random.pick(&[133, 134, 137]), own.mac, src),
            2 => Ndp::solicitation(own.mac, src, own.address.v6()),
            _ => Ndp::solicitation(own.mac, src, target),
        };
        match self.random.below(8) {
            0 => message.src_mac = other.mac,
            1 => message.link = Some(other.mac),
            2 => message.target = target,
            3 => message.hop_limit = 64,
            4 => message.link = None,
            _ => {}
        }
        message.frame()
    }

    /// What a frame may look like that nobody meant to send.
    fn spoil(&mut self, frame: &mut Frame) {
        let len = frame.bytes.len();
        match self.random.below(7) {
            0 => frame.bytes.truncate(14 + self.random.below(len - 13)),
            1 => {
                let len = 14 + self.random.below(120);
                frame.bytes = self.random.bytes(len);
            }
            2 => {
                let garbage = self.random.bytes(len - 14);
                frame.bytes[14..].copy_from_slice(&garbage);
            }
            3 => {
                let ethertype =
                    self.random.pick(&[[0x86, 0xdd], [0x81, 0], [0x88, 0x47], [8, 6], [8, 0]]);
                frame.bytes[12..14].copy_from_slice(&ethertype);
            }
            4 => frame.gso_size = self.random.pick(&[100, 1240, 1448, 9000]),
            5 => frame.bytes.extend(vec![0; 20]),
            _ => {
                for _ in 0..3 {
                    let at = self.random.below(len);
                    frame.bytes[at] = self.random.byte();
                }
            }
        }
    }
}
