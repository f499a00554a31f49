//! Packets of a flow that is known.

use crate::{
    abi::{
        Flow, FlowKey,
        wire::{ETHERNET_LEN, PROTO_TCP, TCP_FIN, TCP_RST, TCP_SYN},
    },
    conntrack::{self, Next, State},
    nat,
    packet::{Headers, Packet},
    tables::{Journey, Route, World},
    verdict::{DropReason, Verdict},
};

/// Forwards a packet of an answered flow. `None`: there is no such flow.
#[inline(always)]
pub(super) fn established<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Option<Verdict> {
    let now = world.now();
    let generation = world.config().map_or(0, |config| config.route_generation);
    let flow = world.flow(&headers.key)?;
    if let Some(reason) = spoofed(packet, headers, flow) {
        return Some(Verdict::Drop(reason));
    }
    account(flow, packet, now);
    let turning = headers.key.proto == PROTO_TCP
        && (flow.state != State::Established as u8
            || headers.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0);
    if turning || is_stale(flow, generation) {
        return at_a_turn(packet, world, headers);
    }
    Some(send(packet, headers, flow))
}

/// The rest of [`established`] where TCP's state moves or the route is old.
#[inline(never)]
fn at_a_turn<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Option<Verdict> {
    if headers.key.proto == PROTO_TCP && !advance(world, headers) {
        return None;
    }
    if let Err(verdict) = reroute(world, &headers.key) {
        return Some(verdict);
    }
    let flow = world.flow(&headers.key)?;
    Some(send(packet, headers, flow))
}

/// Forwards a packet of a flow that has not been answered; an answer makes it
/// an established one. `None`: there is no such flow.
#[inline(never)]
pub(super) fn embryonic<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Option<Verdict> {
    let now = world.now();
    let flow = world.embryo(&headers.key)?;
    if let Some(reason) = spoofed(packet, headers, flow) {
        return Some(Verdict::Drop(reason));
    }
    account(flow, packet, now);
    let (original, twin) = (flow.has(Flow::ORIGINAL), nat::twin_key(&headers.key, flow));
    if original {
        // The LRU may have let go of the reply's entry, and with it the port.
        if world.embryo(&twin).is_none() && world.flow(&twin).is_none() {
            world.remove_embryo(&headers.key);
            return None;
        }
    } else if headers.tcp_flags & TCP_RST == 0 {
        promote(world, &headers.key, &twin);
    }
    if let Err(verdict) = reroute(world, &headers.key) {
        return Some(verdict);
    }
    if let Some(flow) = world.flow(&headers.key) {
        return Some(send(packet, headers, flow));
    }
    let flow = world.embryo(&headers.key)?;
    Some(send(packet, headers, flow))
}

/// Sends the packet that has just opened its flow.
#[inline(never)]
pub(super) fn opened<P: Packet, W: World>(
    packet: &mut P,
    world: &mut W,
    headers: &Headers,
) -> Verdict {
    match world.embryo(&headers.key) {
        Some(flow) => send(packet, headers, flow),
        None => Verdict::Drop(DropReason::NoFlow),
    }
}

/// Moves a pair from `EMBRYONIC` to `FLOWS`. The reply goes first and leaves
/// last, so that its port is claimed in one of the tables at every moment.
/// When `FLOWS` is full the pair stays where it is.
#[inline(always)]
fn promote<W: World>(world: &mut W, reply: &FlowKey, original: &FlowKey) {
    if world.embryo(original).is_none() || !world.promote(reply, State::Established) {
        return;
    }
    if !world.promote(original, State::Established) {
        world.remove_flow(reply);
        return;
    }
    world.remove_embryo(original);
    world.remove_embryo(reply);
}

/// The container's own direction must come from its link and its MAC.
#[inline(always)]
fn spoofed<P: Packet>(packet: &P, headers: &Headers, flow: &Flow) -> Option<DropReason> {
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
pub(super) fn account<P: Packet>(flow: &mut Flow, packet: &P, now: u32) {
    flow.packets += 1;
    flow.bytes += packet.len() as u64;
    // A store only once a second keeps the line shared between CPUs.
    if flow.last_seen != now {
        flow.last_seen = now;
    }
}

/// Lets a TCP segment move both directions' state. `false`: the old flow is
/// over and gone, and a new one begins.
#[inline(always)]
fn advance<W: World>(world: &mut W, headers: &Headers) -> bool {
    let Some(flow) = world.flow(&headers.key) else { return false };
    let (state, fin) = (State::from_u8(flow.state), flow.has(Flow::FIN));
    let twin_key = nat::twin_key(&headers.key, flow);
    let twin_fin = world.flow(&twin_key).is_some_and(|twin| twin.has(Flow::FIN));
    match conntrack::next(state, headers.tcp_flags, fin, twin_fin) {
        Next::Stay => true,
        Next::Restart => {
            world.remove_flow(&headers.key);
            world.remove_flow(&twin_key);
            false
        }
        Next::Become { state, fin } => {
            if let Some(twin) = world.flow(&twin_key) {
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
pub(super) fn send<P: Packet>(packet: &mut P, headers: &Headers, flow: &Flow) -> Verdict {
    if headers.ip.ttl <= 1 {
        // Only a container's packet may go to the stack as it is: for one from
        // outside the stack would answer in the container's place.
        return if flow.in_ifindex != 0 {
            Verdict::Pass
        } else {
            Verdict::Drop(DropReason::TtlExpired)
        };
    }
    if flow.has(Flow::LOCAL) {
        let (dst, src) = flow.hop_macs();
        return if nat::translate(packet, headers, flow, 1)
            && packet.write(0, &dst)
            && packet.write(6, &src)
        {
            Verdict::Deliver { ifindex: flow.out_ifindex }
        } else {
            Verdict::Drop(DropReason::EditFailed)
        };
    }
    if exceeds(packet, headers, flow.mtu) {
        return Verdict::Pass;
    }
    if !nat::translate(packet, headers, flow, 1) {
        return Verdict::Drop(DropReason::EditFailed);
    }
    packet.mark_translated();
    Verdict::Forward { ifindex: flow.out_ifindex, next_hop: flow.hop }
}

/// Whether the packet, or a segment it will be cut into, is too long for the
/// path: the stack then fragments it or says so.
#[inline(always)]
fn exceeds<P: Packet>(packet: &P, headers: &Headers, mtu: u16) -> bool {
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
    !flow.has(Flow::LOCAL) && flow.generation != generation
}

/// Looks the route up anew if the host's routes have changed since, and keeps
/// it in the flow, whichever table that is in.
#[inline(never)]
pub(super) fn reroute<W: World>(world: &mut W, key: &FlowKey) -> Result<(), Verdict> {
    let Some(config) = world.config() else {
        return Err(Verdict::Drop(DropReason::NotConfigured));
    };
    let generation = config.route_generation;
    let Some(journey) = stale_journey(world, key, generation) else { return Ok(()) };
    let bridge = world
        .endpoint(&key.src)
        .map(|endpoint| endpoint.network)
        .and_then(|index| world.network(index))
        .map(|network| network.bridge_ifindex);
    let Some(from) = bridge else { return Err(Verdict::Drop(DropReason::NoEndpoint)) };
    let Route::Via { ifindex, next_hop, mtu, .. } = world.route(&Journey { from, ..journey })
    else {
        return Err(Verdict::Pass);
    };
    if world.uplink(ifindex).is_none() {
        return Err(Verdict::Drop(DropReason::NoUplink));
    }
    let renew = |flow: &mut Flow| {
        (flow.out_ifindex, flow.hop, flow.mtu) = (ifindex, next_hop, mtu);
        flow.generation = generation;
    };
    if let Some(flow) = world.flow(key) {
        renew(flow);
    } else if let Some(flow) = world.embryo(key) {
        renew(flow);
    }
    Ok(())
}

/// The journey whose route a flow needs; `None`: its route is fresh, or it
/// needs none.
#[inline(always)]
fn stale_journey<W: World>(world: &mut W, key: &FlowKey, generation: u16) -> Option<Journey> {
    let journey = |flow: &mut Flow| {
        let (src, dst) = nat::translated(key, flow);
        let journey = Journey { from: 0, src, dst, proto: key.proto };
        is_stale(flow, generation).then_some(journey)
    };
    if let Some(flow) = world.flow(key) {
        return journey(flow);
    }
    world.embryo(key).and_then(journey)
}
