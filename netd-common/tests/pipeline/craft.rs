//! The tests' own frames and sums are what others make of them.

use std::net::IpAddr;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use netd_common::{
    abi::{Family, wire::TCP_SYN},
    model::{
        Complaint, DESTINATION, Datagram, Extension, HOP_BY_HOP, Layer4, Ndp, ROUTING, checksums,
        scene::{CLIENT, HOST, OUTSIDE, ROUTER, WEB, incoming},
    },
};

const BOTH: [Family; 2] = [Family::V4, Family::V6];

fn ethernet_and_ip(d: &Datagram) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(d.src_mac.octets(), d.dst_mac.octets());
    match (d.src, d.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), d.ttl),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), d.ttl),
        _ => panic!("one family"),
    }
}

#[test]
fn frames_are_those_of_another_implementation() {
    for f in BOTH {
        let fragment = if f == Family::V4 { 0x4000 } else { 0 };
        let udp = incoming(OUTSIDE[f], HOST[f], Layer4::Udp { sport: 53, dport: 40_000 });
        let udp = Datagram { id: 0, fragment, ..udp };
        let mut theirs = Vec::new();
        ethernet_and_ip(&udp).udp(53, 40_000).write(&mut theirs, &udp.payload).unwrap();
        assert_eq!(udp.frame(), theirs);

        let echo = Datagram { layer4: Layer4::EchoRequest { id: 7 }, ..udp };
        let mut theirs = Vec::new();
        let step = ethernet_and_ip(&echo);
        match f {
            Family::V4 => step.icmpv4_echo_request(7, 1).write(&mut theirs, &echo.payload),
            Family::V6 => step.icmpv6_echo_request(7, 1).write(&mut theirs, &echo.payload),
        }
        .unwrap();
        assert_eq!(echo.frame(), theirs);
    }
}

#[test]
fn checksums_are_those_of_another_implementation() {
    for f in BOTH {
        let layer4 = Layer4::Tcp { sport: 1, dport: 2, flags: TCP_SYN };
        let mut frame = incoming(OUTSIDE[f], HOST[f], layer4).frame();
        checksums(&frame).unwrap();
        let untouched = frame.clone();
        let sliced = SlicedPacket::from_ethernet(&untouched).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        let header = tcp.to_header();
        let theirs = match (OUTSIDE[f], HOST[f]) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), tcp.payload())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), tcp.payload())
            }
            _ => panic!("one family"),
        };
        assert_eq!(tcp.checksum(), theirs.unwrap());

        *frame.last_mut().unwrap() ^= 1;
        checksums(&frame).unwrap_err();
        if f == Family::V4 {
            frame[22] ^= 1;
            assert!(checksums(&frame).unwrap_err().contains("IP header"));
        }
    }
}

fn kinds() -> [Layer4; 9] {
    [
        Layer4::Tcp { sport: 1, dport: 2, flags: TCP_SYN },
        Layer4::TcpMss { sport: 1, dport: 2, flags: TCP_SYN, mss: 1460 },
        Layer4::Udp { sport: 1, dport: 2 },
        Layer4::BareUdp { sport: 1, dport: 2 },
        Layer4::Sctp { sport: 1, dport: 2 },
        Layer4::EchoRequest { id: 1 },
        Layer4::EchoReply { id: 1 },
        Layer4::Icmp { kind: 3, code: 1, rest: 0x0102_0304 },
        Layer4::Raw { proto: 47 },
    ]
}

#[test]
fn what_was_made_is_read_again() {
    for layer4 in kinds() {
        let made = Datagram {
            options: vec![1; 8],
            ..incoming(OUTSIDE[Family::V4], HOST[Family::V4], layer4)
        };
        assert_eq!(Datagram::parse(&made.frame()), Some(made));
        let extensions =
            [HOP_BY_HOP, ROUTING, DESTINATION].map(|kind| Extension::new(kind, 1)).to_vec();
        let (src, dst) = (OUTSIDE[Family::V6], HOST[Family::V6]);
        let made =
            Datagram { extensions, fragment: Datagram::ATOMIC, ..incoming(src, dst, layer4) };
        assert_eq!(Datagram::parse(&made.frame()), Some(made));
    }
}

#[test]
fn fragments_make_up_the_whole_again() {
    for f in BOTH {
        let layer4 = Layer4::Udp { sport: 1, dport: 2 };
        let payload = (0..=255).cycle().take(3000).collect();
        let whole = Datagram { payload, ..incoming(OUTSIDE[f], HOST[f], layer4) };
        let pieces = whole.fragments(1280);
        assert_eq!(pieces.len(), 3);
        let mut together: Vec<u8> = Vec::new();
        for piece in &pieces {
            assert!(piece.packet().len() <= 1280);
            assert_eq!(usize::from(piece.fragment & 0x1fff) * 8, together.len());
            checksums(&piece.frame()).unwrap();
            assert_eq!(Datagram::parse(&piece.frame()).as_ref(), Some(piece));
            together.extend(&piece.payload);
        }
        assert_eq!(together, whole.segment());
        let more = pieces.iter().filter(|piece| piece.fragment & 0x2000 != 0).count();
        assert_eq!(more, 2);
    }
}

#[test]
fn the_checksums_of_a_quoted_packet_are_looked_at_where_it_is_whole() {
    for f in BOTH {
        let layer4 = Layer4::Udp { sport: 1, dport: 2 };
        let sent = incoming(HOST[f], OUTSIDE[f], layer4);
        for complaint in Complaint::ALL {
            let error = sent.complaint(ROUTER[f], complaint, usize::MAX);
            checksums(&error.frame()).unwrap();
            let mut wrong = error.clone();
            *wrong.payload.last_mut().unwrap() ^= 1;
            assert!(checksums(&wrong.frame()).unwrap_err().contains("quoted"));
            wrong.payload.pop();
            checksums(&wrong.frame()).unwrap();
        }
    }
}

#[test]
fn neighbour_messages_are_those_of_another_implementation() {
    let message = Ndp::solicitation(CLIENT.mac, CLIENT.address.v6(), WEB.address.v6()).frame();
    checksums(&message).unwrap();
    let sliced = SlicedPacket::from_ethernet(&message).unwrap();
    let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("no ICMPv6") };
    assert_eq!(icmp.type_u8(), Ndp::NEIGHBOUR_SOLICITATION);
    assert_eq!(icmp.payload()[..16], WEB.address.v6().octets());
}
