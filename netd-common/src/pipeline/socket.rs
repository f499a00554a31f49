//! Processes of the host at published ports. A socket that asks for one is
//! sent to the container itself, once, as it connects or sends without being
//! connected: from then on no packet needs a translation. Whoever asks for the
//! peer's name is told what was asked for.
//!
//! A call that can't lead to the container is left as it is, and ends where it
//! would without netd.

use super::published;
use crate::{
    abi::{Address, Be16, FlowKey, Network, SocketKey, SocketPeer},
    tables::{Tables, World},
    verdict::{DropReason, Verdict},
};

/// A process's call that names an address, or is told one.
pub trait SocketCall {
    /// Cookie of the socket's network namespace.
    fn netns(&self) -> u64;
    /// The socket's own, never another's.
    fn cookie(&self) -> u64;
    /// IP protocol number; 0 for what is none.
    fn proto(&self) -> u8;
    /// The address and port of the call.
    fn peer(&self) -> (Address, Be16);
    fn set_peer(&mut self, addr: &Address, port: Be16);
    /// The address that the socket sends from; [`Address::ANY`] while the
    /// kernel is free to choose.
    fn source(&self) -> Address;
    /// Bound to an interface.
    fn is_bound_to_link(&self) -> bool;
}

/// `connect(2)`, of TCP and of UDP.
#[inline(always)]
pub fn connect<C: SocketCall, W: World>(call: &mut C, world: &mut W) -> Verdict {
    redirect(call, world, Reach::BothFamilies)
}

/// A datagram of a socket that is not connected.
#[inline(always)]
pub fn send<C: SocketCall, W: World>(call: &mut C, world: &mut W) -> Verdict {
    // Linux refuses an IPv4 address in place of an IPv6 one here
    // (net/ipv6/udp.c, `udpv6_sendmsg`).
    redirect(call, world, Reach::OwnFamily)
}

/// `getpeername(2)`, and the sender of a datagram that was received.
#[inline(always)]
pub fn restore<C: SocketCall, T: Tables>(call: &mut C, tables: &T) {
    if !is_the_hosts(call, tables) {
        return;
    }
    let (addr, port) = call.peer();
    if let Some(peer) = tables.peer(&key(call.cookie(), addr, port)) {
        call.set_peer(&peer.addr, peer.port);
    }
}

/// Which containers a call can be sent to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    OwnFamily,
    /// From `::1` also to one that has IPv4 alone.
    BothFamilies,
}

#[inline(always)]
fn redirect<C: SocketCall, W: World>(call: &mut C, world: &mut W, reach: Reach) -> Verdict {
    if !is_the_hosts(call, world) {
        return Verdict::PASS;
    }
    let (addr, port) = call.peer();
    let proto = call.proto();
    let found = published::find_locally(world, proto, &addr, port);
    let target = match found {
        Some((_, target)) => target,
        None if reach == Reach::BothFamilies && addr == Address::LOOPBACK6 => {
            let Some(target) = world.port(&published::by_loopback6(proto, port)) else {
                return Verdict::PASS;
            };
            // A port of IPv4 leaves the one of IPv6 to others.
            let local = FlowKey { src: addr, dst: addr, dport: port, proto, ..FlowKey::default() };
            if world.has_socket(&local) {
                return Verdict::PASS;
            }
            target
        }
        None => return Verdict::PASS,
    };
    let source = call.source();
    // A container's own address, on a routed network, needs no help.
    if target.addr == addr || call.is_bound_to_link() || !reaches(&source, &target.addr) {
        return Verdict::PASS;
    }
    if !has_host(world, &target.addr) {
        return Verdict::PASS;
    }
    // What the kernel takes as the source of a call to itself.
    let source = if source == Address::ANY { addr } else { source };
    if !published::admits(world, &target, &source) {
        return Verdict::drop(DropReason::NotAllowed);
    }
    let asked = SocketPeer { addr, source, port, proto, pad: 0 };
    world.put_peer(&key(call.cookie(), target.addr, target.port), &asked);
    call.set_peer(&target.addr, target.port);
    Verdict::TRANSLATED
}

/// Whether a socket that is bound to `source` can reach a container: not from
/// a loopback address, nor from one of the other family.
#[inline(always)]
fn reaches(source: &Address, container: &Address) -> bool {
    *source == Address::ANY || !source.is_loopback() && source.family() == container.family()
}

/// Whether the host is a member of the container's network: it has no route to
/// the others.
#[inline(always)]
fn has_host<W: World>(world: &mut W, container: &Address) -> bool {
    let Some(index) = world.endpoint(container).map(|endpoint| endpoint.network) else {
        return false;
    };
    let network = world.network(index, container.family());
    network.is_some_and(|it| it.flags & (Network::ISOLATED | Network::INHIBITED) == 0)
}

#[inline(always)]
fn is_the_hosts<C: SocketCall, T: Tables>(call: &C, tables: &T) -> bool {
    // 0, the agent does not know its own, is nobody's cookie.
    tables.config().is_some_and(|config| config.netns_cookie == call.netns())
}

#[inline(always)]
fn key(cookie: u64, addr: Address, port: Be16) -> SocketKey {
    SocketKey { cookie, addr, port, pad: 0, pad2: 0 }
}
