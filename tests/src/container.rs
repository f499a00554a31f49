//! A container that `netd run` has started, as `netd inspect` shows it.

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

    pub fn mac_bytes(&self) -> [u8; 6] {
        let bytes: Vec<_> =
            self.mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes.try_into().unwrap_or_else(|_| panic!("a MAC address, not `{}`", self.mac))
    }
}
