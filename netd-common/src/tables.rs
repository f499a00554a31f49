//! What the pipeline asks of its surroundings besides the packet.

use crate::{
    abi::{Address, Config, Endpoint, Flow, FlowKey, Network, PortKey, PortTarget, Uplink},
    conntrack::State,
};

/// The maps. A reference is valid until the next call.
pub trait Tables {
    fn config(&self) -> Option<Config>;
    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow>;
    fn embryo(&mut self, key: &FlowKey) -> Option<&mut Flow>;
    /// Inserts only where nothing is; `false` otherwise.
    fn claim_embryo(&mut self, key: &FlowKey, flow: &Flow) -> bool;
    fn put_embryo(&mut self, key: &FlowKey, flow: &Flow);
    /// Copies an entry of `EMBRYONIC` to `FLOWS`, in `state`; `false` when it
    /// is gone, or `FLOWS` full.
    fn promote(&mut self, key: &FlowKey, state: State) -> bool;
    fn remove_flow(&mut self, key: &FlowKey);
    fn remove_embryo(&mut self, key: &FlowKey);
    fn endpoint(&mut self, address: &Address) -> Option<&mut Endpoint>;
    fn network(&self, index: u32) -> Option<Network>;
    /// The network whose subnet holds `address`.
    fn subnet(&self, address: &Address) -> Option<u32>;
    fn is_host_address(&self, address: &Address) -> bool;
    fn port(&self, key: &PortKey) -> Option<PortTarget>;
    fn uplink(&self, ifindex: u32) -> Option<Uplink>;
    /// Not to be used for SNAT: published, or held by a host socket.
    fn is_reserved_port(&self, port: u16) -> bool;
}

/// A packet whose route is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// The link it came in by.
    pub from: u32,
    pub src: Address,
    pub dst: Address,
    pub proto: u8,
}

/// Where the host would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Via {
        ifindex: u32,
        /// A gateway, or the destination itself on-link.
        next_hop: Address,
        /// Bytes of IP; 0: not known.
        mtu: u16,
        /// The route's preferred source; [`Address::ANY`] when not known.
        source: Address,
    },
    /// The stack's to decide: local, unreachable, prohibited, …
    Stack,
}

/// Time, chance and the host's routes.
pub trait Env {
    /// Seconds of `CLOCK_MONOTONIC`, coarse.
    fn now(&self) -> u32;
    fn random(&self) -> u32;
    fn route(&self, journey: &Journey) -> Route;
}

/// Both, as one argument: a BPF function takes five.
pub trait World: Tables + Env {}

impl<W: Tables + Env> World for W {}
