//! Frames made from their meaning, and their checksums summed up anew.

mod check;
mod ip6;
mod layer4;
mod neighbour;

use core::net::IpAddr;
use std::{vec, vec::Vec};

pub use check::checksums;
pub use ip6::{DESTINATION, Extension, HOP_BY_HOP, ROUTING};
pub use layer4::{Complaint, Layer4};
pub use neighbour::{Arp, Ndp};

use super::std;
use crate::{
    abi::{
        Family, Mac,
        wire::{self, ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_LEN, Ipv4},
    },
    csum,
};

/// An IP frame in the making, of the family of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IPv6: the hop limit.
    pub ttl: u8,
    /// IPv4: 16 bits. IPv6: what its fragments go by.
    pub id: u32,
    /// Flags and offset as in IPv4's header, for both families. IPv6 has a
    /// fragment header where it is a fragment or [`Datagram::ATOMIC`].
    pub fragment: u16,
    /// IPv4's; a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6's, but for the fragment header.
    pub extensions: Vec<Extension>,
    pub layer4: Layer4,
    /// With [`Layer4::Icmp`] what follows its first eight bytes.
    pub payload: Vec<u8>,
}

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

impl Datagram {
    /// With IPv6: whole, and yet with a fragment header (RFC 6946).
    pub const ATOMIC: u16 = 0x8000;

    pub fn family(&self) -> Family {
        if self.src.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ETHERNET_LEN + 60 + self.payload.len());
        frame.extend(self.dst_mac.octets());
        frame.extend(self.src_mac.octets());
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        frame.extend(ethertype.to_be_bytes());
        frame.extend(self.packet());
        frame
    }

    /// The IP packet alone, which is what an ICMP error quotes.
    pub fn packet(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.packet4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.packet6(src.octets(), dst.octets()),
            _ => panic!("a packet of one family: {self:?}"),
        }
    }

    fn packet4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let l4 = self.segment();
        let header_len = IPV4_LEN + self.options.len();
        let mut ip = vec![0x40 | u8::try_from(header_len / 4).expect("a header's length"), 0];
        ip.extend(length(header_len + l4.len()).to_be_bytes());
        ip.extend(u16::try_from(self.id & 0xffff).expect("16 bits").to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.layer4.proto(Family::V4), 0, 0]);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(&self.options);
        let check = !csum::fold(csum::sum(&ip));
        ip[10..12].copy_from_slice(&check.to_ne_bytes());
        ip.extend(l4);
        ip
    }

    fn packet6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let (l4, proto) = (self.segment(), self.layer4.proto(Family::V6));
        let (first, chain) = ip6::chain(&self.extensions, self.fragment_header(), proto);
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(length(chain.len() + l4.len()).to_be_bytes());
        ip.extend([first, self.ttl]);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(chain);
        ip.extend(l4);
        ip
    }

    /// The second to eighth byte of IPv6's fragment header.
    fn fragment_header(&self) -> Option<[u8; 7]> {
        if self.fragment & (MORE_FRAGMENTS | OFFSET | Self::ATOMIC) == 0 {
            return None;
        }
        let more = u16::from(self.fragment & MORE_FRAGMENTS != 0);
        let [a, b] = ((self.fragment & OFFSET) << 3 | more).to_be_bytes();
        let [c, d, e, f] = self.id.to_be_bytes();
        Some([0, a, b, c, d, e, f])
    }

    /// Layer 4: its header with its checksum, and the payload.
    pub fn segment(&self) -> Vec<u8> {
        let family = self.family();
        let (mut l4, checksum_at) = self.layer4.header(family, self.payload.len());
        l4.extend_from_slice(&self.payload);
        if let Some(at) = checksum_at {
            let proto = self.layer4.proto(family);
            let start = check::pseudo_header(self.src, self.dst, proto, l4.len());
            let mut check = !csum::fold(check::add(start, csum::sum(&l4)));
            if check == 0 && proto == wire::PROTO_UDP {
                check = 0xffff;
            }
            l4[at..at + 2].copy_from_slice(&check.to_ne_bytes());
        }
        l4
    }

    /// As a stack would send it over a link of this MTU (RFC 791 §3.2, RFC 8200
    /// §4.5). A piece's part of layer 4 is its payload.
    #[must_use]
    pub fn fragments(&self, mtu: usize) -> Vec<Self> {
        if self.packet().len() <= mtu {
            return vec![self.clone()];
        }
        let proto = self.layer4.proto(self.family());
        let (whole, stay, proto) = if self.src.is_ipv4() {
            (self.segment(), vec![], proto)
        } else {
            let (stay, go) = ip6::split(&self.extensions);
            let (first, mut chain) = ip6::chain(&go, None, proto);
            chain.extend(self.segment());
            (chain, stay, first)
        };
        let headers = if self.src.is_ipv4() {
            IPV4_LEN + self.options.len()
        } else {
            40 + 8 + stay.iter().map(Extension::len).sum::<usize>()
        };
        let size = (mtu - headers) & !7;
        let last = (whole.len() - 1) / size;
        let piece = |(n, part): (usize, &[u8])| Self {
            fragment: u16::try_from(n * size / 8).expect("an offset")
                | if n == last { 0 } else { MORE_FRAGMENTS },
            extensions: stay.clone(),
            layer4: Layer4::Raw { proto },
            payload: part.to_vec(),
            ..self.clone()
        };
        whole.chunks(size).enumerate().map(piece).collect()
    }

    /// Of a frame whose headers are all there; of some the other fields are
    /// lost. All that a fragment has after the IP header is its payload.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet: Ethernet = wire::read(frame, 0)?;
        let packet = frame.get(ETHERNET_LEN..)?;
        let parsed = match ethernet.ethertype {
            ETHERTYPE_IPV4 => Self::parse4(packet)?,
            ETHERTYPE_IPV6 => Self::parse6(packet)?,
            _ => return None,
        };
        Some(Self { src_mac: ethernet.src, dst_mac: ethernet.dst, ..parsed })
    }

    fn parse4(packet: &[u8]) -> Option<Self> {
        let ip: Ipv4 = wire::read(packet, 0)?;
        let l4 = usize::from(ip.version_ihl & 0xf) * 4;
        let fragment = ip.fragment.to_host();
        let segment = packet.get(l4..)?;
        let whole = fragment & (MORE_FRAGMENTS | OFFSET) == 0;
        let (layer4, header_len) = Layer4::parse(Family::V4, ip.proto, segment, whole)?;
        Some(Self {
            src_mac: Mac::default(),
            dst_mac: Mac::default(),
            src: IpAddr::V4(ip.src.to_ne_bytes().into()),
            dst: IpAddr::V4(ip.dst.to_ne_bytes().into()),
            ttl: ip.ttl,
            id: ip.id.to_host().into(),
            fragment,
            options: packet.get(IPV4_LEN..l4)?.to_vec(),
            extensions: vec![],
            layer4,
            payload: segment.get(header_len..)?.to_vec(),
        })
    }

    fn parse6(packet: &[u8]) -> Option<Self> {
        let header = ip6::Header::parse(packet)?;
        let segment = packet.get(header.l4..)?;
        let whole = header.fragment & (MORE_FRAGMENTS | OFFSET) == 0;
        let (layer4, header_len) = Layer4::parse(Family::V6, header.proto, segment, whole)?;
        Some(Self {
            src_mac: Mac::default(),
            dst_mac: Mac::default(),
            src: IpAddr::V6(header.src.into()),
            dst: IpAddr::V6(header.dst.into()),
            ttl: packet[7],
            id: header.id,
            fragment: header.fragment,
            options: vec![],
            extensions: header.extensions,
            layer4,
            payload: segment.get(header_len..)?.to_vec(),
        })
    }

    /// What the receiver would send back: links, addresses and ports swapped.
    #[must_use]
    pub fn answer(&self) -> Self {
        Self {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            src: self.dst,
            dst: self.src,
            ttl: 64,
            layer4: self.layer4.answer(),
            ..self.clone()
        }
    }

    /// What `by` complains of about this packet to its sender: the error quotes
    /// `quoted` bytes after the IP header, or all there are.
    #[must_use]
    pub fn complaint(&self, by: IpAddr, complaint: Complaint, quoted: usize) -> Self {
        let mut payload = self.packet();
        let headers = payload.len() - self.segment().len();
        payload.truncate(headers.saturating_add(quoted));
        Self {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            src: by,
            dst: self.src,
            ttl: 64,
            id: 0x4321,
            fragment: 0,
            options: vec![],
            extensions: vec![],
            layer4: complaint.layer4(self.family()),
            payload,
        }
    }
}

fn length(len: usize) -> u16 {
    u16::try_from(len).expect("a length of IP")
}
