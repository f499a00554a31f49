//! A container that `netd run` or `docker run` has started, as `inspect` shows
//! it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use crate::{
    Agent, Family, NetNs,
    json::{number, one, text},
};

#[derive(Debug)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub pid: u32,
    /// Its network namespace.
    pub ns: NetNs,
    /// On its one network; unspecified where it has none. So is `ip6`.
    pub ip: Ipv4Addr,
    pub ip6: Ipv6Addr,
    pub mac: String,
}

impl Container {
    pub(crate) fn inspect(agent: &Agent, name: &str, id: &str) -> Self {
        let list = agent.inspect(&format!("inspect {name}"));
        let shown = one(&list);
        assert_eq!(text(shown, "/Id"), id, "`run -d` prints the id");
        Self::of(shown, name, id)
    }

    /// One that runs, as its `inspect` shows it.
    pub(crate) fn of(shown: &Value, name: &str, id: &str) -> Self {
        let pid = u32::try_from(number(shown, "/State/Pid")).expect("a pid");
        assert_ne!(pid, 0, "a running container has a process: {shown:#}");
        let networks = shown.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let endpoint = networks.and_then(|networks| networks.values().next());
        let field = |key: &str| endpoint.and_then(|e| e[key].as_str()).unwrap_or_default();
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            pid,
            ns: NetNs::of_process(name, pid),
            ip: field("IPAddress").parse().unwrap_or(Ipv4Addr::UNSPECIFIED),
            ip6: field("GlobalIPv6Address").parse().unwrap_or(Ipv6Addr::UNSPECIFIED),
            mac: field("MacAddress").to_owned(),
        }
    }

    /// A socket address of the container's, IPv4.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// Its address of one family.
    pub fn address(&self, family: Family) -> IpAddr {
        family.pick(self.ip.into(), self.ip6.into())
    }

    /// The MAC address that the container has for a neighbour.
    #[track_caller]
    pub fn neighbour(&self, address: IpAddr) -> [u8; 6] {
        self.ns.exec(&format!("ping -c 1 -W 2 {address}"));
        let shown = self.ns.ip(&format!("neigh show {address}"));
        let mac = shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
        mac_bytes(mac.unwrap_or_else(|| panic!("a neighbour, resolved: {shown}")))
    }

    pub fn mac_bytes(&self) -> [u8; 6] {
        mac_bytes(&self.mac)
    }
}

fn mac_bytes(mac: &str) -> [u8; 6] {
    let bytes = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<_> = bytes.collect();
    bytes.try_into().unwrap_or_else(|_| panic!("a MAC address, not `{mac}`"))
}
