//! Frames that no socket makes: whole IP packets of any protocol, by hand.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket};

/// Source and destination.
pub type Macs = ([u8; 6], [u8; 6]);

/// An IP packet of `protocol` in its frame.
pub fn ip(macs: Macs, src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_with_hops(macs, src, dst, (protocol, 64), payload)
}

/// As [`ip`], with this protocol and TTL or hop limit.
pub fn ip_with_hops(
    macs: Macs,
    src: IpAddr,
    dst: IpAddr,
    (protocol, hops): (u8, u8),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [macs.1, macs.0].concat();
    let length = u16::try_from(payload.len()).expect("it fits");
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let protocol = IpNumber(protocol);
            let header = Ipv4Header::new(length, hops, protocol, src.octets(), dst.octets());
            frame.extend([0x08, 0x00]);
            header.expect("it fits").write(&mut frame).expect("a vector takes it");
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length,
                next_header: IpNumber(protocol),
                hop_limit: hops,
                source: src.octets(),
                destination: dst.octets(),
            };
            frame.extend([0x86, 0xdd]);
            header.write(&mut frame).expect("a vector takes it");
        }
        _ => panic!("{src} and {dst} are of one family"),
    }
    frame.extend(payload);
    frame
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

/// The IP packet in a frame; `None`: there is none.
pub fn carried(frame: &[u8]) -> Option<Carried> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (src, dst): (IpAddr, IpAddr) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Arp(_) => return None,
    };
    let ip = packet.net.as_ref()?.ip_payload_ref()?;
    Some(Carried { src, dst, protocol: ip.ip_number.0, payload: ip.payload.to_vec() })
}

/// The Internet checksum of an upper layer's bytes under their pseudo header
/// (RFC 8200 §8.1), for IPv6.
pub fn checksum6(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst) else { panic!("{src} and {dst} are IPv6") };
    let length = u32::try_from(payload.len()).expect("it fits");
    let mut bytes = [src.octets(), dst.octets()].concat();
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    !netd_common::csum::fold(sum)
}
