//! The kernel's share of a plan's ops: bridges, sandboxes, links, host ports
//! and run directories. The datapath's share (`Network`, `Programs`, `Lease`,
//! `AllowList`, `Port`, `PortSources`) is not known here; the agent's effects send each op its way.

use std::{collections::HashMap, fs, io, path::Path};

use super::{
    Error, HostPorts, Netlink,
    annex::Annex,
    hostport::HostPort,
    link::{self, Bridge, Veth},
    netns::{self, Interface},
};
use crate::{
    controller::{Action, Op},
    executor::{EffectError, Effects},
    model::IfName,
    paths,
};

#[derive(Debug)]
pub struct KernelEffects {
    pub netlink: Netlink,
    pub ports: HostPorts,
    /// The numbers of links that were lost, by name: those that are made in
    /// their place get them, so that whoever knows the numbers is right again.
    pub lost: HashMap<IfName, u32>,
}

impl KernelEffects {
    /// For the namespace of the calling thread, on a tokio runtime.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { netlink: Netlink::open()?, ports: HostPorts::default(), lost: HashMap::new() })
    }

    /// Whether an op is the kernel's; the others are the datapath's.
    pub fn handles(op: &Op) -> bool {
        match op {
            Op::Bridge { .. }
            | Op::Annex { .. }
            | Op::Sandbox { .. }
            | Op::Veth { .. }
            | Op::BridgeMtu { .. }
            | Op::VethMtu { .. }
            | Op::Interface { .. }
            | Op::HostPort { .. }
            | Op::RunDir { .. } => true,
            Op::Network { .. }
            | Op::Programs { .. }
            | Op::Lease { .. }
            | Op::AllowList { .. }
            | Op::Port { .. }
            | Op::PortSources { .. } => false,
        }
    }

    fn lost_index(&self, name: &IfName) -> u32 {
        self.lost.get(name).copied().unwrap_or_default()
    }

    async fn perform(&mut self, action: Action, op: &Op) -> Result<(), Error> {
        match op {
            Op::Bridge { name, mac, mtu, addresses } => {
                let index = self.lost_index(name);
                let bridge = Bridge { name, mac: *mac, mtu: *mtu, addresses, index };
                match action {
                    Action::Apply => bridge.create(&self.netlink).await,
                    Action::Revert => bridge.delete(&self.netlink).await,
                }
            }
            Op::Annex { bridge, name, mac, near, far } => {
                let annex = Annex { bridge, name, mac: *mac, near, far };
                match action {
                    Action::Apply => annex.create(&self.netlink).await,
                    Action::Revert => annex.delete(&self.netlink).await,
                }
            }
            Op::Veth { endpoint, host, peer, netns, mac, mtu, bridge } => {
                let veth = Veth {
                    endpoint,
                    host,
                    peer,
                    netns: netns.as_deref(),
                    mac: *mac,
                    mtu: *mtu,
                    bridge,
                    index: self.lost_index(host),
                };
                match action {
                    Action::Apply => veth.create(&self.netlink).await,
                    Action::Revert => veth.delete(&self.netlink).await,
                }
            }
            Op::Interface { netns, name, mac, addresses, gateways } => {
                let interface = Interface { netns, name, mac: *mac, addresses, gateways };
                match action {
                    Action::Apply => {
                        if let Some(host) = interface.create().await? {
                            self.netlink.wait_until_operational(host).await;
                        }
                        Ok(())
                    }
                    Action::Revert => interface.delete().await,
                }
            }
            Op::BridgeMtu { name, mac, old, new } => {
                let (_, mtu) = from_to(action, *old, *new);
                link::set_bridge_mtu(&self.netlink, name, *mac, mtu).await
            }
            Op::VethMtu { endpoint, host, netns, mac, old, new } => {
                let (old, mtu) = from_to(action, *old, *new);
                let inside = netns::set_mtu(netns, *mac, mtu);
                let outside = link::set_veth_mtu(&self.netlink, endpoint, host, mtu);
                // Neither end is ever sent more than it takes.
                if mtu > old {
                    outside.await?;
                    inside.await
                } else {
                    inside.await?;
                    outside.await
                }
            }
            Op::Sandbox { path, .. } => match action {
                Action::Apply => netns::create(path).await,
                Action::Revert => netns::remove(path),
            },
            Op::HostPort { address, port, protocol } => {
                let at = HostPort { address: *address, port: *port, protocol: *protocol };
                match action {
                    Action::Apply => self.ports.reserve(at)?,
                    Action::Revert => self.ports.release(at),
                }
                Ok(())
            }
            Op::RunDir { path } => match action {
                Action::Apply => create_run_dir(path),
                Action::Revert => remove_run_dir(path),
            },
            Op::Network { .. }
            | Op::Programs { .. }
            | Op::Lease { .. }
            | Op::AllowList { .. }
            | Op::Port { .. }
            | Op::PortSources { .. } => Err(Error::NotTheKernels),
        }
    }
}

impl Effects for KernelEffects {
    async fn apply(&mut self, op: &Op) -> Result<(), EffectError> {
        Ok(self.perform(Action::Apply, op).await?)
    }

    async fn revert(&mut self, op: &Op) -> Result<(), EffectError> {
        Ok(self.perform(Action::Revert, op).await?)
    }
}

impl From<Error> for EffectError {
    fn from(error: Error) -> Self {
        let hint = error.hint();
        let refused = match &error {
            Error::Port(error) => error.refused(),
            _ => None,
        };
        let error = Self::new(error).with_hint(hint);
        match refused {
            Some(at) => error.with_refused_port(at.protocol, at.port),
            None => error,
        }
    }
}

/// An update's way, there or back.
fn from_to(action: Action, old: u32, new: u32) -> (u32, u32) {
    match action {
        Action::Apply => (old, new),
        Action::Revert => (new, old),
    }
}

fn create_run_dir(path: &Path) -> Result<(), Error> {
    paths::create_private(path)
        .map_err(|error| Error::CreateRunDir { path: path.to_owned(), source: error.source })
}

fn remove_run_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::RemoveRunDir { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
