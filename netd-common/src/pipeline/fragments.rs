//! Fragments: the first one has the ports, and `FRAGMENTS` keeps them for the
//! rest. An entry goes with the last byte of its datagram, so that a later
//! datagram of the same id never gets the ports of this one.

use crate::{
    abi::{Family, Fragment, FragmentKey, wire::ETHERNET_LEN},
    packet::{Headers, Kind, Part},
    tables::World,
};

/// Seconds after which a datagram that is not complete is given up.
const PATIENCE: u32 = 5;

/// Whether all parts of a datagram go the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    Sound,
    /// A part of it came before the first and went to the stack.
    Broken,
}

/// Where a fragment is on its way. What goes by the stack comes by twice, and
/// may have been cut anew in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Entering,
    Leaving,
}

/// Makes a fragment's key complete, where its first one has come by.
#[inline(never)]
pub(super) fn follow<W: World>(world: &mut W, headers: &mut Headers, stage: Stage) -> Datagram {
    let now = world.now();
    let (key, len) = (key(headers, stage), bytes(headers));
    let known = world.fragment(&key).filter(|it| now.saturating_sub(it.begun) <= PATIENCE);
    let broken = known.as_ref().is_some_and(|it| it.flags & Fragment::BROKEN != 0);
    if headers.part == Part::First {
        let first = Fragment {
            sport: headers.key.sport,
            dport: headers.key.dport,
            proto: headers.key.proto,
            flags: if broken { Fragment::BROKEN | Fragment::KNOWN } else { Fragment::KNOWN },
            pad: 0,
            seen: len,
            total: 0,
            begun: now,
        };
        if headers.kind == Kind::Flow {
            world.put_fragment(&key, &first);
        }
    } else if let Some(datagram) = known {
        if datagram.flags & Fragment::KNOWN != 0 {
            headers.kind = Kind::Flow;
            headers.key.proto = datagram.proto;
            (headers.key.sport, headers.key.dport) = (datagram.sport, datagram.dport);
        }
        datagram.seen += len;
        if !headers.more {
            datagram.total = u32::from(headers.offset) + len;
        }
        if datagram.total != 0 && datagram.seen >= datagram.total {
            world.remove_fragment(&key);
        }
    }
    if broken { Datagram::Broken } else { Datagram::Sound }
}

/// A fragment goes to the stack before its first one: the datagram can't be
/// put together in a container any more.
#[inline(never)]
pub(super) fn give_up<W: World>(world: &mut W, headers: &Headers) {
    let now = world.now();
    let key = key(headers, Stage::Entering);
    let known = world.fragment(&key).is_some_and(|it| now.saturating_sub(it.begun) <= PATIENCE);
    if !known {
        let broken = Fragment {
            flags: Fragment::BROKEN,
            seen: bytes(headers),
            begun: now,
            ..Fragment::default()
        };
        world.put_fragment(&key, &broken);
    }
}

#[inline(always)]
fn key(headers: &Headers, stage: Stage) -> FragmentKey {
    let key = &headers.key;
    FragmentKey {
        src: key.src,
        dst: key.dst,
        id: headers.id,
        proto: if headers.family == Family::V4 { key.proto } else { 0 },
        zone: if stage == Stage::Leaving { FragmentKey::LEAVING } else { key.zone },
        pad: 0,
    }
}

/// Bytes of the datagram that the fragment holds.
#[inline(always)]
fn bytes(headers: &Headers) -> u32 {
    let end = ETHERNET_LEN + usize::from(headers.ip_len);
    #[allow(clippy::cast_possible_truncation)] // at most 64 KiB
    {
        end.saturating_sub(headers.l4) as u32
    }
}
