//! Packets of a flow that is known.

use super::{
    Scratch, mss,
    quota::{self, Parties},
};
use crate::{
    abi::{
        Flow, FlowKey,
        wire::{ETHERNET_LEN, PROTO_TCP, TCP_RST, TCP_SYN},
    },
    conntrack::{self, Next, State},
    nat,
    packet::{Headers, Kind, PacketMut},
    tables::{Journey, World},
    verdict::{DropReason, Verdict},
};

/// Forwards a packet of an answered flow. Undecided: the packet may move its
/// state, or its route is old; unknown: there is no such flow.
#[inline(never)]
pub(super) fn established<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Verdict {
    let now = world.now();
    let generation = world.route_generation();
    let Some(flow) = world.flow(&headers.key) else {
        return Verdict::UNKNOWN;
    };
    if let Some(reason) = spoofed(packet, headers, flow) {
        return reason.into();
    }
    let moves =
        headers.key.proto == PROTO_TCP && conntrack::may_move(flow.state, headers.tcp_flags);
    if moves || is_stale(flow, generation) {
        return Verdict::UNDECIDED;
    }
    account(flow, packet, now);
    send(packet, headers, flow)
}

/// Forwards any packet of a known flow. Undecided: there is none, or it is
/// over and a new one begins.
#[inline(always)]
pub(super) fn known<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    let headers = &scratch.headers;
    if headers.kind != Kind::Flow {
        return Verdict::UNDECIDED;
    }
    let now = world.now();
    let Some(flow) = world.any_flow(&headers.key) else {
        return Verdict::UNDECIDED;
    };
    if let Some(reason) = spoofed(packet, headers, flow) {
        return reason.into();
    }
    account(flow, packet, now);
    if flow.has(Flow::HOST) {
        return Verdict::PASS;
    }
    let embryo =
        if State::is_embryonic(flow.state) { embryonic(world, headers) } else { Embryo::Grown };
    let goes_on = match embryo {
        Embryo::Grown => headers.key.proto != PROTO_TCP || advance(world, headers),
        Embryo::GoesOn => true,
        Embryo::Lost => false,
        Embryo::NoRoom => return Verdict::drop(DropReason::FlowTableFull),
        Embryo::NoQuota => return Verdict::drop(DropReason::FlowQuota),
    };
    if goes_on { finish(packet, world, scratch) } else { Verdict::UNDECIDED }
}

/// Sends a packet by its flow, whichever table that is in.
#[inline(never)]
fn finish<P: PacketMut, W: World>(packet: &mut P, world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, journey, .. } = scratch;
    let no_flow = Verdict::drop(DropReason::NoFlow);
    let (opens, generation) = (headers.tcp_flags & TCP_SYN != 0, world.route_generation());
    let Some(flow) = world.any_flow(&headers.key) else { return no_flow };
    let stale = is_stale(flow, generation);
    if !opens && !stale {
        return send_closely(packet, headers, flow);
    }
    if stale {
        let refused = reroute(world, journey, &headers.key);
        if refused.is_decided() {
            return refused;
        }
    }
    if opens && !clamp_segments(packet, world, headers) {
        return Verdict::drop(DropReason::EditFailed);
    }
    match world.any_flow(&headers.key) {
        Some(flow) => send_closely(packet, headers, flow),
        None => no_flow,
    }
}

/// Sends the packet that has opened the flow that was drafted: its way is as
/// fresh as the draft.
#[inline(always)]
pub(super) fn send_first<P: PacketMut>(packet: &mut P, scratch: &Scratch) -> Verdict {
    let (headers, flow) = (&scratch.headers, &scratch.draft.original);
    let mtu = flow.mtu();
    if headers.tcp_flags & TCP_SYN != 0 && mtu != 0 && !mss::clamp(packet, headers, mtu) {
        return Verdict::drop(DropReason::EditFailed);
    }
    send_closely(packet, headers, flow)
}

/// [`send`], once for all of the slow path.
#[inline(never)]
fn send_closely<P: PacketMut>(packet: &mut P, headers: &Headers, flow: &Flow) -> Verdict {
    send(packet, headers, flow)
}

/// A SYN announces no larger segments than the way to or from the outside
/// takes, whichever direction it goes.
#[inline(always)]
fn clamp_segments<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> bool {
    let Some(flow) = world.any_flow(&headers.key) else { return true };
    let mut mtu = flow.mtu();
    if flow.has(Flow::LOCAL) {
        let twin = nat::twin_key(&headers.key, flow);
        mtu = world.any_flow(&twin).map_or(0, |twin| twin.mtu());
    }
    mtu == 0 || mss::clamp(packet, headers, mtu)
}

/// What becomes of an embryonic flow with a packet of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Embryo {
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
fn embryonic<W: World>(world: &mut W, headers: &Headers) -> Embryo {
    let Some(flow) = world.embryo(&headers.key) else {
        // Promoted a moment ago, on another CPU.
        return Embryo::GoesOn;
    };
    let answered = flow.state == State::Answered as u8;
    let (original, twin) = (flow.has(Flow::ORIGINAL), nat::twin_key(&headers.key, flow));
    let resets = headers.tcp_flags & TCP_RST != 0;
    let outcome = if original {
        // The LRU may have let go of the reply's entry, and with it the port,
        // which may be another's by now.
        let reply = world.any_flow(&twin);
        if reply.is_none_or(|reply| !nat::is_twin(&twin, reply, &headers.key)) {
            world.remove_embryo(&headers.key);
            return Embryo::Lost;
        }
        if !answered || resets || headers.tcp_flags & TCP_SYN != 0 {
            return Embryo::GoesOn;
        }
        promote(world, &twin, &headers.key)
    } else if resets {
        return Embryo::GoesOn;
    } else if is_answer(headers, answered) {
        answer(world, &headers.key, &twin)
    } else {
        promote(world, &headers.key, &twin)
    };
    // What has no connections can do without a place in the table.
    let needless = outcome == Embryo::NoRoom && headers.key.proto != PROTO_TCP;
    if needless { Embryo::GoesOn } else { outcome }
}

/// Whether a packet of the reply's direction is the first, or as good as that.
/// TCP's in the middle of a connection is not.
#[inline(always)]
fn is_answer(headers: &Headers, answered: bool) -> bool {
    if headers.key.proto == PROTO_TCP { headers.tcp_flags & TCP_SYN != 0 } else { !answered }
}

/// The parties to a pair that may grow, or what becomes of it instead.
#[inline(always)]
fn growing<W: World>(
    world: &mut W,
    reply: &FlowKey,
    original: &FlowKey,
) -> Result<Parties, Embryo> {
    let Some(opener) = world.embryo(original) else { return Err(Embryo::GoesOn) };
    // An original that was opened anew may have another reply by now.
    if !nat::is_twin(original, opener, reply) {
        return Err(Embryo::GoesOn);
    }
    let parties = Parties::of(opener);
    if quota::is_used_up(world, parties) { Err(Embryo::NoQuota) } else { Ok(parties) }
}

/// Notes that a pair has been answered, if there is room for it to grow.
#[inline(always)]
fn answer<W: World>(world: &mut W, reply: &FlowKey, original: &FlowKey) -> Embryo {
    if let Err(embryo) = growing(world, reply, original) {
        return embryo;
    }
    if !world.has_room(reply) {
        return Embryo::NoRoom;
    }
    for key in [original, reply] {
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
fn promote<W: World>(world: &mut W, reply: &FlowKey, original: &FlowKey) -> Embryo {
    let parties = match growing(world, reply, original) {
        Ok(parties) => parties,
        Err(embryo) => return embryo,
    };
    if !world.promote(reply, State::Established) {
        // A packet of the other direction may do the same on another CPU: one
        // of the two makes the pair.
        return if world.flow(reply).is_some() { Embryo::GoesOn } else { Embryo::NoRoom };
    }
    if !world.promote(original, State::Established) {
        world.remove_flow(reply);
        return Embryo::NoRoom;
    }
    world.remove_embryo(original);
    world.remove_embryo(reply);
    quota::count(world, parties, 1);
    Embryo::Grown
}

/// The container's own direction must come from its link and its MAC.
#[inline(always)]
pub(super) fn spoofed<P: PacketMut>(
    packet: &P,
    headers: &Headers,
    flow: &Flow,
) -> Option<DropReason> {
    if flow.in_ifindex == 0 {
        None
    } else if flow.in_ifindex != packet.ifindex() {
        Some(DropReason::SpoofedAddress)
    } else if flow.in_mac != headers.source_mac {
        Some(DropReason::SpoofedMac)
    } else {
        None
    }
}

#[inline(always)]
pub(super) fn account<P: PacketMut>(flow: &mut Flow, packet: &P, now: u32) {
    flow.count(packet.len() as u64);
    // A store only once a second keeps the line shared between CPUs.
    if flow.last_seen != now {
        flow.last_seen = now;
    }
}

/// Lets a TCP segment move both directions' state. `false`: the old flow is
/// over and gone, and a new one begins.
#[inline(never)]
fn advance<W: World>(world: &mut W, headers: &Headers) -> bool {
    let Some(flow) = world.flow(&headers.key) else {
        return false;
    };
    let (state, fin) = (State::from_u8(flow.state), flow.has(Flow::FIN));
    let twin_key = nat::twin_key(&headers.key, flow);
    let parties = Parties::of(flow);
    let twin = world.flow(&twin_key);
    let twin_fin = twin.as_ref().is_some_and(|twin| twin.has(Flow::FIN));
    match conntrack::next(state, headers.tcp_flags, fin, twin_fin) {
        Next::Stay => true,
        Next::Restart => {
            world.remove_flow(&headers.key);
            world.remove_flow(&twin_key);
            quota::count(world, parties, -1);
            false
        }
        Next::Become { state, fin } => {
            if let Some(twin) = twin {
                twin.state = state as u8;
            }
            if let Some(own) = world.flow(&headers.key) {
                own.state = state as u8;
                if fin {
                    own.flags |= Flow::FIN;
                }
            }
            true
        }
    }
}

/// Translates the packet and sends it where its flow goes.
#[inline(always)]
pub(super) fn send<P: PacketMut>(packet: &mut P, headers: &Headers, flow: &Flow) -> Verdict {
    if flow.is_by_stack() {
        return Verdict::PASS;
    }
    let mut hops = 1;
    if headers.ttl <= 1 {
        // Addressed to the host itself, it has arrived: there is no further hop
        // that its sender should hear of.
        if flow.has(Flow::REWRITE_DST) {
            hops = 0;
        } else if flow.in_ifindex != 0 {
            // The stack answers, as the router that it is.
            return Verdict::PASS;
        } else {
            return Verdict::drop(DropReason::TtlExpired);
        }
    }
    if !flow.has(Flow::LOCAL) && exceeds(packet, headers, flow.mtu()) {
        return Verdict::PASS;
    }
    if !nat::translate(packet, headers, flow, hops) {
        return Verdict::drop(DropReason::EditFailed);
    }
    hand_over(packet, &headers.key, flow)
}

/// Sends a packet that has been translated where its flow goes.
#[inline(always)]
pub(super) fn hand_over<P: PacketMut>(packet: &mut P, key: &FlowKey, flow: &Flow) -> Verdict {
    if flow.has(Flow::LOCAL) {
        if flow.is_by_stack() {
            return Verdict::PASS;
        }
        let (dst, src) = flow.macs();
        return if packet.write(0, &dst) && packet.write(6, &src) {
            Verdict::deliver(flow.out_ifindex)
        } else {
            Verdict::drop(DropReason::EditFailed)
        };
    }
    packet.mark_translated();
    packet.set_next_hop(flow.next_hop(key));
    Verdict::forward(flow.out_ifindex)
}

/// Whether the packet, or a segment it will be cut into, is too long for the
/// path: the stack then fragments it or says so.
#[inline(always)]
fn exceeds<P: PacketMut>(packet: &P, headers: &Headers, mtu: u16) -> bool {
    if mtu == 0 || packet.len() - ETHERNET_LEN <= usize::from(mtu) {
        return false;
    }
    if packet.gso_size() == 0 {
        return true;
    }
    let l4_len = if headers.key.proto == PROTO_TCP {
        usize::from(packet.read::<u8>(headers.l4 + 12).unwrap_or(0) >> 4) * 4
    } else {
        8
    };
    headers.l4 - ETHERNET_LEN + l4_len + packet.gso_size() as usize > usize::from(mtu)
}

#[inline(always)]
fn is_stale(flow: &Flow, generation: u16) -> bool {
    !flow.has(Flow::LOCAL) && flow.generation() != generation
}

/// Looks the route of `key`'s flow up anew if the host's routes have changed
/// since, and keeps it in the flow, whichever table that is in. Undecided: all
/// is well.
#[inline(never)]
pub(super) fn reroute<W: World>(world: &mut W, journey: &mut Journey, key: &FlowKey) -> Verdict {
    let generation = world.route_generation();
    let Some(flow) = world.any_flow(key) else { return Verdict::UNDECIDED };
    if !is_stale(flow, generation) {
        return Verdict::UNDECIDED;
    }
    (journey.src, journey.dst) = nat::translated(key, flow);
    let Some(endpoint) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    let index = endpoint.network;
    let Some(network) = world.network(index, key.src.family()) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    (journey.from, journey.proto) = (network.bridge_ifindex, u32::from(key.proto));
    world.route(journey);
    if journey.ifindex == 0 {
        return Verdict::PASS;
    }
    if world.uplink(journey.ifindex).is_none() {
        return if world.is_trusted(index, journey.ifindex) {
            Verdict::PASS
        } else {
            Verdict::drop(DropReason::NoUplink)
        };
    }
    if let Some(flow) = world.any_flow(key) {
        flow.takes(journey, &journey.src, generation);
    }
    Verdict::UNDECIDED
}
