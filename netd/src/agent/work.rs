//! The one [`Effects`]: kernel and datapath together, each doing its own ops.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use netd_common::abi::{
    self, Address, Be16, Flow, FlowKey, PortKey, PortTarget, SocketKey, SocketPeer,
};
use nix::time::{ClockId, clock_gettime};

use super::faults::{Crash, Of};
use crate::{
    controller::{Op, Plan, Sources},
    datapath::{self, Datapath, flows::Asked},
    executor::{self, EffectError, Effects, ExecError, StepError},
    kernel::{
        self, KernelEffects,
        sockdiag::{self, Connected},
    },
    model::{IfName, Mac, Protocol},
};

#[derive(Debug)]
pub(super) struct Work {
    pub(super) kernel: KernelEffects,
    pub(super) datapath: Datapath,
    over: Over,
    /// That this kernel can't end sockets: once is enough.
    told_of_sockets: bool,
    crash: Crash,
    /// What is being done with a plan of the journal.
    journalled: Option<Of>,
}

/// Whose flows end with the plan in hand: one walk of the tables for all.
#[derive(Debug, Default)]
struct Over {
    addresses: HashSet<Address>,
    /// By published port and container: all of them, or those of other
    /// sources than these.
    ports: HashMap<(PortKey, Address), Option<Vec<IpNetwork>>>,
}

impl Over {
    fn has(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.addresses.contains(&key.src)
            || self.addresses.contains(&key.dst)
            || self.addresses.contains(&flow.addr)
            || !self.ports.is_empty() && self.has_port(&datapath::flows::asked(key, flow))
    }

    fn has_port(&self, asked: &Asked) -> bool {
        asked.ports().any(|port| match self.ports.get(&(port, asked.container)) {
            None => false,
            Some(None) => true,
            Some(Some(from)) => {
                let client = asked.client.into();
                !from.iter().any(|network| network.contains(client))
            }
        })
    }
}

impl Work {
    pub(super) fn new(kernel: KernelEffects, datapath: Datapath) -> Self {
        Self {
            kernel,
            datapath,
            over: Over::default(),
            told_of_sockets: false,
            crash: Crash::from_environment(),
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

    /// Ends what the reverted leases and ports left behind.
    pub(super) fn end_flows(&mut self) {
        let over = std::mem::take(&mut self.over);
        if over.addresses.is_empty() && over.ports.is_empty() {
            return;
        }
        // A program that has read the old tables may still open a flow.
        if let Err(error) = kernel::wait_for_programs() {
            tracing::debug!("failed to wait for the datapath's programs: {error}");
        }
        match self.datapath.flows.end(|key, flow| over.has(key, flow)) {
            Ok(count) if count > 0 => tracing::debug!(count, "ended flows"),
            Ok(_) => {}
            Err(error) => tracing::error!("failed to end flows: {error}"),
        }
        self.end_sockets();
    }

    /// Ends the flows of these addresses.
    pub(super) fn end_flows_of(&mut self, addresses: Vec<Address>) {
        self.over.addresses.extend(addresses);
        self.end_flows();
    }

    /// Ends the flows that go out with one of these as their source.
    pub(super) fn end_masquerades(&mut self, sources: &BTreeSet<IpAddr>) {
        let sources: HashSet<Address> = sources.iter().copied().map(Address::from).collect();
        let masqueraded = |key: &FlowKey, flow: &Flow| {
            if !flow.has(Flow::ORIGINAL) {
                // The answer's way: it arrives at the source.
                return flow.has(Flow::REWRITE_DST) && sources.contains(&key.dst);
            }
            flow.has(Flow::REWRITE_SRC) && !flow.has(Flow::LOCAL) && sources.contains(&flow.addr)
        };
        match self.datapath.flows.end(masqueraded) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, ?sources, "ended flows of addresses that are gone"),
            Err(error) => tracing::error!("failed to end flows: {error}"),
        }
    }

    /// Ends the host's own sockets that are connected by a published port
    /// which is no more, or no longer for them: they would hang, or meet a
    /// stranger.
    pub(super) fn end_sockets(&mut self) {
        let stray = match self.datapath.stray_sockets() {
            Ok(stray) if stray.is_empty() => return,
            Ok(stray) => stray,
            Err(error) => return tracing::error!("failed to find the host's sockets: {error}"),
        };
        let connected: Vec<_> = stray.iter().map(|(key, asked)| connected(key, asked)).collect();
        match sockdiag::end(&connected) {
            Ok(count) => tracing::debug!(count, "ended sockets of the host's"),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                if !std::mem::replace(&mut self.told_of_sockets, true) {
                    tracing::warn!(
                        "this kernel ends no sockets (CONFIG_INET_DIAG_DESTROY): those of the \
                         host's that are connected to a port outlive it"
                    );
                }
            }
            Err(error) => tracing::error!("failed to end sockets of the host's: {error}"),
        }
        let keys: Vec<_> = stray.into_iter().map(|(key, _)| key).collect();
        if let Err(error) = self.datapath.sockets.forget(&keys) {
            tracing::error!("failed to forget the host's sockets: {error}");
        }
    }

    fn apply_to_datapath(&mut self, op: &Op) -> Result<(), datapath::Error> {
        match op {
            Op::Network { index, bridge, subnet, gateway, flags, source } => {
                let network = abi::Network {
                    bridge_ifindex: ifindex(bridge)?,
                    flags: *flags,
                    gateway: (*gateway).into(),
                    source: source.map_or(Address::ANY, Address::from),
                };
                self.datapath.tables.put_network(*index, network, *subnet)
            }
            Op::Programs { host } => self.datapath.attach_container(host.as_str()),
            Op::Lease { addresses, host, network, mac, gateway_mac, flags } => {
                let endpoint = abi::Endpoint {
                    ifindex: ifindex(host)?,
                    network: *network,
                    mac: wire(*mac),
                    gateway_mac: wire(*gateway_mac),
                    flags: *flags,
                    last_seen: 0,
                };
                self.datapath.tables.put_endpoint(addresses, endpoint)
            }
            Op::AllowList { list, from } => self.datapath.allow.put(*list, from),
            Op::Port { host_address, host_port, protocol, address, port, allow, syn_rate } => {
                let key = port_key(*host_address, *host_port, *protocol);
                // It is back: its flows may stay.
                self.over.ports.remove(&(key, (*address).into()));
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
            Op::Network { index, subnet, .. } => {
                self.datapath.tables.remove_network(*index, *subnet)
            }
            Op::Programs { host } => self.datapath.detach(host.as_str()),
            Op::Lease { addresses, .. } => {
                self.over.addresses.extend(addresses.iter().copied().map(Address::from));
                self.datapath.tables.remove_endpoint(addresses)
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
            self.apply_to_datapath(op).map_err(EffectError::new)
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

fn connected(key: &SocketKey, asked: &SocketPeer) -> Connected {
    Connected {
        cookie: key.cookie,
        protocol: asked.proto,
        address: key.addr.into(),
        port: key.port.to_host(),
    }
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

#[cfg(test)]
mod tests {
    use netd_common::abi::{Zone, wire::PROTO_TCP};

    use super::*;

    const HOST: [u8; 4] = [192, 0, 2, 1];
    const WEB: [u8; 4] = [172, 17, 0, 2];
    const NEAR: [u8; 4] = [192, 0, 2, 7];
    const FAR: [u8; 4] = [10, 0, 0, 7];

    /// Both entries of a flow from `client` to port 8080 of `host`.
    fn entries(client: [u8; 4], host: [u8; 4]) -> [(FlowKey, Flow); 2] {
        let key = |src, sport, dst, dport, zone| FlowKey {
            src: Address::v4(src),
            dst: Address::v4(dst),
            sport: Be16::from_host(sport),
            dport: Be16::from_host(dport),
            proto: PROTO_TCP,
            zone: zone as u8,
            pad: 0,
        };
        let flow = |addr, flags, sport, dport| Flow {
            addr: Address::v4(addr),
            flags,
            sport: Be16::from_host(sport),
            dport: Be16::from_host(dport),
            ..Flow::default()
        };
        [
            (
                key(client, 4000, host, 8080, Zone::Uplink),
                flow(WEB, Flow::ORIGINAL | Flow::REWRITE_DST, 4000, 80),
            ),
            (
                key(WEB, 80, client, 4000, Zone::Container),
                flow(host, Flow::REWRITE_SRC, 8080, 4000),
            ),
        ]
    }

    fn over(port: (PortKey, Address), stay: Option<&str>) -> Over {
        let stay = stay.map(|from| vec![from.parse().unwrap()]);
        Over { ports: [(port, stay)].into(), ..Over::default() }
    }

    /// Whether both directions end, or neither does.
    #[track_caller]
    fn ends(over: &Over, entries: [(FlowKey, Flow); 2]) -> bool {
        let [one, other] = entries.map(|(key, flow)| over.has(&key, &flow));
        assert_eq!(one, other, "a flow ends as a whole");
        one
    }

    fn published(ip: &str) -> (PortKey, Address) {
        (port_key(ip.parse().unwrap(), 8080, Protocol::Tcp), Address::v4(WEB))
    }

    #[test]
    fn all_flows_of_a_removed_port_end_and_those_of_another_host_address_do_not() {
        let removed = over(published("192.0.2.1"), None);
        assert!(ends(&removed, entries(NEAR, HOST)));
        assert!(!ends(&removed, entries(NEAR, [192, 0, 2, 9])));
        assert!(ends(&over(published("0.0.0.0"), None), entries(NEAR, [192, 0, 2, 9])));
        assert!(!ends(&over(published("::"), None), entries(NEAR, HOST)));
    }

    #[test]
    fn flows_of_sources_that_are_off_the_list_end() {
        let changed = over(published("0.0.0.0"), Some("10.0.0.0/8"));
        assert!(ends(&changed, entries(NEAR, HOST)));
        assert!(!ends(&changed, entries(FAR, HOST)));
        assert!(ends(&over(published("0.0.0.0"), Some("::/0")), entries(FAR, HOST)));
    }
}
