//! A host without a kernel: plans are committed as if each op had worked. Fuzz
//! targets use it too.
#![allow(clippy::unwrap_used, dead_code, reason = "a test's fixture, not all of it a fuzzer's")]

use std::collections::BTreeSet;

use netd_common::abi::Endpoint;

use crate::{
    api::types::{Connect, ContainerCreate, NetworkCreate},
    controller::{
        Action, Error, Force, Host, HostRoute, Op, Plan, State, find_container, find_network,
        plan_connect, plan_container_create, plan_container_remove, plan_default_network,
        plan_disconnect, plan_exited, plan_network_create, plan_network_remove, plan_publish,
        plan_started, plan_unpublish,
    },
    model::{Config, Container, Id, Network, Process},
};

/// Flags of a lease without published ports, and with some.
pub(crate) const QUIET: u32 = Endpoint::ICC | Endpoint::MEETS_HOST;
pub(crate) const PUBLISHED: u32 = QUIET | Endpoint::PUBLISHED;

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) host: Host,
    /// What the applied ops have left in place.
    pub(crate) made: Vec<Op>,
    ids: u32,
}

impl World {
    /// A host at 10.2.5.6/24 behind `eth0`, with the default network.
    pub(crate) fn new() -> Self {
        let mut world = Self::bare();
        let plan = plan_default_network(&world.state, &world.host).unwrap();
        world.run(plan);
        world
    }

    pub(crate) fn bare() -> Self {
        let route = |destination: &str, gateway: Option<&str>| HostRoute {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            link: "eth0".into(),
        };
        let host = Host {
            config: Config::default(),
            links: ["lo", "eth0"].map(|name| name.parse().unwrap()).into(),
            routes: vec![route("0.0.0.0/0", Some("10.2.5.1")), route("10.2.5.0/24", None)],
            addresses: vec![
                ("lo".parse().unwrap(), "127.0.0.1/8".parse().unwrap()),
                ("eth0".parse().unwrap(), "10.2.5.6/24".parse().unwrap()),
            ],
            ula: crate::ipam::unique_local_pool(b"host"),
            default_mtu: 1500,
            ephemeral: (32768, 60999),
            avoid_ports: vec![],
            reserved_ports: vec![],
            netns_dir: "/run/netd/netns".into(),
            containers_dir: "/run/netd/containers".into(),
            host_netns: "/proc/1/ns/net".into(),
            now: "2026-01-01T00:00:00Z".into(),
            fresh_ids: vec![],
        };
        let mut world = Self { state: State::default(), host, made: vec![], ids: 0 };
        world.draw_ids();
        world
    }

    fn draw_ids(&mut self) {
        self.host.fresh_ids = (0..4)
            .map(|_| {
                self.ids += 1;
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&self.ids.wrapping_mul(0x9e37_79b1).to_be_bytes());
                bytes[4..8].copy_from_slice(&self.ids.to_be_bytes());
                Id::from_bytes(bytes)
            })
            .collect();
    }

    pub(crate) fn run(&mut self, plan: Plan) {
        for step in plan.steps {
            match step.action {
                Action::Apply => {
                    if let Op::PortSources { new, .. } = &step.op {
                        self.set_sources(&step.op, new.list);
                        continue;
                    }
                    if let Op::BridgeMtu { new, .. } | Op::VethMtu { new, .. } = &step.op {
                        self.set_mtu(&step.op, *new);
                        continue;
                    }
                    self.made.retain(|op| key(op) != key(&step.op));
                    self.made.push(step.op);
                }
                Action::Revert => {
                    let before = self.made.len();
                    self.made.retain(|op| key(op) != key(&step.op));
                    assert_eq!(before, self.made.len() + 1, "not there: {:?}", step.op);
                }
            }
        }
        for change in plan.changes {
            self.state.commit(change);
        }
        self.draw_ids();
    }

    /// What `update` is of has this MTU now.
    fn set_mtu(&mut self, update: &Op, new: u32) {
        match self.made.iter_mut().find(|op| key(op) == key(update)) {
            Some(Op::Bridge { mtu, .. } | Op::Veth { mtu, .. }) => *mtu = new,
            _ => panic!("not there: {update:?}"),
        }
    }

    /// The port of `sources` names `list` now.
    fn set_sources(&mut self, sources: &Op, list: u32) {
        let mut ports = self.made.iter_mut().filter(|op| key(op) == key(sources));
        let Some(Op::Port { allow, .. }) = ports.next() else { panic!("no port: {sources:?}") };
        *allow = list;
    }

    pub(crate) fn create_network(&mut self, request: &NetworkCreate) -> Result<Id, Error> {
        let (plan, id) = plan_network_create(&self.state, &self.host, request)?;
        self.run(plan);
        Ok(id)
    }

    pub(crate) fn network(&mut self, name: &str, subnet: &str) -> Result<Id, Error> {
        self.create_network(&NetworkCreate {
            name: name.into(),
            subnets: vec![subnet.into()],
            ..NetworkCreate::default()
        })
    }

    pub(crate) fn remove_network(&mut self, name: &str) -> Result<(), Error> {
        let plan = plan_network_remove(&self.state, name)?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn create(&mut self, request: &ContainerCreate) -> Result<Id, Error> {
        let (plan, id) = plan_container_create(&self.state, &self.host, request)?;
        self.run(plan);
        Ok(id)
    }

    pub(crate) fn start(&mut self, name: &str) -> Result<(), Error> {
        let process = Process { shim: 10, pid: 11, start_time: 12 };
        let plan = plan_started(&self.state, name, process)?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn exit(&mut self, name: &str) -> Result<(), Error> {
        let plan = plan_exited(&self.state, &self.host, name, Some(0))?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str, force: Force) -> Result<(), Error> {
        let plan = plan_container_remove(&self.state, &self.host, name, force)?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn connect(&mut self, network: &str, name: &str) -> Result<(), Error> {
        let plan = plan_connect(&self.state, &self.host, network, &to(name))?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, network: &str, name: &str) -> Result<(), Error> {
        let plan = plan_disconnect(&self.state, network, &to(name))?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn publish(&mut self, name: &str, spec: &str) -> Result<Vec<String>, Error> {
        let (plan, added) = plan_publish(&self.state, &self.host, name, &[spec.into()])?;
        self.run(plan);
        Ok(added.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn unpublish(&mut self, name: &str, spec: &str) -> Result<(), Error> {
        let plan = plan_unpublish(&self.state, name, &[spec.into()])?;
        self.run(plan);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> &Container {
        find_container(&self.state, name).unwrap()
    }

    pub(crate) fn get_network(&self, name: &str) -> &Network {
        find_network(&self.state, name).unwrap()
    }

    pub(crate) fn address(&self, name: &str) -> String {
        self.get(name).endpoints[0].address.to_string()
    }

    pub(crate) fn ports(&self, name: &str) -> Vec<String> {
        let endpoints = &self.get(name).endpoints;
        endpoints.iter().flat_map(|e| &e.ports).map(ToString::to_string).collect()
    }

    /// No address, port, subnet, index or link twice.
    pub(crate) fn assert_consistent(&self) {
        let mut seen = BTreeSet::new();
        let mut once = |what: String| assert!(seen.insert(what.clone()), "twice: {what}");
        for network in self.state.networks.values() {
            once(format!("index {}", network.index));
            once(format!("bridge {}", network.bridge));
            once(format!("network name {}", network.name));
        }
        for container in self.state.containers.values() {
            once(format!("container name {}", container.name));
            let (mut routes, mut routes6) = (0, 0);
            for endpoint in &container.endpoints {
                let network = &self.state.networks[&endpoint.network];
                assert_eq!(endpoint.address6.is_some(), network.ipv6);
                for (address, pool) in endpoint.addresses().zip(&network.pools) {
                    let ip = address.ip();
                    assert!(pool.subnet.contains(ip));
                    assert_ne!(pool.gateway, ip);
                }
                for name in endpoint.known_as() {
                    once(format!("address {name}"));
                }
                once(format!("link {}", endpoint.host_link));
                once(format!("{} in {}", endpoint.container_link, container.name));
                routes += usize::from(endpoint.default_route);
                routes6 += usize::from(endpoint.default_route6);
                for port in &endpoint.ports {
                    assert_eq!(port.list == 0, port.from.is_empty());
                    if port.list != 0 {
                        once(format!("list {}", port.list));
                    }
                    if !port.is_routed() {
                        let family = if port.host_ip.is_ipv4() { 4 } else { 6 };
                        once(format!("{} {} of IPv{family}", port.protocol, port.host_port));
                    }
                }
            }
            assert!(routes.max(routes6) <= 1, "{} has two default routes", container.name);
        }
        let subnets: Vec<_> =
            self.state.networks.values().flat_map(|n| &n.pools).map(|pool| pool.subnet).collect();
        for (nth, one) in subnets.iter().enumerate() {
            for other in &subnets[nth + 1..] {
                assert!(!crate::ipam::overlaps(*one, *other), "{one} and {other}");
            }
        }
    }
}

/// Two ops of one key are the same thing, whatever its settings.
pub(crate) fn key(op: &Op) -> String {
    match op {
        Op::Bridge { name, .. } | Op::BridgeMtu { name, .. } => format!("bridge {name}"),
        Op::Annex { name, .. } => format!("annex {name}"),
        Op::Network { subnet, .. } => format!("network {subnet}"),
        Op::Sandbox { id, .. } => format!("sandbox {id}"),
        Op::Veth { host, .. } | Op::VethMtu { host, .. } => format!("veth {host}"),
        Op::Programs { host } => format!("programs {host}"),
        Op::Lease { host, .. } => format!("lease {host}"),
        Op::Interface { netns, name, .. } => format!("interface {} {name}", netns.display()),
        Op::HostPort { address, port, protocol } => {
            format!("host port {address} {port} {protocol}")
        }
        Op::Port { host_address, host_port, protocol, .. }
        | Op::PortSources { host_address, host_port, protocol, .. } => {
            format!("port {host_address} {host_port} {protocol}")
        }
        Op::AllowList { list, .. } => format!("list {list}"),
        Op::RunDir { path } => format!("run dir {}", path.display()),
    }
}

/// A request for a container that has the name and `sleep` as command.
pub(crate) fn container(name: &str) -> ContainerCreate {
    ContainerCreate {
        name: Some(name.into()),
        command: vec!["sleep".into(), "1d".into()],
        ..ContainerCreate::default()
    }
}

pub(crate) fn on(network: &str, name: &str) -> ContainerCreate {
    ContainerCreate { network: Some(network.into()), ..container(name) }
}

pub(crate) fn to(name: &str) -> Connect {
    Connect { container: name.into(), ..Connect::default() }
}

pub(crate) fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}
