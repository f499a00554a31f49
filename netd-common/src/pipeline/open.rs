//! The first packet of a flow: what it becomes, and the claim of its tuple.
//! Each function leaves the new flow in `EMBRYONIC`, for
//! [`super::flow::opened`] to send its first packet by.

use crate::{
    abi::{
        Address, Config, Endpoint, Flow, FlowKey, Network, PortKey, PortTarget,
        wire::{ETHERNET_LEN, PROTO_ICMP, PROTO_TCP, TCP_ACK, TCP_RST, TCP_SYN},
    },
    conntrack::State,
    nat,
    packet::{Headers, Kind},
    tables::{Journey, Route, World},
    verdict::{DropReason, Verdict},
};

/// Ports tried before a flow is given up.
const PROBES: u32 = 32;

/// Where the search for the source port begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourcePort {
    /// The packet's own, then SNAT's.
    Keep,
    /// One of SNAT's, out of the way of every host socket.
    Search,
}

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
/// unless its network does not masquerade.
#[inline(never)]
pub(super) fn outbound<W: World>(
    world: &mut W,
    headers: &Headers,
    endpoint: &Endpoint,
    network: &Network,
) -> Result<(), Verdict> {
    openable(headers).map_err(Verdict::Drop)?;
    let key = &headers.key;
    let journey =
        Journey { from: network.bridge_ifindex, src: key.src, dst: key.dst, proto: key.proto };
    let Route::Via { ifindex, next_hop, mtu, source } = world.route(&journey) else {
        return Err(Verdict::Pass);
    };
    let uplink = world.uplink(ifindex).ok_or(Verdict::Drop(DropReason::NoUplink))?;
    let mut original = Flow { out_ifindex: ifindex, hop: next_hop, mtu, ..from(endpoint, key) };
    let mut reply = Flow {
        addr: key.src,
        flags: Flow::LOCAL,
        sport: key.dport,
        dport: key.sport,
        ..to(endpoint)
    };
    let mut ports = SourcePort::Keep;
    if network.flags & Network::MASQUERADE != 0 {
        original.addr = if source == Address::ANY { uplink.addr4 } else { source };
        if original.addr == Address::ANY {
            return Err(Verdict::Drop(DropReason::NoUplink));
        }
        original.flags |= Flow::REWRITE_SRC;
        reply.flags |= Flow::REWRITE_DST;
        ports = SourcePort::Search;
    }
    claim(world, headers, &mut original, &mut reply, ports).map_err(Verdict::Drop)
}

/// The published port that a packet to a host address asks for, if any.
#[inline(always)]
pub(super) fn published<W: World>(world: &W, headers: &Headers) -> Option<PortTarget> {
    if headers.kind != Kind::Flow || headers.key.proto == PROTO_ICMP {
        return None;
    }
    let key = &headers.key;
    let exact = PortKey { addr: key.dst, port: key.dport, proto: key.proto, pad: 0 };
    if let Some(target) = world.port(&exact) {
        return Some(target);
    }
    let any = PortKey { addr: Address::ANY, ..exact };
    world.port(&any).filter(|_| world.is_host_address(&key.dst))
}

/// Whether a packet may open a flow to a published port: the stack answers
/// what comes in the middle of a connection that nobody knows.
#[inline(always)]
pub(super) fn opens(headers: &Headers) -> bool {
    headers.key.proto != PROTO_TCP
        || headers.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
}

/// From outside to a published port: the client's address is kept.
#[inline(never)]
pub(super) fn inbound<W: World>(
    world: &mut W,
    headers: &Headers,
    target: &PortTarget,
) -> Result<(), DropReason> {
    let key = &headers.key;
    let endpoint = *world.endpoint(&target.addr).ok_or(DropReason::NoEndpoint)?;
    let mut original = Flow {
        addr: target.addr,
        flags: Flow::ORIGINAL | Flow::REWRITE_DST | Flow::LOCAL,
        sport: key.sport,
        dport: target.port,
        ..to(&endpoint)
    };
    // The way back is looked up when the first reply takes it.
    let stale = world.config().ok_or(DropReason::NotConfigured)?.route_generation.wrapping_sub(1);
    let mut reply = Flow {
        addr: key.dst,
        flags: Flow::REWRITE_SRC,
        sport: key.dport,
        dport: key.sport,
        generation: stale,
        ..from(&endpoint, key)
    };
    reply.flags &= !Flow::ORIGINAL;
    claim(world, headers, &mut original, &mut reply, SourcePort::Keep)
}

/// From a container to a published port of its host: the client's address is
/// kept, except towards itself.
#[inline(never)]
pub(super) fn hairpin<W: World>(
    world: &mut W,
    headers: &Headers,
    client: &Endpoint,
    target: &PortTarget,
) -> Result<(), DropReason> {
    let key = &headers.key;
    let server = *world.endpoint(&target.addr).ok_or(DropReason::NoEndpoint)?;
    let network = world.network(server.network).ok_or(DropReason::NoEndpoint)?;
    if network.flags & Network::INTERNAL != 0 {
        return Err(DropReason::Internal);
    }
    let mut original = Flow {
        addr: target.addr,
        flags: Flow::ORIGINAL | Flow::REWRITE_DST | Flow::LOCAL,
        sport: key.sport,
        dport: target.port,
        ..between(client, &server)
    };
    let mut reply = Flow {
        addr: key.dst,
        flags: Flow::REWRITE_SRC | Flow::LOCAL,
        sport: key.dport,
        dport: key.sport,
        ..between(&server, client)
    };
    let mut ports = SourcePort::Keep;
    if target.addr == key.src {
        original.addr = network.gateway;
        original.flags |= Flow::REWRITE_SRC | Flow::TO_SELF;
        reply.flags |= Flow::REWRITE_DST | Flow::TO_SELF;
    } else if client.network == server.network {
        // The same two also talk without translation and without a flow; a
        // port no socket of theirs would pick keeps the two apart.
        ports = SourcePort::Search;
    }
    claim(world, headers, &mut original, &mut reply, ports)
}

/// Of a flow whose packets come from `endpoint`.
#[inline(always)]
fn from(endpoint: &Endpoint, key: &FlowKey) -> Flow {
    Flow {
        in_ifindex: endpoint.ifindex,
        in_mac: endpoint.mac,
        sport: key.sport,
        dport: key.dport,
        flags: Flow::ORIGINAL,
        ..Flow::default()
    }
}

/// Of a flow whose packets go to `endpoint`.
#[inline(always)]
fn to(endpoint: &Endpoint) -> Flow {
    Flow {
        out_ifindex: endpoint.ifindex,
        hop: Flow::hop_from_macs(endpoint.mac, endpoint.gateway_mac),
        ..Flow::default()
    }
}

#[inline(always)]
fn between(sender: &Endpoint, receiver: &Endpoint) -> Flow {
    Flow { in_ifindex: sender.ifindex, in_mac: sender.mac, ..to(receiver) }
}

/// Claims a port by inserting the reply's entry where none is, then the
/// original's. Uniqueness is per 5-tuple: a port serves many destinations.
#[inline(always)]
fn claim<W: World>(
    world: &mut W,
    headers: &Headers,
    original: &mut Flow,
    reply: &mut Flow,
    ports: SourcePort,
) -> Result<(), DropReason> {
    let key = &headers.key;
    let config: Config = world.config().ok_or(DropReason::NotConfigured)?;
    let hash = key.hash(config.seed);
    let now = world.now();
    for flow in [&mut *original, &mut *reply] {
        flow.state = State::New as u8;
        flow.last_seen = now;
    }
    if !original.has(Flow::LOCAL) {
        original.generation = config.route_generation;
    }
    original.packets = 1;
    original.bytes = ETHERNET_LEN as u64 + u64::from(headers.ip.total_len.to_host());
    let mut n = 0;
    while n < PROBES {
        if n > 0 || ports == SourcePort::Search {
            let port = nat::snat_port(&config, hash, n).ok_or(DropReason::PortsExhausted)?;
            if key.proto != PROTO_ICMP && world.is_reserved_port(port) {
                n += 1;
                continue;
            }
            original.sport = crate::abi::Be16::from_host(port);
        }
        n += 1;
        let reply_key = nat::twin_key(key, original);
        if world.claim_embryo(&reply_key, reply) {
            // Another flow may have moved to FLOWS a moment ago.
            if world.flow(&reply_key).is_some() {
                world.remove_embryo(&reply_key);
                continue;
            }
            world.put_embryo(key, original);
            return Ok(());
        }
        // Our own claim, whose original the LRU let go of?
        if let Some(existing) = world.embryo(&reply_key)
            && nat::twin_key(&reply_key, existing) == *key
        {
            world.put_embryo(key, original);
            return Ok(());
        }
    }
    Err(DropReason::PortsExhausted)
}
