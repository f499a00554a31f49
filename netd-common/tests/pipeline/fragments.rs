//! Datagrams in pieces: what is remembered of them, and for how long.

use netd_common::{
    abi::{Family, Fragment},
    model::{
        Datagram, World,
        cases::FAMILIES,
        scene::{self, CLIENT, HOST, OUTSIDE, WEB, incoming},
    },
    verdict::{DropReason, Verdict},
};

use crate::talk::{answer, delivered, forwarded, from_container, from_uplink, udp};

fn long(datagram: Datagram, id: u32, len: usize) -> Datagram {
    Datagram { payload: (0..=255).cycle().take(len).collect(), id, ..datagram }
}

fn asked(f: Family, id: u32) -> Vec<Datagram> {
    long(CLIENT.sends(OUTSIDE[f], udp(40_000, 53)), id, 8000).fragments(1280)
}

fn dropped(world: &mut World, piece: &Datagram) {
    let (verdict, left) = from_container(world, &CLIENT, piece);
    assert_eq!(verdict, Verdict::drop(DropReason::FragmentOrder));
    assert_eq!(&left, piece);
}

#[test]
fn a_long_datagram_and_its_long_answer_arrive_whole() {
    for f in FAMILIES {
        let mut world = scene::world();
        let out: Vec<_> = asked(f, 7)
            .iter()
            .map(|piece| forwarded(from_container(&mut world, &CLIENT, piece)))
            .collect();
        assert!(world.fragments.is_empty(), "nothing is remembered of what is complete");
        let whole =
            Datagram { src: HOST[f], ..long(CLIENT.sends(OUTSIDE[f], udp(0, 53)), 7, 8000) };
        let together: Vec<u8> = out.iter().flat_map(|piece| piece.payload.clone()).collect();
        assert_eq!(together[8..], whole.payload);
        let sport = u16::from_be_bytes([together[0], together[1]]);
        let whole = Datagram { layer4: udp(sport, 53), ttl: 63, ..whole };
        assert_eq!(out, whole.fragments(1280), "ports and checksum are right for the whole");

        let back = answer(&whole);
        let wanted = CLIENT.sends(OUTSIDE[f], udp(40_000, 53)).answer();
        let wanted = Datagram { payload: whole.payload.clone(), id: 7, ttl: 63, ..wanted };
        for (piece, wanted) in back.fragments(1280).iter().zip(wanted.fragments(1280)) {
            assert_eq!(delivered(&CLIENT, from_uplink(&mut world, piece)), wanted);
        }
        assert!(world.fragments.is_empty());
    }
}

#[test]
fn what_is_remembered_does_not_lead_a_later_datagram_astray() {
    for f in FAMILIES {
        let mut world = scene::world();
        let pieces = asked(f, 7);
        for piece in &pieces {
            forwarded(from_container(&mut world, &CLIENT, piece));
        }
        dropped(&mut world, &pieces[1]);
    }
}

#[test]
fn half_a_datagram_is_given_up_in_the_end() {
    for f in FAMILIES {
        let mut world = scene::world();
        let pieces = asked(f, 7);
        forwarded(from_container(&mut world, &CLIENT, &pieces[0]));
        world.now += 5;
        forwarded(from_container(&mut world, &CLIENT, &pieces[1]));
        world.now += 1;
        dropped(&mut world, &pieces[2]);
        // The same id again, later.
        for piece in &pieces {
            forwarded(from_container(&mut world, &CLIENT, piece));
        }
    }
}

#[test]
fn a_datagram_that_came_in_disorder_is_over_with_its_time() {
    for f in FAMILIES {
        let mut world = scene::world();
        let whole = long(incoming(OUTSIDE[f], HOST[f], udp(40_000, 5353)), 7, 3000);
        let pieces = whole.fragments(1280);
        assert_eq!(from_uplink(&mut world, &pieces[1]).0, Verdict::PASS);
        let broken = world.fragments.values().next().expect("it is remembered");
        assert_eq!(broken.flags & Fragment::BROKEN, Fragment::BROKEN);
        let (verdict, _) = from_uplink(&mut world, &pieces[0]);
        assert_eq!(verdict, Verdict::drop(DropReason::FragmentOrder));
        world.now += 6;
        for piece in &pieces {
            delivered(&WEB, from_uplink(&mut world, piece));
        }
    }
}

#[test]
fn without_room_for_a_datagram_its_pieces_are_lost_and_not_misled() {
    for f in FAMILIES {
        let mut world = scene::world();
        let pieces = asked(f, 7);
        forwarded(from_container(&mut world, &CLIENT, &pieces[0]));
        world.fragments.clear();
        dropped(&mut world, &pieces[1]);
    }
}
