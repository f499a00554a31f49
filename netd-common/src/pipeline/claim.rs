//! A flow in the making, and the claim of its tuple: [`claim`] puts both of its
//! directions into `EMBRYONIC`, each under a key that no other flow has, or in the
//! place of a flow of the same tuple that is over.

use super::{
    Scratch,
    flow::{self, Pair},
    policy,
    quota::{self, Parties},
};
use crate::{
    abi::{
        Address, Be16, Endpoint, Flow, FlowKey, Network, PortTarget,
        wire::{ETHERNET_LEN, PROTO_ICMP, PROTO_ICMPV6},
    },
    conntrack::State,
    nat,
    packet::{Headers, Kind},
    tables::{Journey, Turn, World},
    verdict::{DropReason, Verdict},
};

/// Ports tried before a flow is given up: with 95 of 100 taken, one search in
/// half a million fails.
const PROBES: u32 = 256;

/// A flow in the making, both directions of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Draft {
    pub(super) original: Flow,
    pub(super) reply: Flow,
    reply_key: FlowKey,
    /// Of the network whose container answers.
    pub(super) server: Network,
    /// A [`Port`].
    pub(super) port: u64,
}

/// Where the search for a flow's source port begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Port {
    /// The packet's own, while no one has it.
    Own = 0,
    /// One of SNAT's, out of the way of every host socket.
    OfSnat = 1,
}

impl Draft {
    /// Of a packet of `key` whose destination port becomes `dport`.
    #[inline(always)]
    pub(super) fn begin(&mut self, key: &FlowKey, dport: Be16) {
        self.original = Flow { flags: Flow::ORIGINAL, sport: key.sport, dport, ..Flow::default() };
        self.reply = Flow { sport: key.dport, dport: key.sport, ..Flow::default() };
        self.port = Port::Own as u64;
    }

    /// A container opens it.
    #[inline(always)]
    pub(super) fn opened_by<W: World>(
        &mut self,
        world: &mut W,
        client: &Address,
    ) -> Result<(), DropReason> {
        let client = world.endpoint(client).ok_or(DropReason::SpoofedAddress)?;
        self.original.leaves(client);
        self.reply.enters(client);
        Ok(())
    }

    /// A container answers it; its network is the answer.
    #[inline(always)]
    pub(super) fn answered_by<W: World>(
        &mut self,
        world: &mut W,
        server: &Address,
    ) -> Result<u32, DropReason> {
        let endpoint = world.endpoint(server).ok_or(DropReason::NoEndpoint)?;
        self.original.enters(endpoint);
        self.reply.leaves(endpoint);
        let index = endpoint.network;
        if !policy(world, index, server.family(), &mut self.server) {
            return Err(DropReason::NoEndpoint);
        }
        if self.server.flags & Network::INTERNAL != 0 {
            return Err(DropReason::Internal);
        }
        Ok(index)
    }

    /// It goes to a published port's container and not where it was sent.
    #[inline(always)]
    pub(super) fn publishes(&mut self, target: &PortTarget, key: &FlowKey) {
        self.original.addr = target.addr;
        self.original.flags |= Flow::REWRITE_DST;
        self.reply.addr = key.dst;
        self.reply.flags |= Flow::REWRITE_SRC;
    }
}

impl Flow {
    /// Its packets come from `endpoint`.
    #[inline(always)]
    pub(super) fn leaves(&mut self, endpoint: &Endpoint) {
        (self.in_ifindex, self.in_mac) = (endpoint.ifindex, endpoint.mac);
    }

    /// Its packets go by the answer to `journey`, from `src` once they are
    /// translated.
    #[inline(always)]
    pub(super) fn takes(&mut self, journey: &Journey, src: &Address, generation: u16) {
        self.out_ifindex = journey.ifindex;
        self.set_next_hop(&journey.next_hop, src, &journey.dst);
        self.set_path(u16::try_from(journey.mtu).unwrap_or(u16::MAX), generation);
    }

    /// Its way to an uplink is looked up when the first packet takes it.
    #[inline(always)]
    pub(super) fn has_no_way_yet(&mut self, generation: u16) {
        self.set_path(0, generation.wrapping_sub(1));
    }

    /// Its packets go to `endpoint`.
    #[inline(always)]
    pub(super) fn enters(&mut self, endpoint: &Endpoint) {
        self.out_ifindex = endpoint.ifindex;
        self.set_macs(endpoint.mac, endpoint.gateway_mac);
        self.flags |= Self::LOCAL;
    }
}

/// Claims a port by inserting the reply's entry where none is, then the
/// original's, unless the flow takes another's place. Uniqueness is per 5-tuple: a
/// port serves many destinations. Undecided: the flow is open.
#[inline(never)]
pub(super) fn claim<W: World>(world: &mut W, scratch: &mut Scratch) -> Verdict {
    let Scratch { headers, draft, pair, .. } = scratch;
    let Some(config) = world.config() else {
        return Verdict::drop(DropReason::NotConfigured);
    };
    let parties = Parties::of(&draft.original);
    let has_place = pair.is_replaced != 0 && Parties::of(&pair.own) == parties;
    if !has_place && quota::is_used_up(world, parties) {
        return Verdict::drop(DropReason::FlowQuota);
    }
    let hash = headers.key.hash(config.seed);
    let now = world.now();
    (draft.original.last_seen, draft.reply.last_seen) = (now, now);
    draft.original.count(ETHERNET_LEN as u64 + u64::from(headers.ip_len));
    draft.reply_key = nat::twin_key(&headers.key, &draft.original);
    let fixed = !nat::has_free_ports(headers.key.proto);
    if (fixed || draft.port == Port::Own as u64) && attempt(world, scratch) {
        return Verdict::UNDECIDED;
    }
    if fixed {
        return Verdict::drop(DropReason::TupleTaken);
    }
    let (low, high) = (config.snat_low, config.snat_high);
    let mut search = Search { scratch, ports: nat::Ports { low, high }, hash, found: false };
    world.repeat(PROBES, &mut search);
    if search.found { Verdict::UNDECIDED } else { Verdict::drop(DropReason::PortsExhausted) }
}

/// The search for a port that is free towards one destination.
struct Search<'a> {
    scratch: &'a mut Scratch,
    ports: nat::Ports,
    hash: u32,
    found: bool,
}

impl<W: World> Turn<W> for Search<'_> {
    #[inline(always)]
    fn turn(&mut self, world: &mut W, n: u32) -> bool {
        let Scratch { headers, draft, .. } = &mut *self.scratch;
        let port = self.ports.nth(self.hash, headers.key.sport.to_host(), n);
        // An echo's identifier is no port that anyone reserves.
        let numbered = headers.key.is_tcp_or_udp();
        if port == 0 || numbered && world.is_reserved_port(port) {
            return false;
        }
        // Only the source port makes the attempts differ.
        draft.original.sport = Be16::from_host(port);
        draft.reply_key.dport = Be16::from_host(port);
        let masquerades = !draft.original.has(Flow::LOCAL);
        if numbered && masquerades && world.has_socket(&draft.reply_key) {
            return false;
        }
        self.found = attempt(world, self.scratch);
        self.found
    }
}

/// Puts the draft into `EMBRYONIC`, or in the place of the flow that it
/// replaces; `false`: its reply tuple is another's.
#[inline(never)]
fn attempt<W: World>(world: &mut W, scratch: &mut Scratch) -> bool {
    let Scratch { headers, draft, pair, .. } = scratch;
    if pair.take_replaced() {
        if reopen(world, headers, draft, pair) {
            return true;
        }
        flow::end(world, headers, pair);
    }
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

/// Puts the draft in the place of a flow that has both its tuples and is over.
/// As that was a conversation, it has no need to prove itself in `EMBRYONIC`.
#[inline(always)]
fn reopen<W: World>(world: &mut W, headers: &Headers, draft: &mut Draft, pair: &Pair) -> bool {
    let key = &headers.key;
    if draft.reply_key != pair.twin_key || Parties::of(&draft.original) != Parties::of(&pair.own) {
        return false;
    }
    (draft.original.state, draft.reply.state) = (State::Reopened as u8, State::Reopened as u8);
    let reply = world.flow(&pair.twin_key);
    if let Some(reply) = reply.filter(|reply| nat::is_twin(&pair.twin_key, reply, key)) {
        *reply = draft.reply;
        if let Some(original) = world.flow(key) {
            *original = draft.original;
            return true;
        }
        // The agent has ended it a moment ago.
        world.remove_flow(&pair.twin_key);
    }
    (draft.original.state, draft.reply.state) = (State::New as u8, State::New as u8);
    false
}

/// Whether the reply's entry is this flow's own, whose original's entry the
/// LRU has let go of.
#[inline(always)]
fn is_ours<W: World>(world: &mut W, headers: &Headers, draft: &Draft) -> bool {
    world
        .embryo(&draft.reply_key)
        .is_some_and(|reply| nat::is_twin(&draft.reply_key, reply, &headers.key))
}

/// Keeps the tuple of what the host gets by a protocol whose sockets can't be
/// looked up (tunnels, echoes, SCTP): a container that comes later must not
/// take it over.
#[inline(never)]
pub(super) fn keep_for_host<W: World>(world: &mut W, headers: &Headers) {
    let key = &headers.key;
    let asked = matches!(key.proto, PROTO_ICMP | PROTO_ICMPV6) && headers.may_open();
    if headers.kind != Kind::Flow || key.is_tcp_or_udp() || asked {
        return;
    }
    let now = world.now();
    let own = Flow {
        flags: Flow::HOST,
        sport: key.sport,
        dport: key.dport,
        last_seen: now,
        ..Flow::default()
    };
    // One that is there already is a flow of some container's.
    let _ = world.claim_embryo(key, &own);
}
