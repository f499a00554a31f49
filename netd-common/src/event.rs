//! What there is to say of a dropped packet: an [`Event`] from its headers.
//!
//! It reads what it finds and asks for nothing to be right: the packet may
//! have been dropped for what is wrong with it.

use crate::{
    abi::{
        Address, Be16, Event, Family,
        wire::{
            ARP_LEN, Arp, ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet,
            IPV4_LEN, Ipv4, PROTO_TCP, PROTO_UDP, Ports,
        },
    },
    packet::Packet,
    pipeline::socket::SocketCall,
};

const IPV6_LEN: usize = 40;
const IPV6_NEXT_HEADER: usize = ETHERNET_LEN + 6;
const IPV6_SRC: usize = ETHERNET_LEN + 8;
const IPV6_DST: usize = ETHERNET_LEN + 24;
/// SCTP has its ports where TCP and UDP have theirs (RFC 9260 §3.1).
const PROTO_SCTP: u8 = 132;
/// Bits of IPv4's fragment field that only later fragments have set.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Writes all of `event` but its time, hook and outcome.
#[inline(always)]
pub fn describe<P: Packet>(packet: &mut P, event: &mut Event) {
    *event = Event { ifindex: packet.ifindex(), len: length(packet), ..Event::default() };
    if !packet.ensure(ETHERNET_LEN) {
        return;
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return };
    event.ethertype = ethernet.ethertype;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, event),
        ETHERTYPE_IPV6 => ipv6(packet, event),
        ETHERTYPE_ARP => arp(packet, event),
        _ => {}
    }
}

/// Of a call of the host's own that was refused: no packet came about, and no
/// port of its own is known. All but the time, the hook and the outcome.
#[inline(always)]
pub fn describe_call<C: SocketCall>(call: &C) -> Event {
    let ((dst, dport), source) = (call.peer(), call.source());
    let ethertype = match dst.family() {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    };
    let src = if source == Address::ANY { dst } else { source };
    Event { src, dst, dport, ethertype, proto: call.proto(), ..Event::default() }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &mut P, event: &mut Event) {
    if !packet.ensure(ETHERNET_LEN + IPV4_LEN) {
        return;
    }
    let Some(ip) = packet.read::<Ipv4>(ETHERNET_LEN) else { return };
    event.src = Address::v4_word(ip.src);
    event.dst = Address::v4_word(ip.dst);
    event.proto = ip.proto;
    let header_len = usize::from(ip.version_ihl & 0xf) * 4;
    if header_len >= IPV4_LEN && ip.fragment.to_host() & FRAGMENT_OFFSET == 0 {
        ports(packet, ETHERNET_LEN + header_len, event);
    }
}

/// Extension headers are not stepped over: the protocol is then the first
/// one's number.
#[inline(always)]
fn ipv6<P: Packet>(packet: &mut P, event: &mut Event) {
    if !packet.ensure(ETHERNET_LEN + IPV6_LEN) {
        return;
    }
    event.proto = packet.read(IPV6_NEXT_HEADER).unwrap_or_default();
    event.src = address(packet, IPV6_SRC);
    event.dst = address(packet, IPV6_DST);
    ports(packet, ETHERNET_LEN + IPV6_LEN, event);
}

/// Sender and target of the message.
#[inline(always)]
fn arp<P: Packet>(packet: &mut P, event: &mut Event) {
    if !packet.ensure(ETHERNET_LEN + ARP_LEN) {
        return;
    }
    let Some(arp) = packet.read::<Arp>(ETHERNET_LEN) else { return };
    event.src = Address::v4_word(join(arp.sender_ip));
    event.dst = Address::v4_word(join(arp.target_ip));
}

#[inline(always)]
fn ports<P: Packet>(packet: &mut P, offset: usize, event: &mut Event) {
    if !matches!(event.proto, PROTO_TCP | PROTO_UDP | PROTO_SCTP) || !packet.ensure(offset + 4) {
        return;
    }
    let none = Ports { src: Be16(0), dst: Be16(0) };
    let ports = packet.read::<Ports>(offset).unwrap_or(none);
    (event.sport, event.dport) = (ports.src, ports.dst);
}

#[inline(always)]
fn address<P: Packet>(packet: &P, offset: usize) -> Address {
    let word = |at| packet.read::<u32>(offset + at).unwrap_or_default();
    Address::from_words([word(0), word(4), word(8), word(12)])
}

/// Two halves, each in memory order.
#[inline(always)]
const fn join([a, b]: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // no frame is as long
fn length<P: Packet>(packet: &P) -> u32 {
    packet.len() as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::{IpAddr, Ipv6Addr};
    use std::{vec, vec::Vec};

    use super::describe;
    use crate::{
        abi::{Address, Be16, Event, Family, Mac},
        model::{Arp, Datagram, Frame, Layer4},
    };

    fn datagram(layer4: Layer4) -> Datagram {
        Datagram {
            src_mac: Mac([1; 3]),
            dst_mac: Mac([2; 3]),
            src: [172, 18, 0, 99].into(),
            dst: [192, 0, 2, 1].into(),
            ttl: 64,
            id: 1,
            fragment: 0,
            options: vec![],
            extensions: vec![],
            layer4,
            payload: b"hello".to_vec(),
        }
    }

    fn event(bytes: Vec<u8>) -> Event {
        // What the packet before has left there.
        let mut event = Event { sport: Be16(1), proto: 99, time: 1, ..Event::default() };
        describe(&mut Frame::new(7, bytes), &mut event);
        event
    }

    #[test]
    fn ipv4_has_addresses_protocol_and_ports() {
        let bytes = datagram(Layer4::Tcp { sport: 40_000, dport: 80, flags: 2 }).frame();
        let expected = Event {
            src: Address::v4([172, 18, 0, 99]),
            dst: Address::v4([192, 0, 2, 1]),
            ifindex: 7,
            len: u32::try_from(bytes.len()).unwrap(),
            sport: Be16::from_host(40_000),
            dport: Be16::from_host(80),
            ethertype: Be16::from_host(0x0800),
            proto: 6,
            ..Event::default()
        };
        assert_eq!(event(bytes), expected);
    }

    #[test]
    fn ports_come_behind_ip_options() {
        let udp = Layer4::Udp { sport: 5, dport: 53 };
        let seen = event(Datagram { options: vec![1; 8], ..datagram(udp) }.frame());
        assert_eq!((seen.sport, seen.dport), (Be16::from_host(5), Be16::from_host(53)));
    }

    #[test]
    fn only_a_first_fragment_has_ports() {
        let udp = datagram(Layer4::Udp { sport: 5, dport: 53 });
        let first = event(Datagram { fragment: 0x2000, ..udp.clone() }.frame());
        assert_eq!(first.dport, Be16::from_host(53));
        let later = event(Datagram { fragment: 0x2001, ..udp }.frame());
        assert_eq!((later.proto, later.sport, later.dport), (17, Be16(0), Be16(0)));
    }

    #[test]
    fn icmp_and_unknown_protocols_have_no_ports() {
        for layer4 in [Layer4::EchoRequest { id: 77 }, Layer4::Raw { proto: 47 }] {
            let seen = event(datagram(layer4).frame());
            assert_eq!(
                (seen.proto, seen.sport, seen.dport),
                (layer4.proto(Family::V4), Be16(0), Be16(0))
            );
        }
    }

    #[test]
    fn ipv6_has_addresses_protocol_and_ports() {
        let (src, dst) = ("2001:db8::1", "2001:db8:0:1::2");
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let mut bytes = vec![0; 12];
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        bytes.extend(octets(src));
        bytes.extend(octets(dst));
        bytes.extend([0, 5, 0, 53, 0, 8, 0, 0]);
        let seen = event(bytes.clone());
        assert_eq!(IpAddr::from(seen.src), src.parse::<IpAddr>().unwrap());
        assert_eq!(IpAddr::from(seen.dst), dst.parse::<IpAddr>().unwrap());
        let expected = (17, Be16::from_host(5), Be16::from_host(53));
        assert_eq!((seen.proto, seen.sport, seen.dport), expected);
        bytes.truncate(bytes.len() - 9);
        let cut = event(bytes);
        assert_eq!((cut.src, cut.proto), (Address::ANY, 0));
    }

    #[test]
    fn arp_has_its_senders_and_its_targets_address() {
        let arp = Arp {
            src_mac: Mac([1; 3]),
            sender_mac: Mac([1; 3]),
            sender: [172, 18, 0, 1].into(),
            target: [172, 18, 0, 2].into(),
        };
        let seen = event(arp.frame());
        assert_eq!(seen.ethertype, Be16::from_host(0x0806));
        assert_eq!(seen.src, Address::v4([172, 18, 0, 1]));
        assert_eq!(seen.dst, Address::v4([172, 18, 0, 2]));
    }

    #[test]
    fn a_short_frame_says_what_is_there() {
        let bytes = datagram(Layer4::Tcp { sport: 1, dport: 2, flags: 2 }).frame();
        for len in 0..bytes.len() {
            let seen = event(bytes[..len].to_vec());
            assert_eq!(seen.len as usize, len);
            assert_eq!(seen.ethertype != Be16(0), len >= 14, "{len}");
            assert_eq!(seen.proto != 0, len >= 34, "{len}");
            assert_eq!(seen.dport != Be16(0), len >= 38, "{len}");
        }
    }
}
