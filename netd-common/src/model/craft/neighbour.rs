//! Messages between neighbours: ARP (RFC 826) and NDP (RFC 4861).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{vec, vec::Vec};

use super::{Datagram, Layer4, std};
use crate::abi::Mac;

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

/// A message of NDP in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    /// One of `Ndp::*`.
    pub kind: u8,
    /// The target of a solicitation, an advertisement or a redirect.
    pub target: Ipv6Addr,
    /// The option that tells a link-layer address: its sender's, or in an
    /// advertisement and a redirect the target's.
    pub link: Option<Mac>,
    pub hop_limit: u8,
}

impl Ndp {
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;

    /// Asks for `target`, at its solicited-node group (RFC 4291 §2.7.1).
    pub fn solicitation(mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Self {
        let [.., a, b, c] = target.octets();
        Self {
            src_mac: mac,
            dst_mac: Mac::from_octets([0x33, 0x33, 0xff, a, b, c]),
            src,
            dst: Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]),
            kind: Self::NEIGHBOUR_SOLICITATION,
            target,
            link: (!src.is_unspecified()).then_some(mac),
            hop_limit: 255,
        }
    }

    /// Says to all that `mac` has `target`.
    pub fn advertisement(mac: Mac, target: Ipv6Addr) -> Self {
        Self {
            src_mac: mac,
            dst_mac: Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]),
            src: target,
            dst: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            kind: Self::NEIGHBOUR_ADVERTISEMENT,
            target,
            link: Some(mac),
            hop_limit: 255,
        }
    }

    /// A router's message: a solicitation, an advertisement, a redirect.
    pub fn router(kind: u8, mac: Mac, src: Ipv6Addr) -> Self {
        Self { kind, ..Self::advertisement(mac, src) }
    }

    pub fn datagram(&self) -> Datagram {
        let rest = match self.kind {
            // Override.
            Self::NEIGHBOUR_ADVERTISEMENT => 0x2000_0000,
            // Hop limit 64, for half an hour.
            Self::ROUTER_ADVERTISEMENT => 0x4000_0708,
            _ => 0,
        };
        let mut payload = match self.kind {
            Self::ROUTER_SOLICITATION => vec![],
            Self::ROUTER_ADVERTISEMENT => vec![0; 8],
            _ => self.target.octets().to_vec(),
        };
        if self.kind == Self::REDIRECT {
            payload.extend(self.dst.octets());
        }
        if let Some(mac) = self.link {
            let of_target = matches!(self.kind, Self::NEIGHBOUR_ADVERTISEMENT | Self::REDIRECT);
            payload.extend([if of_target { 2 } else { 1 }, 1]);
            payload.extend(mac.octets());
        }
        Datagram {
            src_mac: self.src_mac,
            dst_mac: self.dst_mac,
            src: IpAddr::V6(self.src),
            dst: IpAddr::V6(self.dst),
            ttl: self.hop_limit,
            id: 0,
            fragment: 0,
            options: vec![],
            extensions: vec![],
            layer4: Layer4::Icmp { kind: self.kind, code: 0, rest },
            payload,
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        self.datagram().frame()
    }
}
