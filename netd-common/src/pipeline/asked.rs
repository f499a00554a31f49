//! The published port that a packet asks for, and whether it is admitted.

use super::published;
use crate::{
    abi::{
        PortKey, PortTarget,
        wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, TCP_ACK, TCP_RST, TCP_SYN},
    },
    packet::{Headers, Kind},
    tables::World,
    verdict::DropReason,
};

/// The published port that a packet asks for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Asked {
    port: PortKey,
    pub(super) target: PortTarget,
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

/// Whether a packet of no answered flow is for the host itself and asks for
/// nothing of netd's, as far as that can be told quickly.
#[inline(always)]
pub(super) fn is_for_host<W: World>(world: &mut W, headers: &Headers) -> bool {
    let key = &headers.key;
    key.is_tcp_or_udp()
        && !world.is_reserved_port(key.dport.to_host())
        && world.is_host_address(&key.dst)
        && world.embryo(key).is_none()
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
