//! The host's own packets: the fast path passes them on by itself, and none
//! that the slow one would not pass.

use std::net::IpAddr;

use netd_common::{
    abi::{
        Family,
        wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
    },
    model::{
        self, Datagram, Frame, Layer4, World,
        cases::FAMILIES,
        fast,
        scene::{
            self, ALIAS, CONTAINERS, HOST, HOST1, NETWORKS, ONE, OUTSIDE, UP0, WEB, bridge,
            gateway, incoming,
        },
        slow,
    },
    verdict::{Hook, Verdict},
};
use proptest::{prelude::*, sample::select};

use crate::talk::{self, families, tcp, udp};

const HOOKS: [Hook; 2] = [Hook::FromContainer, Hook::FromUplink];

#[test]
fn the_hosts_own_packets_are_passed_at_once() {
    for family in FAMILIES {
        let mut world = scene::world();
        for layer4 in [tcp(80, 40_000, TCP_ACK), udp(53, 40_000)] {
            let answer = WEB.sends(gateway(ONE)[family], layer4);
            let verdict = fast(Hook::FromContainer, &mut WEB.frame(&answer), &mut world);
            assert_eq!(verdict, Verdict::past_bridge(bridge(ONE)), "{family:?}");
            let own = incoming(OUTSIDE[family], HOST[family], layer4).frame();
            let verdict = fast(Hook::FromUplink, &mut scene::frame(UP0, own), &mut world);
            assert_eq!(verdict, Verdict::PASS, "{family:?}");
        }
    }
}

/// Addresses of the host's, of containers and of others.
fn addresses(family: Family) -> Vec<IpAddr> {
    let own = [HOST, ALIAS, HOST1].into_iter().chain(NETWORKS.map(gateway));
    let others = CONTAINERS.iter().map(|container| container.address).chain([OUTSIDE]);
    own.chain(others).map(|address| address[family]).collect()
}

fn layer4() -> impl Strategy<Value = Layer4> {
    let port = || select(vec![80, 90, 53, 8080, 9090, 5353, 2000, 40_000]);
    let flags = select(vec![TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST]);
    prop_oneof![
        (port(), port(), flags).prop_map(|(sport, dport, flags)| tcp(sport, dport, flags)),
        (port(), port()).prop_map(|(sport, dport)| udp(sport, dport)),
    ]
}

/// A packet of anyone's, most often under its own address.
fn packet() -> impl Strategy<Value = (Hook, Frame)> {
    families().prop_flat_map(|family| {
        let by = (select(&HOOKS[..]), select(&CONTAINERS[..]), prop::bool::weighted(0.1));
        let to = (select(addresses(family)), select(addresses(family)), layer4());
        (by, to).prop_map(move |((hook, sender, spoofs), (dst, other, layer4))| {
            if hook == Hook::FromUplink {
                let src = if spoofs { other } else { OUTSIDE[family] };
                return (hook, scene::frame(UP0, incoming(src, dst, layer4).frame()));
            }
            let src = if spoofs { other } else { sender.address[family] };
            let datagram = Datagram { src, ..sender.sends(dst, layer4) };
            (hook, sender.frame(&datagram))
        })
    })
}

/// What whoever gets a packet sends back.
fn answered(verdict: Verdict, frame: &Frame) -> Option<(Hook, Frame)> {
    let datagram = Datagram::parse(&frame.bytes)?;
    if verdict.is_forward() {
        return Some((Hook::FromUplink, scene::frame(UP0, talk::answer(&datagram).frame())));
    }
    let receiver = CONTAINERS.iter().find(|it| Verdict::deliver(it.ifindex) == verdict)?;
    Some((Hook::FromContainer, receiver.frame(&datagram.answer())))
}

/// Runs a packet, of which both paths must say the same.
fn runs(
    hook: Hook,
    mut frame: Frame,
    world: &mut World,
) -> Result<(Verdict, Frame), TestCaseError> {
    let quickly = fast(hook, &mut frame.clone(), &mut world.clone());
    if quickly.outcome() == Verdict::PASS.outcome() {
        let slowly = slow(hook, &mut frame.clone(), &mut world.clone());
        prop_assert_eq!(slowly, quickly, "{:?}", frame);
    }
    let verdict = model::run(hook, &mut frame, world);
    Ok((verdict, frame))
}

proptest! {
    #[test]
    fn what_the_fast_path_passes_the_slow_one_passes_too(
        packets in prop::collection::vec(packet(), 1..60)
    ) {
        let mut world = scene::world();
        for (hook, frame) in packets {
            let (verdict, frame) = runs(hook, frame, &mut world)?;
            if let Some((hook, frame)) = answered(verdict, &frame) {
                runs(hook, frame, &mut world)?;
            }
        }
    }
}
