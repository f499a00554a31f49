//! What netd's programs take for one packet: for `cargo xtask bench`, as JSON.
//! Root.

use std::time::Duration;

use netd_common::{
    abi::{
        Family,
        wire::{TCP_ACK, TCP_FIN, TCP_SYN},
    },
    model::{
        self, Datagram, Frame, Layer4, World,
        scene::{self, CLIENT, HOST, ONE, OUTSIDE, UP0, WEB, bridge, frame, gateway, incoming},
    },
    verdict::Hook::{self, FromContainer, FromHost, FromUplink},
};
use netd_tests::{Kernel, kernel::SHOT};
use serde_json::json;

/// A packet that ends a conversation.
struct Talk {
    what: &'static str,
    family: Family,
    /// The last one is measured.
    packets: Vec<(Hook, Frame)>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Leaves the tables as they are: all in the fast program.
    Repeats,
    /// Is of a new flow each time: both programs. The client's port is what
    /// makes it another's; SNAT must not have changed it.
    Opens,
    /// The same, all in the fast program.
    Ends,
}

/// How often each packet is run.
const RUNS: u16 = 10_000;

fn main() {
    netd_tests::require_root();
    let rows = Kernel::namespace().run(|| {
        let mut kernel = Kernel::load(65_536);
        let talks = [Family::V4, Family::V6].into_iter().flat_map(talks);
        talks.map(|talk| measure(&mut kernel, &talk)).collect::<Vec<_>>()
    });
    println!("{}", json!(rows));
}

fn talks(family: Family) -> Vec<Talk> {
    let tcp = |sport, dport, flags| Layer4::Tcp { sport, dport, flags };
    let syn = |sport, dport| tcp(sport, dport, TCP_SYN);
    let syn_ack = |sport, dport| tcp(sport, dport, TCP_SYN | TCP_ACK);
    let ack = |sport, dport| tcp(sport, dport, TCP_ACK);
    let (host, outside) = (HOST[family], OUTSIDE[family]);
    let from = |container: &scene::Container, to, layer4| {
        (FromContainer, container.frame(&container.sends(to, layer4)))
    };
    let from_outside = |layer4| (FromUplink, frame(UP0, incoming(outside, host, layer4).frame()));
    // The port that SNAT takes is not known before; see `translated_port`.
    let neighbour = (FromContainer, CLIENT.frame(&CLIENT.tells(family, &WEB, ack(40_000, 80))));
    let out = from(&CLIENT, outside, syn(40_000, 443));
    let snat = translated_port(&out.1);
    let goes_on = from(&CLIENT, outside, ack(40_000, 443));
    let opened = vec![out.clone(), from_outside(syn_ack(443, snat)), goes_on.clone()];
    let asks_on = from_outside(ack(40_000, 8080));
    let asks = from_outside(syn(40_000, 8080));
    let answers_it = from(&WEB, outside, syn_ack(80, 40_000));
    let published = vec![asks.clone(), answers_it.clone(), asks_on.clone()];
    let ends = from(&WEB, outside, tcp(80, 40_000, TCP_FIN | TCP_ACK));
    let asked = Datagram {
        src_mac: WEB.gateway_mac,
        dst_mac: WEB.mac,
        ..incoming(host, WEB.address[family], ack(40_000, 80))
    };
    let asked = (FromHost, frame(bridge(ONE), asked.frame()));
    let answers = from(&WEB, gateway(ONE)[family], ack(80, 40_000));
    let hairpin = from(&CLIENT, host, syn(40_000, 8080));
    let talk = |what, kind, before: &[(Hook, Frame)], last: (Hook, Frame)| {
        let packets = before.iter().cloned().chain([last]).collect();
        Talk { what, family, packets, kind }
    };
    vec![
        talk("container → container", Kind::Repeats, &[], neighbour),
        talk("container → outside, first", Kind::Opens, &[], out),
        talk("container → outside, established", Kind::Repeats, &opened, goes_on),
        talk(
            "outside → container, established",
            Kind::Repeats,
            &opened,
            from_outside(ack(443, snat)),
        ),
        talk("outside → published port, first", Kind::Opens, &[], asks.clone()),
        talk(
            "published port → outside, first",
            Kind::Opens,
            std::slice::from_ref(&asks),
            answers_it.clone(),
        ),
        talk("outside → published port, third", Kind::Opens, &published[..2], asks_on.clone()),
        talk("published port → outside, last", Kind::Ends, &published, ends),
        talk("outside → published port, established", Kind::Repeats, &published, asks_on),
        talk(
            "published port → outside, established",
            Kind::Repeats,
            &published,
            from(&WEB, outside, ack(80, 40_000)),
        ),
        talk("hairpin, first", Kind::Opens, &[], hairpin),
        talk("host → container", Kind::Repeats, &[], asked),
        talk("container → host", Kind::Repeats, &[], answers),
    ]
}

/// The source port that SNAT gives to a SYN in the scene's world.
fn translated_port(syn: &Frame) -> u16 {
    let mut frame = syn.clone();
    model::run(FromContainer, &mut frame, &mut scene::world());
    let at = transport(&frame);
    u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]])
}

/// The next connection. Its checksum is wrong then, which no program looks at.
fn set_client_port((hook, frame): &mut (Hook, Frame), opener: Hook, port: u16) {
    let at = transport(frame) + if *hook == opener { 0 } else { 2 };
    frame.bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
}

/// Where the ports are.
fn transport(frame: &Frame) -> usize {
    14 + if frame.bytes[12..14] == [0x86, 0xdd] { 40 } else { 20 }
}

fn measure(kernel: &mut Kernel, talk: &Talk) -> serde_json::Value {
    let (last, before) = talk.packets.split_last().expect("a packet");
    let mut world = scene::world();
    play(before, &mut world);
    let (seen, mut packet) = (world.map_operations.get(), last.1.clone());
    model::run(last.0, &mut packet, &mut world);
    let operations = world.map_operations.get() - seen;

    kernel.mirror(&scene::world());
    let opener = talk.packets[0].0;
    let mut least = Duration::MAX;
    for n in 0..RUNS {
        let mut packets = talk.packets.clone();
        if talk.kind != Kind::Repeats {
            for packet in &mut packets {
                set_client_port(packet, opener, 20_000 + n);
            }
        }
        let (_, before) = packets.split_last().expect("a packet");
        if talk.kind != Kind::Repeats || n == 0 {
            for (hook, frame) in before {
                let ran = kernel.run(*hook, frame);
                assert_ne!(ran.action, SHOT, "{}: an earlier packet", talk.what);
            }
        }
        let (hook, frame) = &packets[before.len()];
        let (ran, took) = kernel.run_for(*hook, frame);
        assert_ne!(ran.action, SHOT, "{}", talk.what);
        least = least.min(took);
    }
    let slow = match (talk.kind, last.0) {
        (Kind::Repeats | Kind::Ends, _) => None,
        (Kind::Opens, FromContainer) => Some("from_container_slow"),
        (Kind::Opens, _) => Some("from_uplink_slow"),
    };
    let programs = std::iter::once(last.0.name()).chain(slow);
    let instructions: u32 = programs.map(|name| instructions(kernel, name)).sum();
    let family = match talk.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    json!({
        "path": format!("{family}: {}", talk.what),
        "nanoseconds": u32::try_from(least.as_nanos()).expect("a short time"),
        "lookups": operations,
        "instructions": instructions,
    })
}

fn play(packets: &[(Hook, Frame)], world: &mut World) {
    for (hook, frame) in packets {
        model::run(*hook, &mut frame.clone(), world);
    }
}

/// After the verifier; 8 bytes each.
fn instructions(kernel: &mut Kernel, name: &'static str) -> u32 {
    let program = kernel.datapath().program(name).expect("the program is there");
    program.info().expect("the kernel tells of it").size_translated().unwrap_or_default() / 8
}
