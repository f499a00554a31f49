//! Packets of a flow that is known.

use super::{
    Scratch,
    embryo::{self, Embryo},
    mss,
    quota::{self, Parties},
};
use crate::{
    abi::{
        Flow, FlowKey,
        wire::{ETHERNET_LEN, PROTO_TCP, TCP_SYN},
    },
    conntrack::{self, Next, State},
    nat,
    packet::{Headers, Kind, PacketMut},
    tables::{Journey, World},
    verdict::{DropReason, Verdict},
};

/// A known flow, as it was when its packet came, and its other direction.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Pair {
    pub(super) own: Flow,
    /// Zero unless it was looked at.
    pub(super) twin: Flow,
    pub(super) twin_key: FlowKey,
    /// Whether it is over and its packet begins a new one (0: no), until that
    /// is seen to.
    pub(super) is_replaced: u64,
}

impl Pair {
    /// Whether there is a flow to be replaced. Whoever asks sees to it.
    #[inline(always)]
    pub(super) fn take_replaced(&mut self) -> bool {
        core::mem::take(&mut self.is_replaced) != 0
    }
}

/// Forwards a packet of an answered flow. Undecided: it may open a flow anew,
/// or its route is old; unknown: there is no such flow.
#[inline(never)]
pub(super) fn established<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Verdict {
    let now = world.now();
    let generation = world.route_generation();
    let Some(mut flow) = world.flow(&headers.key) else {
        return Verdict::UNKNOWN;
    };
    if let Some(reason) = spoofed(packet, headers, flow) {
        return reason.into();
    }
    if headers.tcp_flags & TCP_SYN != 0 || is_stale(flow, generation) {
        return Verdict::UNDECIDED;
    }
    account(flow, packet, now);
    if moves(headers, flow) {
        flow = match advance(world, &headers.key, headers.tcp_flags) {
            Some(flow) => flow,
            None => return Verdict::UNDECIDED,
        };
    }
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
    let Scratch { headers, pair, .. } = scratch;
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
    (pair.own, pair.twin) = (*flow, Flow::default());
    pair.twin_key = nat::twin_key(&headers.key, &pair.own);
    let embryo = if State::is_embryonic(pair.own.state) {
        embryo::grow(world, headers, pair)
    } else {
        Embryo::Grown
    };
    let goes_on = match embryo {
        Embryo::Grown if conntrack::restarts(pair.own.state, headers.tcp_flags) => {
            pair.is_replaced = 1;
            false
        }
        Embryo::Grown => {
            !moves(headers, &pair.own) || advance(world, &headers.key, headers.tcp_flags).is_some()
        }
        Embryo::GoesOn => true,
        Embryo::Lost => false,
        Embryo::NoRoom => return Verdict::drop(DropReason::FlowTableFull),
        Embryo::NoQuota => return Verdict::drop(DropReason::FlowQuota),
    };
    if goes_on { finish(packet, world, scratch) } else { Verdict::UNDECIDED }
}

/// Sends a packet by the flow that it was found to be of.
#[inline(never)]
fn finish<P: PacketMut, W: World>(packet: &mut P, world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, journey, pair, .. } = scratch;
    let refused = reroute(world, journey, &headers.key, &mut pair.own);
    if refused.is_decided() {
        return refused;
    }
    if headers.tcp_flags & TCP_SYN != 0 && !clamp_segments(packet, world, headers, pair) {
        return Verdict::drop(DropReason::EditFailed);
    }
    send_closely(packet, headers, &pair.own)
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
    pair: &mut Pair,
) -> bool {
    if pair.own.has(Flow::LOCAL) && !State::is_embryonic(pair.own.state) {
        pair.twin = world.flow(&pair.twin_key).map_or(pair.twin, |twin| *twin);
    }
    let mtu = if pair.own.has(Flow::LOCAL) { pair.twin.mtu() } else { pair.own.mtu() };
    mtu == 0 || mss::clamp(packet, headers, mtu)
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

/// Whether the packet may move its flow's state.
#[inline(always)]
fn moves(headers: &Headers, flow: &Flow) -> bool {
    headers.key.proto == PROTO_TCP && conntrack::may_move(flow.state, headers.tcp_flags)
}

/// Ends the flow whose packet begins a new one elsewhere. Another CPU's packet may
/// have begun one in its place meanwhile: that stays.
#[inline(never)]
pub(super) fn end<W: World>(world: &mut W, headers: &Headers, pair: &Pair) {
    if world.flow(&headers.key).is_some_and(|flow| conntrack::is_over(flow.state)) {
        world.remove_flow(&headers.key);
        world.remove_flow(&pair.twin_key);
        quota::count(world, Parties::of(&pair.own), -1);
    }
}

/// What becomes of a flow whose packet was to begin a new one and did not. Where
/// the packet goes on all the same, the stack takes the tuple over. What is
/// dropped begins nothing and ends nothing, and no more does a SYN to whoever
/// asked: anybody can send either after a RST (RFC 5961).
#[inline(always)]
pub(super) fn settle_replaced<W: World>(world: &mut W, scratch: &mut Scratch, verdict: Verdict) {
    let Scratch { headers, pair, .. } = scratch;
    if pair.take_replaced() && !verdict.is_drop() && pair.own.has(Flow::ORIGINAL) {
        end(world, headers, pair);
    }
}

/// Lets a TCP segment that restarts nothing move the state of both directions.
/// `None`: the flow has gone.
#[inline(never)]
fn advance<'w, W: World>(world: &'w mut W, key: &FlowKey, tcp_flags: u8) -> Option<&'w mut Flow> {
    let own = world.flow(key)?;
    let (state, fin) = (State::from_u8(own.state), own.has(Flow::FIN));
    let twin_key = nat::twin_key(key, own);
    let twin = world.flow(&twin_key);
    let twin_fin = twin.as_ref().is_some_and(|twin| twin.has(Flow::FIN));
    let next = conntrack::next(state, tcp_flags, fin, twin_fin);
    if let Next::Become { state, .. } = next
        && let Some(twin) = twin
    {
        twin.state = state as u8;
    }
    let own = world.flow(key)?;
    if let Next::Become { state, fin } = next {
        own.state = state as u8;
        if fin {
            own.flags |= Flow::FIN;
        }
    }
    Some(own)
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
/// since, and keeps it in the flow, whichever table that is in, and in `own`,
/// which is a copy. Undecided: all is well.
#[inline(never)]
pub(super) fn reroute<W: World>(
    world: &mut W,
    journey: &mut Journey,
    key: &FlowKey,
    own: &mut Flow,
) -> Verdict {
    let generation = world.route_generation();
    if !is_stale(own, generation) {
        return Verdict::UNDECIDED;
    }
    (journey.src, journey.dst) = nat::translated(key, own);
    let Some(endpoint) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    let index = endpoint.network;
    let Some(network) = world.network(index, key.src.family()) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    (journey.from, journey.proto) = (network.bridge_ifindex, u32::from(key.proto));
    journey.wants_source = 0;
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
    own.takes(journey, &journey.src, generation);
    if let Some(flow) = world.any_flow(key) {
        flow.takes(journey, &journey.src, generation);
    }
    Verdict::UNDECIDED
}
