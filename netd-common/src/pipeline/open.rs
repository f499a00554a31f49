//! The first packet of a flow, and what it becomes: [`outbound`], [`inbound`],
//! [`straight`], [`across`] and [`hairpin`] draft the flow,
//! [`super::claim::claim`] claims its tuple, and [`super::flow::send_first`] sends
//! its first packet.

use super::{
    Scratch,
    asked::{Counted, admit, asks},
    claim::Port,
    policy,
};
use crate::{
    abi::{
        Address, Family, Flow, Network, Uplink,
        wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, TCP_ACK, TCP_SYN},
    },
    packet::{Headers, Kind},
    tables::{Journey, World},
    verdict::{DropReason, Verdict},
};

/// What a packet without a flow must be to open one.
#[inline(always)]
fn openable(headers: &Headers) -> Result<(), DropReason> {
    match headers.kind {
        Kind::Piece => Err(DropReason::FragmentOrder),
        Kind::Error => Err(DropReason::UnrelatedError),
        Kind::Extended | Kind::Ndp | Kind::Other => Err(DropReason::UnsupportedProtocol),
        // An echo reply nobody asked for, a RST for a flow long gone.
        Kind::Flow if headers.may_open() => Ok(()),
        Kind::Flow => Err(DropReason::NoFlow),
    }
}

/// Who has brought a container's packet to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// No one yet: it has just left its container.
    Nobody,
    Stack,
}

/// A container's packet to the outside: takes a host address as its source,
/// unless its network does not masquerade. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn outbound<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    index: u32,
    carrier: Carrier,
) -> Verdict {
    let Scratch { headers, draft, journey, network, .. } = scratch;
    if let Err(reason) = openable(headers) {
        return reason.into();
    }
    let key = &headers.key;
    if is_nobody(&key.dst) {
        return Verdict::PASS;
    }
    (journey.src, journey.dst) = (key.src, key.dst);
    (journey.from, journey.proto) = (network.bridge_ifindex, u32::from(key.proto));
    let masquerades = network.flags & Network::MASQUERADE != 0;
    let wants_source = masquerades && network.source == Address::ANY;
    // IPv6's is dear, and the uplink may know it.
    journey.wants_source = u32::from(wants_source && headers.family == Family::V4);
    world.route(journey);
    if journey.ifindex == 0 {
        return Verdict::PASS;
    }
    let Some(uplink) = world.uplink(journey.ifindex) else {
        // Not a link of netd's, but one that may come in may be answered.
        return if world.is_trusted(index, journey.ifindex) {
            Verdict::PASS
        } else {
            Verdict::drop(DropReason::NoUplink)
        };
    };
    let guests = uplink.flags & Uplink::GUESTS != 0;
    if guests && carrier == Carrier::Nobody {
        return Verdict::PASS;
    }
    let knows_source = headers.family == Family::V4 || uplink.flags & Uplink::FIXED_SOURCE6 != 0;
    if wants_source && !guests && !knows_source {
        journey.wants_source = 1;
        world.route(journey);
        if journey.ifindex == 0 {
            return Verdict::PASS;
        }
    }
    let Some(sender) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::SpoofedAddress);
    };
    draft.begin(key, key.dport);
    draft.original.leaves(sender);
    let mut src = key.src;
    if guests {
        draft.original.takes(journey, &src, world.route_generation());
        draft.reply.flags |= Flow::LOCAL;
        return Verdict::UNDECIDED;
    }
    draft.reply.enters(sender);
    if masquerades {
        src = source(network, journey, &uplink, headers.family);
        if src == Address::ANY {
            return Verdict::drop(DropReason::NoUplink);
        }
        draft.original.addr = src;
        draft.original.flags |= Flow::REWRITE_SRC;
        draft.reply.addr = key.src;
        draft.reply.flags |= Flow::REWRITE_DST;
        draft.port = Port::OfSnat as u64;
    }
    draft.original.takes(journey, &src, world.route_generation());
    Verdict::UNDECIDED
}

/// What no single host answers to, though a route may be found: `::`, "this
/// network", groups. The stack has its own word on them.
#[inline(always)]
fn is_nobody(destination: &Address) -> bool {
    match destination.family() {
        Family::V4 => matches!(destination.v4_octets()[0], 0 | 224..),
        Family::V6 => *destination == Address::ANY || destination.first_octets()[0] == 0xff,
    }
}

/// The host's address for masqueraded packets; [`Address::ANY`]: it has none.
#[inline(always)]
fn source(network: &Network, journey: &Journey, uplink: &Uplink, family: Family) -> Address {
    if network.source != Address::ANY {
        return network.source;
    }
    if journey.source != Address::ANY {
        return journey.source;
    }
    match family {
        Family::V4 => uplink.addr4,
        Family::V6 => uplink.addr6,
    }
}

/// Whether a fragment of a broken datagram would have been netd's to carry.
#[inline(never)]
pub(super) fn concerns<W: World>(world: &mut W, scratch: &mut Scratch) -> bool {
    let Scratch { headers, asked, .. } = scratch;
    headers.kind == Kind::Flow
        && (world.any_flow(&headers.key).is_some_and(|flow| !flow.has(Flow::HOST))
            || asks(world, headers, asked))
}

/// From outside to a published port: the client's address is kept. Undecided:
/// the draft is ready.
#[inline(never)]
pub(super) fn inbound<W: World>(world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, draft, asked, .. } = scratch;
    let target = &asked.target;
    draft.begin(&headers.key, target.port);
    if let Err(reason) = draft.answered_by(world, &target.addr) {
        return reason.into();
    }
    draft.publishes(target, &headers.key);
    draft.reply.has_no_way_yet(world.route_generation());
    Verdict::UNDECIDED
}

/// From outside to a container's own address. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn straight<W: World>(world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, draft, .. } = scratch;
    if let Err(reason) = begins(headers) {
        return reason.into();
    }
    draft.begin(&headers.key, headers.key.dport);
    if let Err(reason) = draft.answered_by(world, &headers.key.dst) {
        return reason.into();
    }
    draft.reply.has_no_way_yet(world.route_generation());
    Verdict::UNDECIDED
}

/// From a container to one of another network, at that one's own address.
/// Undecided: the draft is ready.
#[inline(never)]
pub(super) fn across<W: World>(world: &mut W, scratch: &mut Scratch, other: u32) -> Verdict {
    let Scratch { headers, draft, asked, network, .. } = scratch;
    let isolated = Verdict::drop(DropReason::Isolated);
    // From here on the other network's is what counts.
    if !policy(world, other, headers.family, network) {
        return isolated;
    }
    if network.flags & Network::INTERNAL != 0 {
        return isolated;
    }
    let is_echo = matches!(headers.key.proto, PROTO_ICMP | PROTO_ICMPV6);
    let welcome = network.flags & Network::UNPROTECTED != 0
        || network.flags & Network::ROUTED != 0 && is_echo;
    if !welcome {
        // A routed network publishes its ports under the container's address.
        if !asks(world, headers, asked) {
            return isolated;
        }
        if let Err(reason) = admit(world, headers, asked, Counted::No) {
            return reason.into();
        }
    }
    if let Err(reason) = begins(headers) {
        return reason.into();
    }
    let key = &headers.key;
    draft.begin(key, key.dport);
    if let Err(reason) =
        draft.answered_by(world, &key.dst).and_then(|_| draft.opened_by(world, &key.src))
    {
        return reason.into();
    }
    Verdict::UNDECIDED
}

/// What a packet must be to open a flow that is not translated.
#[inline(always)]
fn begins(headers: &Headers) -> Result<(), DropReason> {
    openable(headers)?;
    let syn = headers.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    if headers.key.proto != PROTO_TCP || syn { Ok(()) } else { Err(DropReason::NoFlow) }
}

/// From a container to a published port of its host: the client's address is
/// kept, except towards itself. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn hairpin<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    client_network: u32,
) -> Verdict {
    let Scratch { headers, draft, asked, .. } = scratch;
    let (key, target) = (&headers.key, &asked.target);
    draft.begin(key, target.port);
    if let Err(reason) = draft.opened_by(world, &key.src) {
        return reason.into();
    }
    let server_network = match draft.answered_by(world, &target.addr) {
        Ok(server) => server,
        Err(reason) => return reason.into(),
    };
    draft.publishes(target, key);
    if target.addr == key.src {
        draft.original.addr = draft.server.gateway;
        draft.original.flags |= Flow::REWRITE_SRC | Flow::TO_SELF;
        draft.reply.flags |= Flow::REWRITE_DST | Flow::TO_SELF;
    } else if client_network == server_network {
        // The same two also talk without translation and without a flow; a
        // port no socket of theirs would pick keeps the two apart.
        draft.port = Port::OfSnat as u64;
    }
    Verdict::UNDECIDED
}
