//! Brings back what somebody took away: links, addresses, routes, programs,
//! pins. Looks when the kernel tells of a change, and from time to time, for
//! it does not tell of all. Only what netd made itself is ever touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use netd_common::abi::{Address, Family};

use super::{
    Agent,
    host::{Look, Routes},
};
use crate::{
    controller::{self, Drift, Op, Repair, SeenLink},
    executor::Effects as _,
    kernel::{
        self,
        link::{add_connected_route, rename},
        sysctl,
        watch::Event,
    },
    model::{Id, IfName},
};

/// How often programs and pins are looked at: nothing tells when they go.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// What was heard of the host since it was last looked at, and what is known
/// to be amiss.
#[derive(Debug, Default)]
pub(super) struct Reconcile {
    /// Indices of links that lost filters.
    filters: BTreeSet<u32>,
    /// The kernel dropped events: any link may have lost filters.
    all_filters: bool,
    by: BTreeSet<String>,
    /// What failed and was told: once is enough.
    failed: BTreeSet<String>,
    /// How often each thing was put right of late.
    recent: BTreeMap<String, (u32, Instant)>,
}

/// Who undoes what was put right more often than this within [`PEACE`] is left
/// in peace for the rest of it.
const OFTEN: u32 = 8;
const PEACE: Duration = Duration::from_secs(10);

/// Whether the log hears of what was put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Log,
    Nobody,
}

impl Reconcile {
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Filters(index) => {
                self.filters.insert(index);
            }
            Event::By(who) => {
                self.by.insert(who);
            }
            Event::Resync => self.all_filters = true,
            Event::Links | Event::Addresses | Event::Routes => {}
        }
    }

    /// Whether something is to be put right now.
    fn may_repair(&mut self, what: &str, now: Instant) -> bool {
        self.recent.retain(|_, (_, since)| now.duration_since(*since) < PEACE);
        let (count, _) = self.recent.entry(what.to_owned()).or_insert((0, now));
        *count += 1;
        if *count == OFTEN + 1 {
            tracing::error!("{what}, again and again; it is left so for a while");
        }
        *count <= OFTEN
    }

    /// Who changed the host, for the log.
    fn take_by(&mut self) -> String {
        std::mem::take(&mut self.by).into_iter().collect::<Vec<_>>().join(", ")
    }
}

impl Agent {
    /// The host has changed: what is netd's is put right, then the datapath is
    /// told of the rest.
    pub(super) async fn follow(&mut self) -> anyhow::Result<()> {
        let by = self.reconcile.take_by();
        let mut look = self.look(Routes::MayHaveChanged).await?;
        if self.repair(&look, &by, Tell::Log).await {
            look = self.look(Routes::MayHaveChanged).await?;
        }
        self.mend(&look.links.iter().map(|link| link.index).collect::<Vec<_>>());
        self.collect_lost(&look.links).await;
        self.tell_host(look).await
    }

    /// Looks after programs and pins alone.
    pub(super) async fn look_after_programs(&mut self) {
        if self.mend(&[])
            && let Err(error) = self.refresh_host(Routes::AreTheSame).await
        {
            tracing::error!("failed to follow the host's links: {error:#}");
        }
    }

    /// Looks after links that no event told of.
    pub(super) async fn look_after_links(&mut self) {
        match self.look(Routes::MayHaveChanged).await {
            Ok(look) => {
                self.repair(&look, "", Tell::Log).await;
            }
            Err(error) => tracing::error!("failed to look after links: {error}"),
        }
    }

    /// Whether something had to be put back. `links`: the indices of all.
    fn mend(&mut self, links: &[u32]) -> bool {
        let mut filters: Vec<_> = std::mem::take(&mut self.reconcile.filters).into_iter().collect();
        if std::mem::take(&mut self.reconcile.all_filters) {
            filters.extend(links);
        }
        match self.work.datapath.mend(&filters) {
            Ok(back) => {
                for what in &back {
                    tracing::warn!("{what} was taken away; it is back");
                    self.monitor.tell_repair(&format!("{what} was taken away"), "");
                }
                self.reconcile.failed.remove(PROGRAMS);
                !back.is_empty()
            }
            Err(error) => {
                self.reconcile.filters.extend(filters);
                let error = anyhow::Error::from(error);
                if self.reconcile.failed.insert(PROGRAMS.to_owned()) {
                    tracing::error!("failed to look after programs and pins: {error:#}");
                }
                false
            }
        }
    }

    /// Brings back what is netd's own and is not in `look`. Whether anything
    /// was amiss.
    pub(super) async fn repair(&mut self, look: &Look, by: &str, tell: Tell) -> bool {
        let drifts = self.drift(look);
        if drifts.is_empty() {
            self.reconcile.failed.retain(|failed| failed == PROGRAMS);
            return false;
        }
        self.work.kernel.lost = self.lost_indices();
        let mut failed = BTreeSet::new();
        for Drift { what, repairs } in drifts {
            let what = what.to_string();
            if !self.reconcile.may_repair(&what, Instant::now()) {
                continue;
            }
            let mut result = Ok(());
            for repair in &repairs {
                result = self.carry_out_repair(repair).await;
                if result.is_err() {
                    break;
                }
            }
            match result {
                Ok(()) if tell == Tell::Nobody => tracing::debug!("{what}; it is made"),
                Ok(()) => {
                    if by.is_empty() {
                        tracing::warn!("{what}; it is as it was again");
                    } else {
                        tracing::warn!(by, "{what}; it is as it was again");
                    }
                    self.monitor.tell_repair(&what, by);
                }
                Err(error) => {
                    if !self.reconcile.failed.contains(&what) {
                        tracing::error!("{what}, and failed to put it right: {error:#}");
                    }
                    failed.insert(what);
                }
            }
        }
        self.end_flows_of_moved();
        self.reconcile.failed.retain(|failed| failed == PROGRAMS);
        self.reconcile.failed.append(&mut failed);
        true
    }

    async fn carry_out_repair(&mut self, repair: &Repair) -> anyhow::Result<()> {
        match repair {
            Repair::Op(op) => self.work.apply(op).await?,
            Repair::Route { link, address } => {
                add_connected_route(&self.work.kernel.netlink, link, *address).await?;
            }
            Repair::Rename { index, name } => {
                rename(&self.work.kernel.netlink, *index, name).await?;
            }
        }
        Ok(())
    }

    fn drift(&self, look: &Look) -> Vec<Drift> {
        let links = seen(look);
        controller::drift(&self.state, &links, |container| kernel::netns::exists(&container.netns))
    }

    /// Removes the namespaces and run directories of containers that the state
    /// does not know.
    pub(super) fn remove_unknown_files(&self) {
        let unknown = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let unknown = entries.filter(|entry| {
                let id = entry.file_name().into_string().ok().and_then(|it| Id::try_from(it).ok());
                id.is_some_and(|id| !self.state.containers.contains_key(&id))
            });
            unknown.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        for path in unknown(&self.paths.netns_dir()) {
            match kernel::netns::remove(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed a sandbox of nobody's"),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        for path in unknown(&self.paths.containers_dir()) {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed files of nobody's"),
                Err(error) => tracing::warn!(path = %path.display(), "{error}"),
            }
        }
    }

    /// The numbers by which the datapath knows netd's own links.
    fn lost_indices(&self) -> std::collections::HashMap<IfName, u32> {
        let tables = &self.work.datapath.tables;
        let bridges = self.state.networks.values().filter_map(|network| {
            let family = |family| tables.bridge(network.index, family);
            let index = family(Family::V4).or_else(|| family(Family::V6))?;
            Some((network.bridge.clone(), index))
        });
        let endpoints = self.state.containers.values().flat_map(|it| &it.endpoints);
        let veths = endpoints.filter_map(|endpoint| {
            let known = tables.endpoint(endpoint.address.ip())?;
            Some((endpoint.host_link.clone(), known.ifindex))
        });
        bridges.chain(veths).collect()
    }

    /// The flows of links that came back under another number lead nowhere.
    fn end_flows_of_moved(&mut self) {
        let lost = std::mem::take(&mut self.work.kernel.lost);
        let endpoints = self.state.containers.values().flat_map(|it| &it.endpoints);
        let moved: Vec<Address> = endpoints
            .filter(|endpoint| {
                let known = self.work.datapath.tables.endpoint(endpoint.address.ip());
                known.is_some_and(|known| {
                    lost.get(&endpoint.host_link).is_some_and(|index| *index != known.ifindex)
                })
            })
            .flat_map(|endpoint| endpoint.known_as().map(Address::from))
            .collect();
        if !moved.is_empty() {
            self.work.end_flows_of(moved);
        }
    }
}

/// Programs and pins, among what has failed.
const PROGRAMS: &str = "programs";

/// A look at the host as the controller takes it.
fn seen(look: &Look) -> Vec<SeenLink> {
    let mut addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for address in &look.addresses {
        addresses.entry(address.link).or_default().push(address.address);
    }
    let mut routes: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for route in look.routes.iter().flat_map(|routes| &routes.main) {
        if let Some(link) = route.link {
            routes.entry(link).or_default().push(route.destination);
        }
    }
    let forwards = |name: &str| match name.parse() {
        Ok(name) => (sysctl::forwards(&name), sysctl::forwards6(&name)),
        Err(_) => (false, false),
    };
    look.links
        .iter()
        .map(|link| SeenLink {
            index: link.index,
            name: link.name.clone(),
            alias: link.alias.clone(),
            master: link.master,
            mtu: link.mtu,
            mac: link.mac,
            up: link.up,
            addresses: addresses.remove(&link.index).unwrap_or_default(),
            routes: routes.remove(&link.index).unwrap_or_default(),
            forwards: if link.kind == "bridge" { forwards(&link.name) } else { (true, true) },
        })
        .collect()
}

/// Whether an op restores a container whose sandbox no longer exists.
pub(super) fn is_lost(op: &Op) -> bool {
    match op {
        Op::Veth { netns: Some(path), .. } => !kernel::netns::exists(path),
        // Its runtime has taken the peer away for good.
        Op::Veth { netns: None, host, .. } => nix::net::if_::if_nametoindex(host.as_str()).is_err(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_not_kept_up() {
        let (mut reconcile, start) = (Reconcile::default(), Instant::now());
        let mut try_at = |ms| reconcile.may_repair("it is down", start + Duration::from_millis(ms));
        assert!((0..u64::from(OFTEN)).all(|n| try_at(n * 100)));
        assert!((10..90).all(|n| !try_at(n * 100)));
        assert!(try_at(10_000), "after a while it is tried again");
        assert!(reconcile.may_repair("another thing", start));
    }
}
