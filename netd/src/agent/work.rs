//! The one [`Effects`]: kernel and datapath together, each doing its own ops.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use netd_common::abi::{self, Address, Be16, PortKey, PortTarget};
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Duration, Instant};

use super::{
    faults::{Crash, Of},
    metrics::Swept,
    over::Over,
    reaper::Reaper,
};
use crate::{
    controller::{Op, Plan, Sources},
    datapath::{self, Datapath, Settled},
    executor::{self, EffectError, Effects, ExecError, StepError},
    kernel::KernelEffects,
    model::{IfName, Mac, Protocol},
};

/// After the last attachment, until links are settled: who starts containers
/// goes before.
const QUIET: Duration = Duration::from_secs(1);
/// However many are started.
const AT_LAST: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// While there are requests: pauses between links, by the time that a link takes.
const PAUSES: u32 = 5;

#[derive(Debug)]
pub(super) struct Work {
    pub(super) kernel: KernelEffects,
    pub(super) datapath: Datapath,
    over: Over,
    pub(super) reaper: Reaper,
    crash: Crash,
    /// When programs were last put on a link, or one was not to be settled.
    attached: Instant,
    /// Since when there are links that are not settled.
    unsettled: Instant,
    /// Until when no link is settled, for requests to be answered.
    pause: Instant,
    /// Whether there have been requests since a link was settled.
    asked: bool,
    /// What is being done with a plan of the journal.
    journalled: Option<Of>,
}

impl Work {
    pub(super) fn new(kernel: KernelEffects, datapath: Datapath, swept: Arc<Swept>) -> Self {
        let reaper = Reaper::start(&datapath, swept);
        Self {
            kernel,
            datapath,
            over: Over::default(),
            reaper,
            crash: Crash::from_environment(),
            attached: Instant::now(),
            unsettled: Instant::now(),
            pause: Instant::now(),
            asked: false,
            journalled: None,
        }
    }

    pub(super) async fn run(&mut self, plan: &Plan) -> Result<(), ExecError> {
        self.journalled = Some(Of::Plan);
        self.crash.point(Of::Plan);
        let result = executor::run(self, plan).await;
        self.journalled = None;
        self.end_flows();
        result
    }

    /// Takes back a plan of which nobody knows how far it came, and ends the
    /// flows that it left.
    pub(super) async fn rollback(&mut self, plan: &Plan) -> Vec<StepError> {
        self.journalled = Some(Of::Undo);
        let errors = executor::rollback(self, plan).await;
        self.journalled = None;
        self.end_flows();
        errors
    }

    /// The changes of a plan are on disk.
    pub(super) fn committed(&mut self) {
        self.crash.point(Of::Plan);
    }

    /// A step was done.
    fn step<T>(&mut self, done: Result<T, EffectError>) -> Result<T, EffectError> {
        if let Some(of) = self.journalled.filter(|_| done.is_ok()) {
            self.crash.point(of);
        }
        done
    }

    /// When the programs of a link are to be settled. `None`: they all are.
    pub(super) fn settling_due(&self) -> Option<Instant> {
        let due = (self.attached + QUIET).min(self.unsettled + AT_LAST).max(self.pause);
        (!self.datapath.is_settled()).then_some(due)
    }

    /// A request is there.
    pub(super) fn is_asked(&mut self) {
        self.asked = true;
    }

    /// Settles the programs of one link, which holds up whoever changes links,
    /// or asks the agent, for some 20 ms.
    pub(super) fn settle(&mut self) {
        let begun = Instant::now();
        self.settle_one();
        if std::mem::take(&mut self.asked) {
            self.pause = Instant::now() + PAUSES * begun.elapsed();
        }
    }

    fn settle_one(&mut self) {
        match self.datapath.settle() {
            Ok(Settled::Moved) => {}
            Ok(Settled::Missing) => self.wait_to_settle(Duration::ZERO),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!("programs stay in filters for a while: {error:#}");
                self.wait_to_settle(AFTER_FAILURE);
            }
        }
    }

    fn wait_to_settle(&mut self, time: Duration) {
        self.attached = Instant::now() + time;
        self.unsettled = self.attached;
    }

    /// Has ended what the reverted leases and ports left behind.
    pub(super) fn end_flows(&mut self) {
        self.reaper.end(std::mem::take(&mut self.over));
    }

    /// Ends the flows of these addresses.
    pub(super) fn end_flows_of(&mut self, addresses: Vec<Address>) {
        self.over.addresses.extend(addresses);
        self.end_flows();
    }

    /// Ends the flows that go out with one of these as their source.
    pub(super) fn end_masquerades(&mut self, sources: &BTreeSet<IpAddr>) {
        tracing::info!(?sources, "ending the flows of addresses that are gone");
        self.over.sources.extend(sources.iter().copied().map(Address::from));
        self.end_flows();
    }

    async fn apply_to_datapath(&mut self, op: &Op) -> Result<(), datapath::Error> {
        match op {
            Op::Network { index, bridge, subnet, gateway, flags, source } => {
                let network = abi::Network {
                    bridge_ifindex: ifindex(bridge)?,
                    flags: *flags,
                    gateway: (*gateway).into(),
                    source: source.map_or(Address::ANY, Address::from),
                };
                // By itself it lets everything pass.
                self.datapath.attach_bridge(bridge.as_str())?;
                self.datapath.tables.put_network(*index, network, *subnet)
            }
            Op::Programs { host } => {
                self.attached = Instant::now();
                if self.datapath.is_settled() {
                    self.unsettled = self.attached;
                }
                let done = self.datapath.attach_container(host.as_str());
                if done.is_err() {
                    // The first error is the one that counts.
                    let _ = self.datapath.detach(host.as_str());
                }
                done
            }
            Op::Lease { addresses, host, network, mac, gateway_mac, flags, max_flows } => {
                let taken = |address: &Address| addresses.contains(&IpAddr::from(*address));
                self.reaper.settle(|over| over.addresses.iter().any(taken)).await;
                let endpoint = abi::Endpoint {
                    ifindex: ifindex(host)?,
                    network: *network,
                    mac: wire(*mac),
                    gateway_mac: wire(*gateway_mac),
                    flags: *flags,
                    last_seen: 0,
                };
                self.datapath.tables.put_endpoint(addresses, endpoint)?;
                self.datapath.quotas.put(endpoint.ifindex, *max_flows)
            }
            Op::AllowList { list, from } => self.datapath.allow.put(*list, from),
            Op::Port { host_address, host_port, protocol, address, port, allow, syn_rate } => {
                let key = port_key(*host_address, *host_port, *protocol);
                // It is back: its flows may stay.
                self.over.ports.remove(&(key, (*address).into()));
                // What led elsewhere ends first: nothing of it may come here,
                // and nothing that comes here go on there.
                self.reaper.settle(|over| over.ports.keys().any(|(port, _)| *port == key)).await;
                let target = PortTarget {
                    addr: (*address).into(),
                    port: Be16::from_host(*port),
                    pad: 0,
                    allow: *allow,
                    syn_rate: *syn_rate,
                };
                self.datapath.tables.put_port(key, target)
            }
            Op::PortSources { new, .. } => self.set_sources(op, new),
            _ => Ok(()),
        }
    }

    fn set_sources(&mut self, op: &Op, sources: &Sources) -> Result<(), datapath::Error> {
        let Op::PortSources { host_address, host_port, protocol, address, .. } = op else {
            return Ok(());
        };
        let key = port_key(*host_address, *host_port, *protocol);
        let over = (key, (*address).into());
        if sources.from.is_empty() {
            self.over.ports.remove(&over);
        } else {
            self.over.ports.insert(over, Some(sources.from.clone()));
        }
        self.datapath.tables.set_allow(&key, sources.list)
    }

    fn revert_in_datapath(&mut self, op: &Op) -> Result<(), datapath::Error> {
        match op {
            Op::Network { index, bridge, subnet, .. } => {
                self.datapath.detach(bridge.as_str())?;
                self.datapath.tables.remove_network(*index, *subnet)
            }
            Op::Programs { host } => self.datapath.detach(host.as_str()),
            Op::Lease { addresses, .. } => {
                self.over.addresses.extend(addresses.iter().copied().map(Address::from));
                for ifindex in self.datapath.tables.remove_endpoint(addresses)? {
                    self.datapath.quotas.remove(ifindex)?;
                }
                Ok(())
            }
            Op::AllowList { list, from } => self.datapath.allow.remove(*list, from),
            Op::Port { host_address, host_port, protocol, address, .. } => {
                let key = port_key(*host_address, *host_port, *protocol);
                self.over.ports.insert((key, (*address).into()), None);
                self.datapath.tables.remove_port(&key)
            }
            Op::PortSources { old, .. } => self.set_sources(op, old),
            _ => Ok(()),
        }
    }
}

impl Effects for Work {
    async fn apply(&mut self, op: &Op) -> Result<(), EffectError> {
        let done = if KernelEffects::handles(op) {
            self.kernel.apply(op).await
        } else {
            self.apply_to_datapath(op).await.map_err(EffectError::new)
        };
        self.step(done)
    }

    async fn revert(&mut self, op: &Op) -> Result<(), EffectError> {
        let done = if KernelEffects::handles(op) {
            self.kernel.revert(op).await
        } else {
            self.revert_in_datapath(op).map_err(EffectError::new)
        };
        self.step(done)
    }
}

/// `PORTS`' key of a published port; a wildcard is any address of its family.
pub(super) fn port_key(address: IpAddr, port: u16, protocol: Protocol) -> PortKey {
    let addr = match address {
        IpAddr::V4(ip) if ip.is_unspecified() => Address::ANY,
        IpAddr::V6(ip) if ip.is_unspecified() => Address::ANY6,
        address => address.into(),
    };
    PortKey { addr, port: Be16::from_host(port), proto: protocol.number(), pad: 0 }
}

fn ifindex(link: &IfName) -> Result<u32, datapath::Error> {
    nix::net::if_::if_nametoindex(link.as_str())
        .map_err(|_| datapath::Error::NoLink(link.to_string()))
}

fn wire(mac: Mac) -> abi::Mac {
    abi::Mac::from_octets(mac.0)
}

/// Seconds of `CLOCK_MONOTONIC`, the datapath's clock.
pub(super) fn monotonic() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u32::try_from(time.tv_sec()).unwrap_or(u32::MAX))
}
