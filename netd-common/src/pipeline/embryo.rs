//! Embryonic flows: how a packet and an answer to it become a conversation, and
//! move from `EMBRYONIC` to `FLOWS`.

use super::{
    flow::Pair,
    quota::{self, Parties},
};
use crate::{
    abi::{
        Flow, FlowKey,
        wire::{PROTO_TCP, TCP_RST, TCP_SYN},
    },
    conntrack::State,
    nat,
    packet::Headers,
    tables::World,
};

/// What becomes of an embryonic flow with a packet of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Embryo {
    GoesOn,
    /// It is in `FLOWS` now.
    Grown,
    /// It has to be opened anew.
    Lost,
    /// `FLOWS` is full: a connection is better not begun than broken later,
    /// when the LRU needs the room.
    NoRoom,
    /// A container has all the flows that it may.
    NoQuota,
}

/// A packet of a flow that is not known to be more than a packet and an answer
/// to it. One more makes it a conversation: whoever only pretends to ask, under
/// the addresses of others, never hears the answer.
#[inline(never)]
pub(super) fn grow<W: World>(world: &mut W, headers: &Headers, pair: &mut Pair) -> Embryo {
    let key = &headers.key;
    let answered = pair.own.state == State::Answered as u8;
    let resets = headers.tcp_flags & TCP_RST != 0;
    let outcome = if pair.own.has(Flow::ORIGINAL) {
        // The LRU may have let go of the reply's entry, and with it the port,
        // which may be another's by now.
        let reply = world.any_flow(&pair.twin_key);
        let Some(reply) = reply.filter(|reply| nat::is_twin(&pair.twin_key, reply, key)) else {
            world.remove_embryo(key);
            return Embryo::Lost;
        };
        pair.twin = *reply;
        if !answered || resets || headers.tcp_flags & TCP_SYN != 0 {
            return Embryo::GoesOn;
        }
        promote(world, key, pair)
    } else {
        // An original that was opened anew may have another reply by now; one
        // that is gone was promoted a moment ago, on another CPU.
        let original = world.embryo(&pair.twin_key);
        let Some(original) = original.filter(|it| nat::is_twin(&pair.twin_key, it, key)) else {
            return Embryo::GoesOn;
        };
        pair.twin = *original;
        if resets {
            return Embryo::GoesOn;
        }
        if is_answer(headers, answered) {
            answer(world, key, pair)
        } else {
            promote(world, key, pair)
        }
    };
    // What has no connections can do without a place in the table.
    let needless = outcome == Embryo::NoRoom && key.proto != PROTO_TCP;
    if needless { Embryo::GoesOn } else { outcome }
}

/// Whether a packet of the reply's direction is the first, or as good as that.
/// TCP's in the middle of a connection is not.
#[inline(always)]
fn is_answer(headers: &Headers, answered: bool) -> bool {
    if headers.key.proto == PROTO_TCP { headers.tcp_flags & TCP_SYN != 0 } else { !answered }
}

/// Notes that a pair has been answered, if there is room for it to grow.
#[inline(always)]
fn answer<W: World>(world: &mut W, key: &FlowKey, pair: &Pair) -> Embryo {
    if quota::is_used_up(world, Parties::of(&pair.own)) {
        return Embryo::NoQuota;
    }
    if !world.has_room(key) {
        return Embryo::NoRoom;
    }
    for key in [&pair.twin_key, key] {
        if let Some(embryo) = world.embryo(key) {
            embryo.state = State::Answered as u8;
        }
    }
    Embryo::GoesOn
}

/// Moves a pair from `EMBRYONIC` to `FLOWS`. The reply goes first and leaves
/// last, so that its port is claimed in one of the tables at every moment.
/// When `FLOWS` is full the pair stays where it is.
#[inline(always)]
fn promote<W: World>(world: &mut W, key: &FlowKey, pair: &mut Pair) -> Embryo {
    let parties = Parties::of(&pair.own);
    if quota::is_used_up(world, parties) {
        return Embryo::NoQuota;
    }
    // By its state an embryo is told from a flow.
    (pair.own.state, pair.twin.state) = (State::Established as u8, State::Established as u8);
    let Pair { own, twin, twin_key, .. } = &*pair;
    let ((reply_key, reply), (original_key, original)) = if own.has(Flow::ORIGINAL) {
        ((twin_key, twin), (key, own))
    } else {
        ((key, own), (twin_key, twin))
    };
    if !world.claim_flow(reply_key, reply) {
        // A packet of the other direction may do the same on another CPU: one
        // of the two makes the pair.
        return if world.flow(reply_key).is_some() { Embryo::GoesOn } else { Embryo::NoRoom };
    }
    if !world.claim_flow(original_key, original) {
        world.remove_flow(reply_key);
        return Embryo::NoRoom;
    }
    world.remove_embryo(original_key);
    world.remove_embryo(reply_key);
    quota::count(world, parties, 1);
    Embryo::Grown
}
