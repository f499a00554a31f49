//! What `/metrics` tells of this agent: gathered when it is asked for, out of
//! the state, the maps and `/proc/self`.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{SysconfVar, sysconf},
};

use super::Agent;
use crate::{
    api::{
        ServiceError,
        metrics::{FlowFill, PoolFill, Snapshot, Usage},
        rows,
    },
    controller::State,
    datapath::SweepReport,
    ipam,
    model::{Endpoint, Network, Pool, Protocol},
};

/// What sweeps of the flow tables have seen.
#[derive(Debug, Default)]
pub(super) struct Swept {
    entries: AtomicU64,
    expired: AtomicU64,
}

impl Swept {
    pub(super) fn note(&self, report: &SweepReport) {
        let left = report.entries.saturating_sub(report.expired);
        self.entries.store(left as u64, Ordering::Relaxed);
        self.expired.fetch_add(report.expired as u64, Ordering::Relaxed);
    }
}

impl Agent {
    pub(super) fn metrics(&self) -> Result<Snapshot, ServiceError> {
        let state = &self.state;
        Ok(Snapshot {
            stats: self.stat_rows()?,
            networks: state.networks.len(),
            containers: containers(state),
            ports: ports(state),
            pools: state.networks.values().flat_map(|network| pools(state, network)).collect(),
            uplinks: self.host.xdp_rows(),
            flows: FlowFill {
                entries: self.swept.entries.load(Ordering::Relaxed),
                // Two entries a flow.
                limit: u64::from(self.config.flow_table_size) * 2,
                expired: self.swept.expired.load(Ordering::Relaxed),
            },
            listeners: self.monitor.listeners(),
            process: usage(),
        })
    }
}

fn containers(state: &State) -> Vec<(&'static str, usize)> {
    let mut counts = vec![("created", 0), ("running", 0), ("exited", 0)];
    for container in state.containers.values() {
        let word = rows::state_word(&container.state);
        match counts.iter_mut().find(|(it, _)| *it == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts
}

fn ports(state: &State) -> Vec<(&'static str, usize)> {
    let endpoints = state.containers.values().flat_map(|container| &container.endpoints);
    let ports: Vec<_> = endpoints.flat_map(|it| &it.ports).map(|port| port.protocol).collect();
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .map(|protocol| (protocol.as_str(), ports.iter().filter(|it| **it == protocol).count()))
        .into()
}

fn pools(state: &State, network: &Network) -> impl Iterator<Item = PoolFill> {
    let endpoints = state.containers.values().flat_map(|container| &container.endpoints);
    let used: Vec<_> = endpoints
        .filter(|endpoint| endpoint.network == network.id)
        .flat_map(Endpoint::addresses)
        .map(|address| address.ip())
        .collect();
    network.pools.iter().map(move |pool: &Pool| {
        let range = pool.ip_range.unwrap_or(pool.subnet);
        PoolFill {
            network: network.name.to_string(),
            subnet: pool.subnet.to_string(),
            addresses: ipam::capacity(pool),
            used: used.iter().filter(|address| range.contains(**address)).count(),
        }
    })
}

/// Of proc(5); what can't be read is 0.
fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the command's name, which may have any characters: field 3 on.
    let fields: Vec<u64> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| {
        rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
    });
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let unit = |of| sysconf(of).ok().flatten().and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
    let seconds = |ticks: u64| float(ticks) / float(unit(SysconfVar::CLK_TCK).max(1));
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok()).unwrap_or(0);
    Usage {
        cpu_seconds: seconds(field(14) + field(15)),
        resident_bytes: field(24) * unit(SysconfVar::PAGE_SIZE),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
        max_fds: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        start_seconds: float(boot) + seconds(field(22)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds and ticks are far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_own_usage() {
        let Usage { resident_bytes, open_fds, max_fds, start_seconds, .. } = usage();
        assert!(resident_bytes > 1 << 20, "{resident_bytes}");
        assert!((3..=max_fds).contains(&open_fds), "{open_fds} of {max_fds}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(start_seconds <= now + 1.0 && start_seconds > now - 3600.0, "{start_seconds}");
    }

    #[test]
    fn what_a_sweep_removes_is_not_there_after_it() {
        let swept = Swept::default();
        swept.note(&SweepReport { entries: 10, expired: 4, percent: 1 });
        swept.note(&SweepReport { entries: 7, expired: 1, percent: 1 });
        assert_eq!(swept.entries.load(Ordering::Relaxed), 6);
        assert_eq!(swept.expired.load(Ordering::Relaxed), 5);
    }
}
