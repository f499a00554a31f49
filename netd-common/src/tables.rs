//! What the pipeline asks of its surroundings besides the packet.

use crate::abi::{
    Address, Config, Endpoint, Family, Flow, FlowKey, Fragment, FragmentKey, Link, Network,
    PortKey, PortTarget, SocketKey, SocketPeer, SynRate, Uplink,
};

/// The maps. A reference is valid until the next call.
pub trait Tables {
    fn config(&self) -> Option<Config>;
    /// [`Config::route_generation`]; 0 without a configuration.
    fn route_generation(&self) -> u16;
    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow>;
    fn embryo(&mut self, key: &FlowKey) -> Option<&mut Flow>;
    /// The flow in `FLOWS`, or else in `EMBRYONIC`.
    fn any_flow(&mut self, key: &FlowKey) -> Option<&mut Flow>;
    /// Inserts only where nothing is; `false` otherwise.
    fn claim_embryo(&mut self, key: &FlowKey, flow: &Flow) -> bool;
    fn put_embryo(&mut self, key: &FlowKey, flow: &Flow);
    /// As [`Tables::claim_embryo`], for `FLOWS`, which may also be full.
    fn claim_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool;
    /// Whether `FLOWS` has room for one more direction, which `key` would be.
    fn has_room(&mut self, key: &FlowKey) -> bool;
    /// Whether the container behind a link has as many answered flows as it
    /// may.
    fn is_quota_used_up(&self, ifindex: u32) -> bool;
    /// Adds to the answered flows of the container behind a link.
    fn count_flow(&mut self, ifindex: u32, change: i64);
    fn remove_flow(&mut self, key: &FlowKey);
    fn remove_embryo(&mut self, key: &FlowKey);
    fn endpoint(&mut self, address: &Address) -> Option<&mut Endpoint>;
    /// The endpoint's side of a link.
    fn link(&self, ifindex: u32) -> Option<Link>;
    fn network(&self, index: u32, family: Family) -> Option<Network>;
    /// Whether what comes in by a link may reach a network's containers at
    /// their own addresses.
    fn is_trusted(&self, network: u32, ifindex: u32) -> bool;
    /// The network whose subnet holds `address`.
    fn subnet(&self, address: &Address) -> Option<u32>;
    fn is_host_address(&self, address: &Address) -> bool;
    fn port(&self, key: &PortKey) -> Option<PortTarget>;
    /// Whether an allow-list has `source` in it.
    fn is_allowed(&self, list: u32, source: &Address) -> bool;
    /// The rate of a port, made where there is none; `None`: there is no room.
    fn syn_rate(&mut self, key: &PortKey) -> Option<&mut SynRate>;
    fn fragment(&mut self, key: &FragmentKey) -> Option<&mut Fragment>;
    fn put_fragment(&mut self, key: &FragmentKey, fragment: &Fragment);
    fn remove_fragment(&mut self, key: &FragmentKey);
    /// What a socket of the host's asked for, by where it was sent to.
    fn peer(&self, key: &SocketKey) -> Option<SocketPeer>;
    fn put_peer(&mut self, key: &SocketKey, peer: &SocketPeer);
    fn uplink(&self, ifindex: u32) -> Option<Uplink>;
    /// Published, by whichever protocol and address; not to be used for SNAT.
    fn is_reserved_port(&self, port: u16) -> bool;
}

/// A packet's way: the question, and the host's answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Journey {
    pub src: Address,
    pub dst: Address,
    /// The link that the packet came in by.
    pub from: u32,
    /// IP protocol number.
    pub proto: u32,
    /// Whether `source` is wanted (0: no): for IPv6 the kernel then weighs every
    /// address that the host has.
    pub wants_source: u32,

    /// The link to leave by; 0: the stack's to decide (local, unreachable,
    /// prohibited, …).
    pub ifindex: u32,
    /// Bytes of IP; 0: not known.
    pub mtu: u32,
    /// A gateway, or the destination itself on-link.
    pub next_hop: Address,
    /// The route's preferred source; [`Address::ANY`] when not known, or
    /// not wanted.
    pub source: Address,
}

/// Time, and what the host's own stack knows.
pub trait Env {
    /// Seconds of `CLOCK_MONOTONIC`, up to a sixth of one late.
    fn now(&self) -> u32;
    /// Whether a socket of the host's would take a packet of `key` (as it
    /// arrives): a listener, or one that is connected.
    fn has_socket(&self, key: &FlowKey) -> bool;
    /// Answers `journey`.
    fn route(&self, journey: &mut Journey);
}

/// One turn of a bounded search.
pub trait Turn<W> {
    /// `n` counts the turns from 0. `true`: the search is over.
    fn turn(&mut self, world: &mut W, n: u32) -> bool;
}

/// Loops that are longer than the verifier likes to walk.
pub trait Repeat: Sized {
    /// Takes turns until one ends the search, `times` at the most.
    fn repeat<T: Turn<Self>>(&mut self, times: u32, turn: &mut T);
}

/// Both, as one argument: a BPF function takes five.
pub trait World: Tables + Env + Repeat {}

impl<W: Tables + Env + Repeat> World for W {}
