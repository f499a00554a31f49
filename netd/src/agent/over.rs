//! Which flows end, because the address or the published port that they came
//! about by is gone or means something else now, or the host's address that
//! they go out with.

use std::collections::{HashMap, HashSet};

use ipnetwork::IpNetwork;
use netd_common::abi::{Address, Flow, FlowKey, PortKey};

use crate::datapath::{self, flows::Asked};

/// Whose flows end with a plan: one walk of the tables for all.
#[derive(Debug, Default)]
pub(super) struct Over {
    pub(super) addresses: HashSet<Address>,
    /// By published port and container: all of them, or those of other
    /// sources than these.
    pub(super) ports: HashMap<(PortKey, Address), Option<Vec<IpNetwork>>>,
    /// By the source that they are masqueraded with.
    pub(super) sources: HashSet<Address>,
}

impl Over {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty() && self.sources.is_empty()
    }

    /// Whether a flow in either of its directions is one of these.
    pub(super) fn has(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.addresses.contains(&key.src)
            || self.addresses.contains(&key.dst)
            || self.addresses.contains(&flow.addr)
            || !self.sources.is_empty() && self.has_source(key, flow)
            || !self.ports.is_empty() && self.has_port(&datapath::flows::asked(key, flow))
    }

    fn has_source(&self, key: &FlowKey, flow: &Flow) -> bool {
        if !flow.has(Flow::ORIGINAL) {
            // The answer's way: it arrives at the source.
            return flow.has(Flow::REWRITE_DST) && self.sources.contains(&key.dst);
        }
        flow.has(Flow::REWRITE_SRC) && !flow.has(Flow::LOCAL) && self.sources.contains(&flow.addr)
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

#[cfg(test)]
mod tests {
    use netd_common::abi::{Be16, Zone, wire::PROTO_TCP};

    use super::{super::work::port_key, *};
    use crate::model::Protocol;

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
    fn flows_that_are_masqueraded_as_an_address_end_and_published_ones_do_not() {
        let over = |ip| Over { sources: [Address::v4(ip)].into(), ..Over::default() };
        let [(mut out, mut original), (mut back, mut reply)] = entries(WEB, FAR);
        (original.addr, original.flags) = (Address::v4(HOST), Flow::ORIGINAL | Flow::REWRITE_SRC);
        (back.src, back.dst) = (Address::v4(FAR), Address::v4(HOST));
        (reply.addr, reply.flags) = (Address::v4(WEB), Flow::REWRITE_DST | Flow::LOCAL);
        (out.zone, back.zone) = (Zone::Container as u8, Zone::Uplink as u8);
        assert!(ends(&over(HOST), [(out, original), (back, reply)]));
        assert!(!ends(&over(NEAR), [(out, original), (back, reply)]));
        assert!(!ends(&over(HOST), entries(NEAR, HOST)));
    }

    #[test]
    fn flows_of_sources_that_are_off_the_list_end() {
        let changed = over(published("0.0.0.0"), Some("10.0.0.0/8"));
        assert!(ends(&changed, entries(NEAR, HOST)));
        assert!(!ends(&changed, entries(FAR, HOST)));
        assert!(ends(&over(published("0.0.0.0"), Some("::/0")), entries(FAR, HOST)));
    }
}
