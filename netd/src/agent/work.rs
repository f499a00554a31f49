//! The one [`Effects`]: kernel and datapath together, each doing its own ops.

use std::{collections::HashSet, net::IpAddr};

use netd_common::abi::{self, Address, Be16, PortKey, PortTarget};
use nix::time::{ClockId, clock_gettime};

use crate::{
    controller::{Op, Plan},
    datapath::{self, Datapath},
    executor::{self, EffectError, Effects, ExecError},
    kernel::KernelEffects,
    model::{IfName, Mac, Protocol},
};

#[derive(Debug)]
pub(super) struct Work {
    pub(super) kernel: KernelEffects,
    pub(super) datapath: Datapath,
    over: Over,
}

/// Whose flows end with the plan in hand: one walk of the tables for all.
#[derive(Debug, Default)]
struct Over {
    addresses: HashSet<Address>,
    ports: HashSet<(u8, Be16, Address)>,
}

impl Work {
    pub(super) fn new(kernel: KernelEffects, datapath: Datapath) -> Self {
        Self { kernel, datapath, over: Over::default() }
    }

    pub(super) async fn run(&mut self, plan: &Plan) -> Result<(), ExecError> {
        let result = executor::run(self, plan).await;
        self.end_flows();
        result
    }

    /// Ends what the reverted leases and ports left behind.
    pub(super) fn end_flows(&mut self) {
        let over = std::mem::take(&mut self.over);
        if over.addresses.is_empty() && over.ports.is_empty() {
            return;
        }
        let ended = self.datapath.flows.end(|key, flow| {
            over.addresses.contains(&key.src)
                || over.addresses.contains(&key.dst)
                || over.addresses.contains(&flow.addr)
                || datapath::flows::published_by(key, flow)
                    .is_some_and(|port| over.ports.contains(&port))
        });
        match ended {
            Ok(count) if count > 0 => tracing::debug!(count, "ended flows"),
            Ok(_) => {}
            Err(error) => tracing::error!("failed to end flows: {error}"),
        }
    }

    fn apply_to_datapath(&mut self, op: &Op) -> Result<(), datapath::Error> {
        match op {
            Op::Network { index, bridge, subnets, gateway, flags } => {
                let network = abi::Network {
                    bridge_ifindex: ifindex(bridge)?,
                    flags: *flags,
                    gateway: (*gateway).into(),
                    source: Address::ANY,
                };
                self.datapath.tables.put_network(*index, network, subnets)
            }
            Op::Programs { host } => self.datapath.attach_container(host.as_str()),
            Op::Lease { address, host, network, mac, gateway_mac, flags } => {
                let endpoint = abi::Endpoint {
                    ifindex: ifindex(host)?,
                    network: *network,
                    mac: wire(*mac),
                    gateway_mac: wire(*gateway_mac),
                    flags: *flags,
                    last_seen: 0,
                };
                self.datapath.tables.put_endpoint(*address, endpoint)
            }
            Op::Port { host_address, host_port, protocol, address, port } => {
                let target = PortTarget {
                    addr: (*address).into(),
                    port: Be16::from_host(*port),
                    ..PortTarget::default()
                };
                self.datapath
                    .tables
                    .put_port(port_key(*host_address, *host_port, *protocol), target)
            }
            _ => Ok(()),
        }
    }

    fn revert_in_datapath(&mut self, op: &Op) -> Result<(), datapath::Error> {
        match op {
            Op::Network { index, subnets, .. } => {
                self.datapath.tables.remove_network(*index, subnets)
            }
            Op::Programs { host } => self.datapath.detach(host.as_str()),
            Op::Lease { address, .. } => {
                self.over.addresses.insert((*address).into());
                self.datapath.tables.remove_endpoint(*address)
            }
            Op::Port { host_address, host_port, protocol, address, .. } => {
                let key = port_key(*host_address, *host_port, *protocol);
                self.over.ports.insert((key.proto, key.port, (*address).into()));
                self.datapath.tables.remove_port(&key)
            }
            _ => Ok(()),
        }
    }
}

impl Effects for Work {
    async fn apply(&mut self, op: &Op) -> Result<(), EffectError> {
        if KernelEffects::handles(op) {
            return self.kernel.apply(op).await;
        }
        self.apply_to_datapath(op).map_err(EffectError::new)
    }

    async fn revert(&mut self, op: &Op) -> Result<(), EffectError> {
        if KernelEffects::handles(op) {
            return self.kernel.revert(op).await;
        }
        self.revert_in_datapath(op).map_err(EffectError::new)
    }
}

/// `PORTS`' key of a published port; the wildcard address is any address.
pub(super) fn port_key(address: IpAddr, port: u16, protocol: Protocol) -> PortKey {
    let addr = if address.is_unspecified() { Address::ANY } else { address.into() };
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
