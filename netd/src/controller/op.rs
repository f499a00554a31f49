//! Plans: what the executor does, step by step.

use std::{net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Change;
use crate::model::{Id, IfName, Mac, Protocol};

/// One thing in the kernel or in a map. Each can be applied and reverted, and
/// both are idempotent: applying what is there already, or reverting what is
/// gone, succeeds. A removal is the reverse of the plan that created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A bridge, up, with its addresses, its own forwarding on; IPv6 off
    /// unless one of them is of it.
    Bridge { name: IfName, mac: Mac, mtu: u32, addresses: Vec<IpNetwork> },
    /// One family of the network in the datapath: in `NETWORKS`, its subnet in
    /// `SUBNETS`, and the program at the bridge, which both families share.
    Network {
        index: u32,
        bridge: IfName,
        subnet: IpNetwork,
        gateway: IpAddr,
        flags: u32,
        /// What masqueraded packets go out with; `None`: their route's.
        #[serde(default)]
        source: Option<IpAddr>,
    },
    /// A network namespace bound to `path`, `lo` up with both its addresses.
    Sandbox { id: Id, path: PathBuf },
    /// A veth pair: `host` up and in `bridge`; `peer` down, with the
    /// container's MAC, made in `netns` right away: moving a link to another
    /// namespace costs ten times what all else of an attachment does. `None`:
    /// in the host's, for a runtime that moves it itself.
    Veth {
        endpoint: Id,
        host: IfName,
        peer: IfName,
        netns: Option<PathBuf>,
        mac: Mac,
        mtu: u32,
        bridge: IfName,
    },
    /// A further bridge of a network (`model::network::annex`), up, and the
    /// pair of links by which it is a part of `bridge`: `near` in that one,
    /// `far` in it. Their MTU is the largest: who sends keeps the network's.
    Annex { bridge: IfName, name: IfName, mac: Mac, near: IfName, far: IfName },
    /// A bridge's MTU, of a network that lives on. Reverting sets the old one.
    BridgeMtu { name: IfName, mac: Mac, old: u32, new: u32 },
    /// That of both ends of a veth pair, likewise. An end that is gone has none.
    VethMtu {
        endpoint: Id,
        host: IfName,
        /// Where the peer is, whatever it is called there.
        netns: PathBuf,
        /// The peer's.
        mac: Mac,
        old: u32,
        new: u32,
    },
    /// The datapath's programs on `host`.
    Programs { host: IfName },
    /// The lease, as the datapath reads it: `ENDPOINTS` by each address, and
    /// `LINKS` by the host side, with IPv6 where one of them is of it.
    /// Reverting also ends the flows of the addresses.
    Lease {
        addresses: Vec<IpAddr>,
        host: IfName,
        network: u32,
        mac: Mac,
        gateway_mac: Mac,
        flags: u32,
        /// Answered flows that the container may have; 0: any number.
        #[serde(default)]
        max_flows: u32,
    },
    /// The veth `name` in `netns`: addressed, up, and routed; IPv6 off unless
    /// one of the addresses is of it.
    Interface {
        netns: PathBuf,
        name: IfName,
        mac: Mac,
        addresses: Vec<IpNetwork>,
        /// The default routes, by their gateways' families.
        gateways: Vec<IpAddr>,
    },
    /// A host port held by a socket, so that no one else takes it.
    HostPort { address: IpAddr, port: u16, protocol: Protocol },
    /// The sources of a published port in `ALLOW`: there before the port is,
    /// and after it is gone.
    AllowList { list: u32, from: Vec<IpNetwork> },
    /// A published port in `PORTS`. Reverting also ends its flows.
    Port {
        host_address: IpAddr,
        host_port: u16,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
        /// An [`Op::AllowList`]'s; 0: everyone may come in.
        #[serde(default)]
        allow: u32,
        /// SYNs in a second; 0: any number.
        #[serde(default)]
        syn_rate: u32,
    },
    /// Other sources for a port that is published, `address` its container's:
    /// one write, so that at no moment it is open to others than those of
    /// either list. Ends the flows of sources that are out. Reverting puts the
    /// old list back.
    PortSources {
        host_address: IpAddr,
        host_port: u16,
        protocol: Protocol,
        address: IpAddr,
        old: Sources,
        new: Sources,
    },
    /// A container's run directory and logs.
    RunDir { path: PathBuf },
}

/// Who may come in by a published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// An [`Op::AllowList`]'s; 0: everyone.
    pub list: u32,
    pub from: Vec<IpNetwork>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Apply,
    Revert,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub action: Action,
    pub op: Op,
}

/// Steps in order, then the changes of state to commit. When a step fails,
/// the steps before it are undone in reverse and nothing is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub changes: Vec<Change>,
}

impl Plan {
    pub fn apply(&mut self, op: Op) {
        self.steps.push(Step { action: Action::Apply, op });
    }

    pub fn revert(&mut self, op: Op) {
        self.steps.push(Step { action: Action::Revert, op });
    }

    /// Applies the ops in their order.
    pub fn apply_all(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.apply(op);
        }
    }

    /// Undoes what [`Plan::apply_all`] does with the same ops.
    pub fn revert_all(&mut self, mut ops: Vec<Op>) {
        ops.reverse();
        for op in ops {
            self.revert(op);
        }
    }
}
