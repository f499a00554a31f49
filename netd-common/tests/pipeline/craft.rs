//! The tests' own frames and sums are what others make of them.

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use netd_common::{
    abi::wire::TCP_SYN,
    model::{
        Datagram, Layer4, checksums,
        scene::{HOST, OUTSIDE, incoming},
    },
};

fn ethernet_and_ip(d: &Datagram) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(d.src_mac.octets(), d.dst_mac.octets()).ipv4(
        d.src.octets(),
        d.dst.octets(),
        d.ttl,
    )
}

#[test]
fn frames_are_those_of_another_implementation() {
    let udp = incoming(OUTSIDE, HOST, Layer4::Udp { sport: 53, dport: 40_000 });
    let udp = Datagram { id: 0, fragment: 0x4000, ..udp };
    let mut theirs = Vec::new();
    ethernet_and_ip(&udp).udp(53, 40_000).write(&mut theirs, &udp.payload).unwrap();
    assert_eq!(udp.frame(), theirs);

    let echo = Datagram { layer4: Layer4::EchoRequest { id: 7 }, ..udp };
    let mut theirs = Vec::new();
    ethernet_and_ip(&echo).icmpv4_echo_request(7, 1).write(&mut theirs, &echo.payload).unwrap();
    assert_eq!(echo.frame(), theirs);
}

#[test]
fn checksums_are_those_of_another_implementation() {
    let layer4 = Layer4::Tcp { sport: 1, dport: 2, flags: TCP_SYN };
    let mut frame = incoming(OUTSIDE, HOST, layer4).frame();
    checksums(&frame).unwrap();
    let untouched = frame.clone();
    let sliced = SlicedPacket::from_ethernet(&untouched).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
    let theirs =
        tcp.to_header().calc_checksum_ipv4_raw(OUTSIDE.octets(), HOST.octets(), tcp.payload());
    assert_eq!(tcp.checksum(), theirs.unwrap());

    *frame.last_mut().unwrap() ^= 1;
    checksums(&frame).unwrap_err();
    frame[22] ^= 1;
    assert!(checksums(&frame).unwrap_err().contains("IP header"));
}

#[test]
fn what_was_made_is_read_again() {
    for layer4 in [
        Layer4::Tcp { sport: 1, dport: 2, flags: TCP_SYN },
        Layer4::Udp { sport: 1, dport: 2 },
        Layer4::BareUdp { sport: 1, dport: 2 },
        Layer4::EchoRequest { id: 1 },
        Layer4::EchoReply { id: 1 },
        Layer4::Raw { proto: 47 },
    ] {
        let made = Datagram { options: vec![1; 8], ..incoming(OUTSIDE, HOST, layer4) };
        assert_eq!(Datagram::parse(&made.frame()), Some(made));
    }
}
