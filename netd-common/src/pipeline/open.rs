//! The first packet of a flow: what it becomes, and the claim of its tuple.
//!
//! [`outbound`], [`inbound`], [`straight`], [`across`] and [`hairpin`] draft the
//! flow, [`claim`] puts it into `EMBRYONIC`, and [`super::flow::finish`] sends its first packet.

use super::{Scratch, published};
use crate::{
    abi::{
        Address, Be16, Endpoint, Family, Flow, FlowKey, Network, PortKey, PortTarget, Uplink,
        wire::{
            ETHERNET_LEN, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_RST, TCP_SYN,
        },
    },
    nat,
    packet::{Headers, Kind},
    tables::{Journey, Turn, World},
    verdict::{DropReason, Verdict},
};

/// Ports tried before a flow is given up: with 95 of 100 taken, one search in
/// half a million fails.
const PROBES: u32 = 256;

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

/// A container's packet to the outside: takes a host address as its source,
/// unless its network does not masquerade. Undecided: the draft is ready.
#[inline(never)]
pub(super) fn outbound<W: World>(world: &mut W, scratch: &mut Scratch, index: u32) -> Verdict {
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
    let Some(sender) = world.endpoint(&key.src) else {
        return Verdict::drop(DropReason::SpoofedAddress);
    };
    draft.begin(key, key.dport);
    draft.original.leaves(sender);
    draft.reply.enters(sender);
    draft.original.takes(journey, world.route_generation());
    if network.flags & Network::MASQUERADE != 0 {
        draft.original.addr = source(network, journey, &uplink, headers.family);
        if draft.original.addr == Address::ANY {
            return Verdict::drop(DropReason::NoUplink);
        }
        draft.original.flags |= Flow::REWRITE_SRC;
        draft.reply.addr = key.src;
        draft.reply.flags |= Flow::REWRITE_DST;
        draft.port = Port::OfSnat as u64;
    }
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

/// The published port that a packet asks for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Asked {
    port: PortKey,
    target: PortTarget,
}

impl Asked {
    /// The rate of SYNs is limited.
    pub(super) const fn is_rated(&self) -> bool {
        self.target.syn_rate != 0
    }
}

/// Finds the published port that a packet asks for; `false`: it asks for none.
#[inline(never)]
pub(super) fn asks<W: World>(world: &W, headers: &Headers, asked: &mut Asked) -> bool {
    let key = &headers.key;
    if headers.kind != Kind::Flow || matches!(key.proto, PROTO_ICMP | PROTO_ICMPV6) {
        return false;
    }
    let Some((port, target)) = published::find(world, key.proto, &key.dst, key.dport) else {
        return false;
    };
    (asked.port, asked.target) = (port, target);
    true
}

/// The policy of a network; `false`: there is none.
#[inline(never)]
pub(super) fn policy<W: World>(
    world: &W,
    index: u32,
    family: Family,
    network: &mut Network,
) -> bool {
    let Some(found) = world.network(index, family) else { return false };
    *network = found;
    true
}

/// Whether a fragment of a broken datagram would have been netd's to carry.
#[inline(never)]
pub(super) fn concerns<W: World>(world: &mut W, scratch: &mut Scratch) -> bool {
    let Scratch { headers, asked, .. } = scratch;
    headers.kind == Kind::Flow
        && (world.any_flow(&headers.key).is_some_and(|flow| !flow.has(Flow::HOST))
            || asks(world, headers, asked))
}

/// Keeps the tuple of what the host gets by a protocol whose sockets can't be
/// looked up (tunnels, echoes, SCTP): a container that comes later must not
/// take it over.
#[inline(never)]
pub(super) fn keep_for_host<W: World>(world: &mut W, headers: &Headers) {
    let key = &headers.key;
    let asked = matches!(key.proto, PROTO_ICMP | PROTO_ICMPV6) && headers.may_open();
    if headers.kind != Kind::Flow || matches!(key.proto, PROTO_TCP | PROTO_UDP) || asked {
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

/// Whose a packet to a published port is, when it is welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It opens a flow.
    Opens,
    /// The stack answers what comes in the middle of a connection that nobody
    /// knows.
    IsTheStacks,
}

/// Whether a SYN has been counted towards its port's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    No,
    ByXdp,
}

/// Allow-list and SYN rate of a published port.
#[inline(always)]
pub(super) fn admit<W: World>(
    world: &mut W,
    headers: &Headers,
    asked: &Asked,
    counted: Counted,
) -> Result<Admission, DropReason> {
    let Asked { port, target } = asked;
    if !published::admits(world, target, &headers.key.src) {
        return Err(DropReason::NotAllowed);
    }
    if headers.key.proto != PROTO_TCP {
        return Ok(Admission::Opens);
    }
    if headers.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) != TCP_SYN {
        return Ok(Admission::IsTheStacks);
    }
    if counted == Counted::No {
        let now = world.now();
        published::count_syn(world, port, target, now)?;
    }
    Ok(Admission::Opens)
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
    // The way back is looked up when the first reply takes it.
    draft.reply.generation = world.route_generation().wrapping_sub(1);
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
    draft.reply.generation = world.route_generation().wrapping_sub(1);
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

/// A flow in the making, both directions of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Draft {
    original: Flow,
    reply: Flow,
    reply_key: FlowKey,
    /// Of the network whose container answers.
    server: Network,
    /// A [`Port`].
    port: u64,
}

/// Where the search for a flow's source port begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Port {
    /// The packet's own, while no one has it.
    Own = 0,
    /// One of SNAT's, out of the way of every host socket.
    OfSnat = 1,
}

impl Draft {
    /// Of a packet of `key` whose destination port becomes `dport`.
    #[inline(always)]
    fn begin(&mut self, key: &FlowKey, dport: Be16) {
        self.original = Flow { flags: Flow::ORIGINAL, sport: key.sport, dport, ..Flow::default() };
        self.reply = Flow { sport: key.dport, dport: key.sport, ..Flow::default() };
        self.port = Port::Own as u64;
    }

    /// A container opens it.
    #[inline(always)]
    fn opened_by<W: World>(&mut self, world: &mut W, client: &Address) -> Result<(), DropReason> {
        let client = world.endpoint(client).ok_or(DropReason::SpoofedAddress)?;
        self.original.leaves(client);
        self.reply.enters(client);
        Ok(())
    }

    /// A container answers it; its network is the answer.
    #[inline(always)]
    fn answered_by<W: World>(
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
    fn publishes(&mut self, target: &PortTarget, key: &FlowKey) {
        self.original.addr = target.addr;
        self.original.flags |= Flow::REWRITE_DST;
        self.reply.addr = key.dst;
        self.reply.flags |= Flow::REWRITE_SRC;
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
    draft.original.bytes = ETHERNET_LEN as u64 + u64::from(headers.ip_len);
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
        let port = self.ports.nth(self.hash, n);
        let Scratch { headers, draft, .. } = &mut *self.scratch;
        // An echo's identifier is no port that anyone reserves.
        let numbered = matches!(headers.key.proto, PROTO_TCP | PROTO_UDP);
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
