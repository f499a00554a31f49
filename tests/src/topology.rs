//! A host with an uplink, and the world behind it, in both families.
//!
//! ```text
//! host: up0 192.0.2.1/24 ────────────────────────── eth0 192.0.2.2/24 :outside
//!           2001:db8:0:1::1/64                           2001:db8:0:1::2/64
//!
//! or    up0 192.0.2.1/24 ── near :router: far ── eth0 203.0.113.2/24 :outside
//!           2001:db8:0:1::1/64                        2001:db8:0:3::2/64
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    Agent, Container, Family, Hop, NetNs, Output, Program, TestDir, agent, program::netd_path,
};

/// Whether links finish checksums themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// As veth comes: checksums stay partial all the way.
    Default,
    /// `ethtool -K LINK tx off` on every hop: checksums are complete.
    TxOff,
}

/// The namespaces of one test. On failure it prints their links and routes.
#[derive(Debug)]
pub struct Topology {
    /// Where the agent runs.
    pub host: NetNs,
    /// Behind the host's uplink `up0`, by its `eth0`.
    pub outside: NetNs,
    others: Vec<NetNs>,
    dir: Arc<TestDir>,
}

/// The host's address on its uplink.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1);
/// The outside's address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);
/// The host's address on its second uplink, once there is one.
pub const HOST2: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The router's addresses towards the host.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
pub const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0xfe);
/// The router's addresses towards the outside.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
pub const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 3, 0, 0, 0, 0xfe);
/// The outside's addresses behind the router.
pub const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const BEYOND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 3, 0, 0, 0, 2);

const HOST_CIDR: &str = "192.0.2.1/24";
const OUTSIDE_CIDR: &str = "192.0.2.2/24";

impl Topology {
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        Self::at(HOST_CIDR, OUTSIDE_CIDR)
    }

    /// With other IPv4 addresses on the uplink (`A.B.C.D/PREFIX`).
    pub fn at(host_address: &str, outside_address: &str) -> Self {
        let net = Self::bare();
        net.host.veth("up0", &net.outside, "eth0");
        net.address(host_address, outside_address);
        net
    }

    /// Gives `up0` and `eth0` their addresses; the outside is the host's
    /// default route.
    fn address(&self, host_address: &str, outside_address: &str) {
        self.host.ip(&format!("addr add {host_address} dev up0"));
        self.host.ip(&format!("addr add {HOST6}/64 dev up0 nodad"));
        self.outside.ip(&format!("addr add {outside_address} dev eth0"));
        self.outside.ip(&format!("addr add {OUTSIDE6}/64 dev eth0 nodad"));
        let (gateway, _) = outside_address.split_once('/').expect("address and prefix");
        self.host.ip(&format!("route add default via {gateway}"));
        self.host.ip(&format!("-6 route add default via {OUTSIDE6}"));
    }

    /// With a router between the host and the outside, which is at
    /// [`BEYOND`]. Gives the router too.
    pub fn behind_router() -> (Self, NetNs) {
        let mut net = Self::bare();
        let router = NetNs::new(&net.dir, "router");
        net.host.veth("up0", &router, "near");
        router.veth("far", &net.outside, "eth0");
        for family in Family::ALL {
            let (prefix, nodad) = family.pick(("24", ""), ("64", "nodad"));
            let add = |ns: &NetNs, address: IpAddr, link: &str| {
                ns.ip(&format!("addr add {address}/{prefix} dev {link} {nodad}"));
            };
            add(&net.host, family.host(), "up0");
            add(&router, family.near(), "near");
            add(&router, family.far(), "far");
            add(&net.outside, family.beyond(), "eth0");
            let default = |ns: &NetNs, gateway: IpAddr| {
                ns.ip(&format!("{} route add default via {gateway}", family.flag()));
            };
            default(&net.host, family.near());
            default(&net.outside, family.far());
        }
        router.set_sysctl("net/ipv4/ip_forward", "1");
        router.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        // Each error is to be seen, however many there are in a second.
        for key in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
            router.set_sysctl(key, "0");
            net.host.set_sysctl(key, "0");
        }
        net.others.push(router.clone());
        (net, router)
    }

    /// As [`Topology::behind_router`]; what the router forwards either way must
    /// fit into `mtu` bytes, while every link has 1,500.
    pub fn behind_narrow_router(mtu: u16) -> (Self, NetNs) {
        let (net, router) = Self::behind_router();
        for (net, link) in [
            ("192.0.2.0/24", "near"),
            ("203.0.113.0/24", "far"),
            ("2001:db8:0:1::/64", "near"),
            ("2001:db8:0:3::/64", "far"),
        ] {
            router.ip(&format!("route del {net} dev {link}"));
            router.ip(&format!("route add {net} dev {link} mtu lock {mtu}"));
        }
        (net, router)
    }

    /// With a hop between the host and the outside that swaps fragments. The
    /// addresses are those of [`Topology::new`].
    pub fn behind_swapping_hop() -> (Self, Hop) {
        let mut net = Self::bare();
        let hop = NetNs::new(&net.dir, "hop");
        hop.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        hop.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        net.host.veth("up0", &hop, "left");
        hop.veth("right", &net.outside, "eth0");
        net.address(HOST_CIDR, OUTSIDE_CIDR);
        // What a packet socket reads is what a wire would carry.
        for (ns, link) in [(&net.host, "up0"), (&net.outside, "eth0")] {
            ns.exec(&format!("ethtool -K {link} tx off tso off gso off"));
        }
        net.others.push(hop.clone());
        (net, Hop::swapping(&hop, "left", "right"))
    }

    /// The host and the outside, not yet connected.
    fn bare() -> Self {
        let dir = Arc::new(TestDir::new());
        let host = NetNs::new(&dir, "host");
        let outside = NetNs::new(&dir, "outside");
        Self { host, outside, others: Vec::new(), dir }
    }

    /// A second outside namespace behind `up1`: 198.51.100.1 and .2,
    /// and `2001:db8:0:2::1` and `::2`.
    pub fn second_uplink(&mut self) -> NetNs {
        let second = NetNs::new(&self.dir, "outside2");
        self.host.veth("up1", &second, "eth0");
        self.host.ip("addr add 198.51.100.1/24 dev up1");
        self.host.ip("addr add 2001:db8:0:2::1/64 dev up1 nodad");
        second.ip("addr add 198.51.100.2/24 dev eth0");
        second.ip("addr add 2001:db8:0:2::2/64 dev eth0 nodad");
        self.others.push(second.clone());
        second
    }

    pub fn dir(&self) -> &Arc<TestDir> {
        &self.dir
    }

    /// An agent with its defaults, running.
    pub fn agent(&self) -> Agent {
        self.agent_with(&Value::Null)
    }

    /// An agent with this `netd.json`, running.
    pub fn agent_with(&self, config: &Value) -> Agent {
        Agent::start(&self.dir, &self.host, config, &[])
    }

    /// An agent with these flags, running.
    pub fn agent_with_flags(&self, flags: &[&'static str]) -> Agent {
        Agent::start(&self.dir, &self.host, &Value::Null, flags)
    }

    /// What an agent says that refuses this `netd.json`.
    pub fn agent_refused(&self, config: &Value) -> Output {
        let root = agent::write_config(&self.dir, config);
        Program::new(netd_path()).arg("--root").arg(root).arg("agent").inside(&self.host).output()
    }

    /// Sets checksum offload on every link of the host and the outside, and
    /// of these containers.
    pub fn set_offload(&self, offload: Offload, containers: &[&Container]) {
        if offload == Offload::Default {
            return;
        }
        let own = [&self.host, &self.outside].into_iter().chain(&self.others);
        for ns in own.chain(containers.iter().map(|container| &container.ns)) {
            for link in links(ns) {
                ns.exec(&format!("ethtool -K {link} tx off"));
            }
        }
    }
}

/// All links but `lo`.
pub fn links(ns: &NetNs) -> Vec<String> {
    let list: Value = serde_json::from_str(&ns.ip("-j link")).expect("ip prints JSON");
    let names = crate::json::rows(&list).iter().map(|link| crate::json::text(link, "/ifname"));
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// A socket address of the host's, or of anyone.
pub fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

impl Drop for Topology {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for ns in [&self.host, &self.outside].into_iter().chain(&self.others) {
                agent::dump(ns, &["ip addr", "ip route show table all", "ip -6 route", "ip neigh"]);
            }
        }
    }
}
