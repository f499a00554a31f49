//! `netd flows`, `netd stats` and `netd ipam`: the maps as rows.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use netd_common::abi::{Address, Flow, wire};

use super::{Agent, work::monotonic};
use crate::{
    api::{
        Reply, ServiceError, rows,
        types::{FlowRow, FlowTuple, LeaseRow, StatRow},
    },
    datapath::FlowEntry,
};

impl Agent {
    /// Answers with all flows. Of a million of them that takes a second or
    /// two, in which the agent goes on with its work.
    pub(super) fn flow_rows(&self, to: Reply<Vec<FlowRow>>) {
        let now = monotonic();
        let containers: HashMap<Address, String> = self
            .state
            .containers
            .values()
            .flat_map(|container| container.endpoints.iter().map(move |e| (e, &container.name)))
            .flat_map(|(endpoint, name)| {
                endpoint.known_as().map(move |ip| (ip.into(), name.to_string()))
            })
            .collect();
        let flows = Arc::clone(&self.work.datapath.flows);
        tokio::task::spawn_blocking(move || {
            let rows = flows.list().map(|mut entries| {
                entries.sort_by_key(|entry| entry.original);
                entries.iter().map(|entry| row(entry, &containers, now)).collect()
            });
            let _ = to.send(rows.map_err(ServiceError::from));
        });
    }

    pub(super) fn stat_rows(&self) -> Result<Vec<StatRow>, ServiceError> {
        let stats = self.work.datapath.tables.stats()?;
        Ok(stats
            .into_iter()
            .map(|(hook, outcome, drop, counter)| StatRow {
                program: hook.name().to_owned(),
                outcome: outcome.to_owned(),
                drop,
                packets: counter.packets,
                bytes: counter.bytes,
            })
            .collect())
    }

    /// The leases, each with the time at which the datapath last saw it.
    pub(super) fn lease_rows(&self) -> Vec<LeaseRow> {
        let now = monotonic();
        let mut leases = rows::leases(&self.state);
        for lease in &mut leases {
            let address: Option<IpAddr> = lease.address.parse().ok();
            let endpoint = address.and_then(|it| self.work.datapath.tables.endpoint(it));
            lease.last_seen = endpoint
                .filter(|endpoint| endpoint.last_seen != 0)
                .map(|endpoint| u64::from(now.saturating_sub(endpoint.last_seen)));
        }
        leases
    }
}

fn row(entry: &FlowEntry, containers: &HashMap<Address, String>, now: u32) -> FlowRow {
    let (original, reply) = (&entry.original, &entry.reply);
    // The container is whoever answers, or else whoever asks.
    let container = containers.get(&reply.src).or_else(|| containers.get(&original.src));
    FlowRow {
        protocol: protocol(original.proto),
        state: entry.state.name(original.proto).to_owned(),
        original: tuple(original),
        reply: tuple(reply),
        nat: nat(&entry.flow).to_owned(),
        container: container.cloned().unwrap_or_default(),
        age: u64::from(now.saturating_sub(entry.last_seen)),
        packets: entry.packets,
        bytes: entry.bytes,
    }
}

fn tuple(key: &netd_common::abi::FlowKey) -> FlowTuple {
    FlowTuple {
        src: IpAddr::from(key.src).to_string(),
        dst: IpAddr::from(key.dst).to_string(),
        src_port: key.sport.to_host(),
        dst_port: key.dport.to_host(),
    }
}

fn nat(original: &Flow) -> &'static str {
    match (original.has(Flow::REWRITE_DST), original.has(Flow::REWRITE_SRC)) {
        (true, _) if original.in_ifindex != 0 => "hairpin",
        (true, _) => "dnat",
        (false, true) => "snat",
        (false, false) => "none",
    }
}

pub(super) fn protocol(number: u8) -> String {
    match number {
        wire::PROTO_TCP => "tcp".to_owned(),
        wire::PROTO_UDP => "udp".to_owned(),
        wire::PROTO_ICMP => "icmp".to_owned(),
        wire::PROTO_ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}
