//! Frames made from their meaning, and their checksums summed up anew.

use core::net::Ipv4Addr;
use std::{vec, vec::Vec};

use super::std;
use crate::{
    abi::{
        Be16, Mac,
        wire::{
            self, ETHERNET_LEN, Ethernet, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, IPV4_LEN, Ipv4,
            PROTO_ICMP, PROTO_TCP, PROTO_UDP, Ports, TCP_ACK,
        },
    },
    csum,
};

/// An IPv4 frame in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub ttl: u8,
    pub id: u16,
    /// Flags and offset, as in the header.
    pub fragment: u16,
    /// IP options; a multiple of 4 bytes.
    pub options: Vec<u8>,
    pub layer4: Layer4,
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer4 {
    Tcp {
        sport: u16,
        dport: u16,
        flags: u8,
    },
    Udp {
        sport: u16,
        dport: u16,
    },
    /// A datagram without a checksum, which IPv4 allows.
    BareUdp {
        sport: u16,
        dport: u16,
    },
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// Nothing but the payload.
    Raw {
        proto: u8,
    },
}

impl Layer4 {
    pub const fn proto(self) -> u8 {
        match self {
            Self::Tcp { .. } => PROTO_TCP,
            Self::Udp { .. } | Self::BareUdp { .. } => PROTO_UDP,
            Self::EchoRequest { .. } | Self::EchoReply { .. } => PROTO_ICMP,
            Self::Raw { proto } => proto,
        }
    }

    /// The header, its checksum (if it has one) zero, and where that is.
    fn header(self, payload_len: usize) -> (Vec<u8>, Option<usize>) {
        let be = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        match self {
            Self::Tcp { sport, dport, flags } => {
                let offset_and_flags = 5 << 12 | u16::from(flags);
                let words = [sport, dport, 1, 2, 3, 4, offset_and_flags, 0x7210, 0, 0];
                (be(&words), Some(16))
            }
            Self::Udp { sport, dport } => {
                (be(&[sport, dport, length(8 + payload_len), 0]), Some(6))
            }
            Self::BareUdp { sport, dport } => {
                (be(&[sport, dport, length(8 + payload_len), 0]), None)
            }
            Self::EchoRequest { id } => {
                (be(&[u16::from(ICMP_ECHO_REQUEST) << 8, 0, id, 1]), Some(2))
            }
            Self::EchoReply { id } => (be(&[u16::from(ICMP_ECHO_REPLY) << 8, 0, id, 1]), Some(2)),
            Self::Raw { .. } => (vec![], None),
        }
    }
}

fn length(len: usize) -> u16 {
    u16::try_from(len).expect("a length of IP")
}

impl Datagram {
    pub fn frame(&self) -> Vec<u8> {
        let (mut l4, checksum_at) = self.layer4.header(self.payload.len());
        l4.extend_from_slice(&self.payload);
        if let Some(at) = checksum_at {
            let pseudo = self.layer4.proto() != PROTO_ICMP;
            let start = if pseudo { self.pseudo_header(l4.len()) } else { 0 };
            let mut check = !csum::fold(add(start, csum::sum(&l4)));
            if check == 0 && self.layer4.proto() == PROTO_UDP {
                check = 0xffff;
            }
            l4[at..at + 2].copy_from_slice(&check.to_ne_bytes());
        }
        let mut frame = Vec::with_capacity(ETHERNET_LEN + IPV4_LEN + l4.len());
        frame.extend(self.dst_mac.octets());
        frame.extend(self.src_mac.octets());
        frame.extend(0x0800_u16.to_be_bytes());
        let header_len = IPV4_LEN + self.options.len();
        frame.push(0x40 | u8::try_from(header_len / 4).expect("a header's length"));
        frame.push(0);
        frame.extend(length(header_len + l4.len()).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, self.layer4.proto(), 0, 0]);
        frame.extend(self.src.octets());
        frame.extend(self.dst.octets());
        frame.extend(&self.options);
        let check = !csum::fold(csum::sum(&frame[ETHERNET_LEN..]));
        frame[ETHERNET_LEN + 10..ETHERNET_LEN + 12].copy_from_slice(&check.to_ne_bytes());
        frame.extend(l4);
        frame
    }

    /// Of a whole, unfragmented frame; its headers' other fields are lost.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet: Ethernet = wire::read(frame, 0)?;
        let ip: Ipv4 = wire::read(frame, ETHERNET_LEN)?;
        let l4 = ETHERNET_LEN + usize::from(ip.version_ihl & 0xf) * 4;
        let ports: Ports = wire::read(frame, l4).unwrap_or_default();
        let (sport, dport) = (ports.src.to_host(), ports.dst.to_host());
        let word = |at| wire::read::<Be16>(frame, l4 + at).map(Be16::to_host);
        let (layer4, header_len) = match ip.proto {
            PROTO_TCP => (Layer4::Tcp { sport, dport, flags: *frame.get(l4 + 13)? }, 20),
            PROTO_UDP if word(6)? == 0 => (Layer4::BareUdp { sport, dport }, 8),
            PROTO_UDP => (Layer4::Udp { sport, dport }, 8),
            PROTO_ICMP if *frame.get(l4)? == ICMP_ECHO_REQUEST => {
                (Layer4::EchoRequest { id: word(4)? }, 8)
            }
            PROTO_ICMP if *frame.get(l4)? == ICMP_ECHO_REPLY => {
                (Layer4::EchoReply { id: word(4)? }, 8)
            }
            proto => (Layer4::Raw { proto }, 0),
        };
        Some(Self {
            src_mac: ethernet.src,
            dst_mac: ethernet.dst,
            src: ip.src.to_ne_bytes().into(),
            dst: ip.dst.to_ne_bytes().into(),
            ttl: ip.ttl,
            id: ip.id.to_host(),
            fragment: ip.fragment.to_host(),
            options: frame.get(ETHERNET_LEN + IPV4_LEN..l4)?.to_vec(),
            layer4,
            payload: frame.get(l4 + header_len..)?.to_vec(),
        })
    }

    /// What the receiver would send back: links, addresses and ports swapped.
    #[must_use]
    pub fn answer(&self) -> Self {
        let layer4 = match self.layer4 {
            Layer4::Tcp { sport, dport, flags } => {
                // A SYN is answered with SYN and ACK.
                Layer4::Tcp { sport: dport, dport: sport, flags: flags | TCP_ACK }
            }
            Layer4::Udp { sport, dport } => Layer4::Udp { sport: dport, dport: sport },
            Layer4::BareUdp { sport, dport } => Layer4::BareUdp { sport: dport, dport: sport },
            Layer4::EchoRequest { id } => Layer4::EchoReply { id },
            Layer4::EchoReply { id } => Layer4::EchoRequest { id },
            raw @ Layer4::Raw { .. } => raw,
        };
        Self {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            src: self.dst,
            dst: self.src,
            ttl: 64,
            layer4,
            ..self.clone()
        }
    }

    fn pseudo_header(&self, l4_len: usize) -> u32 {
        pseudo_header(self.src.octets(), self.dst.octets(), self.layer4.proto(), l4_len)
    }
}

/// RFC 9293 §3.1, RFC 768.
fn pseudo_header(src: [u8; 4], dst: [u8; 4], proto: u8, l4_len: usize) -> u32 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&src);
    bytes[4..8].copy_from_slice(&dst);
    bytes[9] = proto;
    bytes[10..].copy_from_slice(&length(l4_len).to_be_bytes());
    csum::sum(&bytes)
}

fn add(a: u32, b: u32) -> u32 {
    u32::from(csum::fold(a)) + u32::from(csum::fold(b))
}

/// Sums all checksums of a whole, unfragmented IPv4 frame up anew.
pub fn checksums(frame: &[u8]) -> Result<(), &'static str> {
    let holds = |sum| csum::fold(sum) == 0xffff;
    let ip = frame.get(ETHERNET_LEN..).ok_or("no IP header")?;
    let header_len = usize::from(ip[0] & 0xf) * 4;
    if !holds(csum::sum(&ip[..header_len])) {
        return Err("the IP header's checksum is wrong");
    }
    let l4 = &ip[header_len..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
    let proto = ip[9];
    if proto == PROTO_UDP && l4[6..8] == [0, 0] {
        return Ok(());
    }
    let at = |i: usize| [ip[i], ip[i + 1], ip[i + 2], ip[i + 3]];
    let start = match proto {
        PROTO_TCP | PROTO_UDP => pseudo_header(at(12), at(16), proto, l4.len()),
        PROTO_ICMP => 0,
        _ => return Ok(()),
    };
    if holds(add(start, csum::sum(l4))) { Ok(()) } else { Err("the checksum of layer 4 is wrong") }
}

/// An ARP message in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub src_mac: Mac,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// Asks everyone for the target's address.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend(self.src_mac.octets());
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(self.sender_mac.octets());
        frame.extend(self.sender.octets());
        frame.extend([0; 6]);
        frame.extend(self.target.octets());
        frame
    }
}
