//! The first packet of a flow: what it becomes, and the claim of its tuple.
//!
//! [`outbound`], [`inbound`] and [`hairpin`] draft the flow, [`claim`] puts it
//! into `EMBRYONIC`, and [`super::flow::finish`] sends its first packet.

use super::{Scratch, published};
use crate::{
    abi::{
        Address, Be16, Endpoint, Family, Flow, FlowKey, Network, PortTarget,
        wire::{ETHERNET_LEN, PROTO_ICMP, PROTO_TCP, TCP_ACK, TCP_RST, TCP_SYN},
    },
    nat,
    packet::{Headers, Kind},
    tables::{Journey, World},
    verdict::{DropReason, Verdict},
};

/// Ports tried before a flow is given up.
const PROBES: u32 = 32;

/// What a packet without a flow must be to open one.
#[inline(always)]
fn openable(headers: &Headers) -> Result<(), DropReason> {
    match headers.kind {
        Kind::Fragment => Err(DropReason::Fragment),
        Kind::Other => Err(DropReason::UnsupportedProtocol),
        // An echo reply nobody asked for, a RST for a flow long gone.
        Kind::Flow if headers.key.proto == PROTO_ICMP && headers.key.dport.0 != 0 => {
            Err(DropReason::NoFlow)
        }
        Kind::Flow if headers.tcp_flags & TCP_RST != 0 => Err(DropReason::NoFlow),
        Kind::Flow => Ok(()),
    }
}

/// A container's packet to the outside: takes a host address as its source,
/// unless its network does not masquerade. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn outbound<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    network: &Network,
) -> Verdict {
    let Scratch { headers, draft, journey } = scratch;
    if let Err(reason) = openable(headers) {
        return reason.into();
    }
    let key = &headers.key;
    (journey.src, journey.dst) = (key.src, key.dst);
    (journey.from, journey.proto) = (network.bridge_ifindex, u32::from(key.proto));
    world.route(journey);
    if journey.ifindex == 0 {
        return Verdict::PASS;
    }
    let Some(uplink) = world.uplink(journey.ifindex) else {
        return Verdict::drop(DropReason::NoUplink);
    };
    let Some(sender) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::SpoofedAddress);
    };
    draft.begin(key, key.dport);
    draft.original.leaves(sender);
    draft.reply.enters(sender);
    draft.original.takes(journey, world.route_generation());
    if network.flags & Network::MASQUERADE != 0 {
        draft.original.addr =
            if journey.source == Address::ANY { uplink.addr4 } else { journey.source };
        if draft.original.addr == Address::ANY {
            return Verdict::drop(DropReason::NoUplink);
        }
        draft.original.flags |= Flow::REWRITE_SRC;
        draft.reply.addr = key.src;
        draft.reply.flags |= Flow::REWRITE_DST;
        draft.search = 1;
    }
    Verdict::UNDECIDED
}

/// The published port that a packet to a host address asks for, if any.
#[inline(always)]
pub(super) fn published_port<W: World>(world: &W, headers: &Headers) -> Option<PortTarget> {
    if headers.kind != Kind::Flow || headers.key.proto == PROTO_ICMP {
        return None;
    }
    let key = &headers.key;
    published::find(world, key.proto, &key.dst, key.dport).map(|(_, target)| target)
}

/// Whether a packet may open a flow to a published port: the stack answers
/// what comes in the middle of a connection that nobody knows.
#[inline(always)]
pub(super) fn opens(headers: &Headers) -> bool {
    headers.key.proto != PROTO_TCP || headers.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
}

/// From outside to a published port: the client's address is kept. Undecided:
/// the draft is ready.
#[inline(never)]
pub(super) fn inbound<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    target: &PortTarget,
) -> Verdict {
    let Scratch { headers, draft, .. } = scratch;
    let Some(server) = world.endpoint(&target.addr) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    draft.begin(&headers.key, target.port);
    draft.original.addr = target.addr;
    draft.original.flags |= Flow::REWRITE_DST;
    draft.original.enters(server);
    draft.reply.addr = headers.key.dst;
    draft.reply.flags |= Flow::REWRITE_SRC;
    draft.reply.leaves(server);
    let server_network = server.network;
    let Some(network) = world.network(server_network, Family::V4) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    // The way back is looked up when the first reply takes it.
    draft.reply.generation = world.route_generation().wrapping_sub(1);
    Verdict::UNDECIDED
}

/// From a container to a published port of its host: the client's address is
/// kept, except towards itself. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn hairpin<W: World>(
    world: &mut W,
    scratch: &mut Scratch,
    target: &PortTarget,
    client_network: u32,
) -> Verdict {
    let Scratch { headers, draft, .. } = scratch;
    let key = &headers.key;
    draft.begin(key, target.port);
    let Some(client) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::SpoofedAddress);
    };
    draft.original.leaves(client);
    draft.reply.enters(client);
    let Some(server) = world.endpoint(&target.addr) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    draft.original.enters(server);
    draft.reply.leaves(server);
    let server_network = server.network;
    let Some(network) = world.network(server_network, Family::V4) else {
        return Verdict::drop(DropReason::NoEndpoint);
    };
    if network.flags & Network::INTERNAL != 0 {
        return Verdict::drop(DropReason::Internal);
    }
    draft.original.addr = target.addr;
    draft.original.flags |= Flow::REWRITE_DST;
    draft.reply.addr = key.dst;
    draft.reply.flags |= Flow::REWRITE_SRC;
    if target.addr == key.src {
        draft.original.addr = network.gateway;
        draft.original.flags |= Flow::REWRITE_SRC | Flow::TO_SELF;
        draft.reply.flags |= Flow::REWRITE_DST | Flow::TO_SELF;
    } else if client_network == server_network {
        // The same two also talk without translation and without a flow; a
        // port no socket of theirs would pick keeps the two apart.
        draft.search = 1;
    }
    Verdict::UNDECIDED
}

/// A flow in the making, both directions of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Draft {
    original: Flow,
    reply: Flow,
    reply_key: FlowKey,
    /// Not 0: the source port is one of SNAT's from the start, out of the way
    /// of every host socket. 0: the packet's own, while no one has it.
    search: u64,
}

impl Draft {
    /// Of a packet of `key` whose destination port becomes `dport`.
    #[inline(always)]
    fn begin(&mut self, key: &FlowKey, dport: Be16) {
        self.original = Flow { flags: Flow::ORIGINAL, sport: key.sport, dport, ..Flow::default() };
        self.reply = Flow { sport: key.dport, dport: key.sport, ..Flow::default() };
        self.search = 0;
    }
}

impl Flow {
    /// Its packets come from `endpoint`.
    #[inline(always)]
    fn leaves(&mut self, endpoint: &Endpoint) {
        (self.in_ifindex, self.in_mac) = (endpoint.ifindex, endpoint.mac);
    }

    /// Its packets go by the answer to `journey`.
    #[inline(always)]
    pub(super) fn takes(&mut self, journey: &Journey, generation: u16) {
        self.out_ifindex = journey.ifindex;
        self.hop = journey.next_hop;
        self.mtu = u16::try_from(journey.mtu).unwrap_or(u16::MAX);
        self.generation = generation;
    }

    /// Its packets go to `endpoint`.
    #[inline(always)]
    fn enters(&mut self, endpoint: &Endpoint) {
        self.out_ifindex = endpoint.ifindex;
        self.hop = Self::hop_from_macs(endpoint.mac, endpoint.gateway_mac);
        self.flags |= Self::LOCAL;
    }
}

/// Claims a port by inserting the reply's entry where none is, then the
/// original's. Uniqueness is per 5-tuple: a port serves many destinations.
/// Undecided: the flow is open.
#[inline(never)]
pub(super) fn claim<W: World>(world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, draft, .. } = scratch;
    let Some(config) = world.config() else {
        return Verdict::drop(DropReason::NotConfigured);
    };
    let hash = headers.key.hash(config.seed);
    let now = world.now();
    (draft.original.last_seen, draft.reply.last_seen) = (now, now);
    draft.original.packets = 1;
    draft.original.bytes = ETHERNET_LEN as u64 + u64::from(headers.ip.total_len.to_host());
    draft.reply_key = nat::twin_key(&headers.key, &draft.original);
    let check_reserved = headers.key.proto != PROTO_ICMP;
    if draft.search == 0 && attempt(world, scratch) {
        return Verdict::UNDECIDED;
    }
    let mut n = 0;
    while n < PROBES {
        let port = nat::snat_port(&config, hash, n);
        n += 1;
        if port == 0 || check_reserved && world.is_reserved_port(port) {
            continue;
        }
        // Only the source port makes the attempts differ.
        scratch.draft.original.sport = Be16::from_host(port);
        scratch.draft.reply_key.dport = Be16::from_host(port);
        if attempt(world, scratch) {
            return Verdict::UNDECIDED;
        }
    }
    Verdict::drop(DropReason::PortsExhausted)
}

/// Puts the draft into `EMBRYONIC`; `false`: its reply tuple is another's.
#[inline(never)]
fn attempt<W: World>(world: &mut W, scratch: &mut Scratch) -> bool {
    let Scratch { headers, draft, .. } = scratch;
    if world.claim_embryo(&draft.reply_key, &draft.reply) {
        // Another flow may have moved to FLOWS a moment ago.
        if world.flow(&draft.reply_key).is_some() {
            world.remove_embryo(&draft.reply_key);
            return false;
        }
    } else if !is_ours(world, headers, draft) {
        return false;
    }
    world.put_embryo(&headers.key, &draft.original);
    true
}

/// Whether the reply's entry is this flow's own, whose original's entry the
/// LRU has let go of.
#[inline(always)]
fn is_ours<W: World>(world: &mut W, headers: &Headers, draft: &Draft) -> bool {
    world
        .embryo(&draft.reply_key)
        .is_some_and(|reply| nat::is_twin(&draft.reply_key, reply, &headers.key))
}
