//! The header that follows IP's.

use std::{vec, vec::Vec};

use super::{length, std};
use crate::abi::{
    Be16, Family,
    wire::{
        self, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, PROTO_ICMP, PROTO_TCP, PROTO_UDP, Ports, TCP_ACK,
    },
};

pub(super) const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const ECHO_REQUEST6: u8 = 128;
const ECHO_REPLY6: u8 = 129;
/// A TCP header of six words whose option is the MSS.
const WITH_MSS: u8 = 6 << 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer4 {
    Tcp {
        sport: u16,
        dport: u16,
        flags: u8,
    },
    /// With the largest segment that its sender takes (RFC 9293 §3.7.1).
    TcpMss {
        sport: u16,
        dport: u16,
        flags: u8,
        mss: u16,
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
    /// Its checksum (CRC32c) covers no address and is not verified here.
    Sctp {
        sport: u16,
        dport: u16,
    },
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// Any other message of the family's ICMP.
    Icmp {
        kind: u8,
        code: u8,
        /// Bytes 4 to 7: an MTU, a pointer, flags.
        rest: u32,
    },
    /// Nothing but the payload.
    Raw {
        proto: u8,
    },
}

/// An ICMP error, of either family (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// "Fragmentation needed", "packet too big".
    TooBig {
        mtu: u16,
    },
    HostUnreachable,
    PortUnreachable,
    TimeExceeded,
    ParameterProblem {
        pointer: u8,
    },
    /// A source quench (RFC 6633); with ICMPv6 "administratively prohibited".
    Other,
}

impl Complaint {
    pub const ALL: [Self; 6] = [
        Self::TooBig { mtu: 1300 },
        Self::HostUnreachable,
        Self::PortUnreachable,
        Self::TimeExceeded,
        Self::ParameterProblem { pointer: 9 },
        Self::Other,
    ];

    pub const fn layer4(self, family: Family) -> Layer4 {
        let (kind, code, rest) = match (self, family) {
            (Self::TooBig { mtu }, Family::V4) => (3, 4, mtu as u32),
            (Self::TooBig { mtu }, Family::V6) => (2, 0, mtu as u32),
            (Self::HostUnreachable, Family::V4) => (3, 1, 0),
            (Self::HostUnreachable, Family::V6) => (1, 3, 0),
            (Self::PortUnreachable, Family::V4) => (3, 3, 0),
            (Self::PortUnreachable, Family::V6) => (1, 4, 0),
            (Self::TimeExceeded, Family::V4) => (11, 0, 0),
            (Self::TimeExceeded, Family::V6) => (3, 0, 0),
            (Self::ParameterProblem { pointer }, Family::V4) => (12, 0, (pointer as u32) << 24),
            (Self::ParameterProblem { pointer }, Family::V6) => (4, 0, pointer as u32),
            (Self::Other, Family::V4) => (4, 0, 0),
            (Self::Other, Family::V6) => (1, 1, 0),
        };
        Layer4::Icmp { kind, code, rest }
    }
}

impl Layer4 {
    pub const fn proto(self, family: Family) -> u8 {
        match (self, family) {
            (Self::Tcp { .. } | Self::TcpMss { .. }, _) => PROTO_TCP,
            (Self::Udp { .. } | Self::BareUdp { .. }, _) => PROTO_UDP,
            (Self::Sctp { .. }, _) => SCTP,
            (Self::Raw { proto }, _) => proto,
            (_, Family::V4) => PROTO_ICMP,
            (_, Family::V6) => ICMPV6,
        }
    }

    /// Source and destination, where it has them.
    pub const fn ports(self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp { sport, dport, .. }
            | Self::TcpMss { sport, dport, .. }
            | Self::Udp { sport, dport }
            | Self::BareUdp { sport, dport }
            | Self::Sctp { sport, dport } => Some((sport, dport)),
            _ => None,
        }
    }

    /// The same with other ports; an echo takes the one that is not 0 as its
    /// identifier.
    #[must_use]
    pub const fn with_ports(self, new_sport: u16, new_dport: u16) -> Self {
        let (sport, dport) = (new_sport, new_dport);
        match self {
            Self::Tcp { flags, .. } => Self::Tcp { sport, dport, flags },
            Self::TcpMss { flags, mss, .. } => Self::TcpMss { sport, dport, flags, mss },
            Self::Udp { .. } => Self::Udp { sport, dport },
            Self::BareUdp { .. } => Self::BareUdp { sport, dport },
            Self::Sctp { .. } => Self::Sctp { sport, dport },
            Self::EchoRequest { .. } => Self::EchoRequest { id: sport },
            Self::EchoReply { .. } => Self::EchoReply { id: dport },
            Self::Icmp { .. } | Self::Raw { .. } => self,
        }
    }

    #[must_use]
    pub(super) const fn answer(self) -> Self {
        match self {
            // A SYN is answered with SYN and ACK.
            Self::Tcp { sport, dport, flags } | Self::TcpMss { sport, dport, flags, .. } => {
                Self::Tcp { sport: dport, dport: sport, flags: flags | TCP_ACK }
            }
            Self::Udp { sport, dport } => Self::Udp { sport: dport, dport: sport },
            Self::BareUdp { sport, dport } => Self::BareUdp { sport: dport, dport: sport },
            Self::Sctp { sport, dport } => Self::Sctp { sport: dport, dport: sport },
            Self::EchoRequest { id } => Self::EchoReply { id },
            Self::EchoReply { id } => Self::EchoRequest { id },
            same @ (Self::Icmp { .. } | Self::Raw { .. }) => same,
        }
    }

    /// The header, its checksum (if it has one) zero, and where that is.
    pub(super) fn header(self, family: Family, payload_len: usize) -> (Vec<u8>, Option<usize>) {
        let be = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        let echo = |kind4: u8, kind6: u8, id| {
            let kind = if family == Family::V4 { kind4 } else { kind6 };
            (be(&[u16::from(kind) << 8, 0, id, 1]), Some(2))
        };
        let tcp = |sport, dport, words: u16, flags: u8| {
            be(&[sport, dport, 1, 2, 3, 4, words << 12 | u16::from(flags), 0x7210, 0, 0])
        };
        match self {
            Self::Tcp { sport, dport, flags } => (tcp(sport, dport, 5, flags), Some(16)),
            Self::TcpMss { sport, dport, flags, mss } => {
                let mut header = tcp(sport, dport, 6, flags);
                header.extend(be(&[0x0204, mss]));
                (header, Some(16))
            }
            Self::Udp { sport, dport } => {
                (be(&[sport, dport, length(8 + payload_len), 0]), Some(6))
            }
            Self::BareUdp { sport, dport } => {
                (be(&[sport, dport, length(8 + payload_len), 0]), None)
            }
            Self::Sctp { sport, dport } => (be(&[sport, dport, 5, 6, 0x7363, 0x7470]), None),
            Self::EchoRequest { id } => echo(ICMP_ECHO_REQUEST, ECHO_REQUEST6, id),
            Self::EchoReply { id } => echo(ICMP_ECHO_REPLY, ECHO_REPLY6, id),
            Self::Icmp { kind, code, rest } => {
                let mut header = vec![kind, code, 0, 0];
                header.extend(rest.to_be_bytes());
                (header, Some(2))
            }
            Self::Raw { .. } => (vec![], None),
        }
    }

    /// The header of `segment`, and its length. `None`: it is cut short. What is
    /// not `whole` has no header to speak of.
    pub(super) fn parse(
        family: Family,
        proto: u8,
        segment: &[u8],
        whole: bool,
    ) -> Option<(Self, usize)> {
        if !whole {
            return Some((Self::Raw { proto }, 0));
        }
        let word = |at| wire::read::<Be16>(segment, at).map(Be16::to_host);
        let ports: Ports = wire::read(segment, 0).unwrap_or_default();
        let (sport, dport) = (ports.src.to_host(), ports.dst.to_host());
        let (icmp, request, reply) = match family {
            Family::V4 => (PROTO_ICMP, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY),
            Family::V6 => (ICMPV6, ECHO_REQUEST6, ECHO_REPLY6),
        };
        Some(match proto {
            PROTO_TCP => {
                let flags = *segment.get(13)?;
                if segment[12] & 0xf0 == WITH_MSS && word(20) == Some(0x0204) {
                    (Self::TcpMss { sport, dport, flags, mss: word(22)? }, 24)
                } else {
                    (Self::Tcp { sport, dport, flags }, 20)
                }
            }
            PROTO_UDP if word(6)? == 0 => (Self::BareUdp { sport, dport }, 8),
            PROTO_UDP => (Self::Udp { sport, dport }, 8),
            SCTP => {
                segment.get(..12)?;
                (Self::Sctp { sport, dport }, 12)
            }
            proto if proto == icmp => {
                let kind = *segment.first()?;
                let rest = wire::read::<u32>(segment, 4).map(u32::from_be)?;
                if kind == request {
                    (Self::EchoRequest { id: word(4)? }, 8)
                } else if kind == reply {
                    (Self::EchoReply { id: word(4)? }, 8)
                } else {
                    (Self::Icmp { kind, code: segment[1], rest }, 8)
                }
            }
            proto => (Self::Raw { proto }, 0),
        })
    }
}
