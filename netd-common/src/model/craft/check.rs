//! Checksums, summed up over the whole of what they cover.

use core::net::IpAddr;
use std::vec::Vec;

use super::{ip6, layer4::ICMPV6, length, std};
use crate::{
    abi::wire::{ETHERNET_LEN, PROTO_ICMP, PROTO_TCP, PROTO_UDP},
    csum,
};

/// RFC 9293 §3.1, RFC 768, RFC 8200 §8.1; nothing for IPv4's ICMP.
pub(super) fn pseudo_header(src: IpAddr, dst: IpAddr, proto: u8, l4_len: usize) -> u32 {
    let mut bytes = Vec::new();
    match (src, dst) {
        _ if proto == PROTO_ICMP => {}
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend([0, proto]);
            bytes.extend(length(l4_len).to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(u32::from(length(l4_len)).to_be_bytes());
            bytes.extend([0, 0, 0, proto]);
        }
        _ => panic!("a packet of one family"),
    }
    csum::sum(&bytes)
}

pub(super) fn add(a: u32, b: u32) -> u32 {
    u32::from(csum::fold(a)) + u32::from(csum::fold(b))
}

fn holds(sum: u32) -> bool {
    csum::fold(sum) == 0xffff
}

/// What of a packet a checksum can be summed up over.
struct Parts<'a> {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    /// `None`: not all of it is here.
    segment: Option<&'a [u8]>,
}

/// Sums all checksums of a frame up anew, those of a packet that an ICMP error
/// quotes included. Of a fragment, or a quoted packet that was cut short, only
/// the IP header's can be.
pub fn checksums(frame: &[u8]) -> Result<(), &'static str> {
    packet(frame.get(ETHERNET_LEN..).ok_or("no IP header")?, false)
}

fn packet(ip: &[u8], quoted: bool) -> Result<(), &'static str> {
    let parts = match ip.first().map(|first| first >> 4) {
        Some(4) => parts4(ip)?,
        Some(6) => parts6(ip)?,
        _ => return Err("no IP header"),
    };
    let Some(segment) = parts.segment else { return Ok(()) };
    if !matches!(parts.proto, PROTO_TCP | PROTO_UDP | PROTO_ICMP | ICMPV6) {
        return Ok(());
    }
    if parts.proto == PROTO_ICMP && parts.src.is_ipv6() {
        return Ok(());
    }
    // RFC 768, RFC 6936.
    let bare = parts.proto == PROTO_UDP && segment.get(6..8) == Some(&[0, 0]);
    let start = pseudo_header(parts.src, parts.dst, parts.proto, segment.len());
    if !bare && !holds(add(start, csum::sum(segment))) {
        return Err(if quoted {
            "the checksum of the quoted layer 4 is wrong"
        } else {
            "the checksum of layer 4 is wrong"
        });
    }
    let is_error = match (parts.proto, segment.first()) {
        (PROTO_ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (ICMPV6, Some(kind)) => matches!(kind, 1..=4),
        _ => false,
    };
    match segment.get(8..) {
        Some(inner) if is_error && !quoted && !inner.is_empty() => packet(inner, true),
        _ => Ok(()),
    }
}

/// Neither more fragments nor an offset.
const fn is_whole(fragment: u16) -> bool {
    fragment << 2 == 0
}

fn parts4(ip: &[u8]) -> Result<Parts<'_>, &'static str> {
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let header = ip.get(..header_len).filter(|h| h.len() >= 20).ok_or("no IP header")?;
    if !holds(csum::sum(header)) {
        return Err("the IP header's checksum is wrong");
    }
    let at = |i: usize| IpAddr::from([ip[i], ip[i + 1], ip[i + 2], ip[i + 3]]);
    let whole = is_whole(u16::from_be_bytes([ip[6], ip[7]]));
    let segment = ip.get(header_len..usize::from(u16::from_be_bytes([ip[2], ip[3]])));
    Ok(Parts { src: at(12), dst: at(16), proto: ip[9], segment: segment.filter(|_| whole) })
}

fn parts6(ip: &[u8]) -> Result<Parts<'_>, &'static str> {
    let header = ip6::Header::parse(ip).ok_or("no IP header")?;
    let end = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let whole = is_whole(header.fragment);
    Ok(Parts {
        src: header.src.into(),
        dst: header.dst.into(),
        proto: header.proto,
        segment: ip.get(header.l4..end).filter(|_| whole),
    })
}
