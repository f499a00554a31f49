//! Docker's own names and ids, learnt from its API: plugins are told neither a
//! container's nor a network's.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::docker::engine::{self, View},
    controller::{Change, State, network::PREDEFINED},
    model::{Container, ContainerState, Id, Name, Network, Owner},
};

/// What is called otherwise than Docker calls it. Nothing in the kernel
/// changes.
pub fn plan_names(state: &State, view: &View) -> Vec<Change> {
    let mut changes = networks(state, view);
    changes.extend(containers(state, view));
    changes
}

fn networks(state: &State, view: &View) -> Vec<Change> {
    let others = |known: &BTreeSet<&Id>| -> BTreeSet<&Name> {
        let own = state.networks.values().filter(|network| !known.contains(&network.id));
        own.map(|network| &network.name).collect()
    };
    let known: Vec<(&Network, &engine::Network)> = view
        .networks
        .iter()
        .filter_map(|seen| {
            let id = Id::try_from(seen.id.clone()).ok()?;
            let network = state.networks.get(&id)?;
            (network.owner == Owner::Docker).then_some((network, seen))
        })
        .collect();
    let taken = others(&known.iter().map(|(network, _)| &network.id).collect());
    let renamed = known.into_iter().filter_map(|(network, seen)| {
        let free = |name: &Name| !taken.contains(name) && !PREDEFINED.contains(&name.as_str());
        let called = Network {
            name: seen.name.parse().ok().filter(free).unwrap_or_else(|| network.name.clone()),
            labels: seen.labels.clone().unwrap_or_default(),
            ..network.clone()
        };
        (called != *network).then_some(Change::PutNetwork(called))
    });
    renamed.collect()
}

fn containers(state: &State, view: &View) -> Vec<Change> {
    let records: BTreeMap<&str, &Container> = state
        .containers
        .values()
        .filter(|it| it.owner == Owner::Docker && it.state == ContainerState::Joined)
        .flat_map(|it| it.endpoints.iter().map(move |endpoint| (endpoint.id.as_str(), it)))
        .collect();
    let known: Vec<(&Container, &engine::Container)> = view
        .containers
        .iter()
        .filter_map(|seen| Some((*seen.endpoints().find_map(|id| records.get(id))?, seen)))
        .collect();
    let ids: BTreeSet<&Id> = known.iter().map(|(record, _)| &record.id).collect();
    let others = state.containers.values().filter(|it| !ids.contains(&it.id));
    let taken: BTreeSet<&Name> = others.map(|it| &it.name).collect();

    let (mut gone, mut called) = (vec![], vec![]);
    for (record, seen) in known {
        let Ok(id) = Id::try_from(seen.id.clone()) else { continue };
        let name: Option<Name> = seen.name().and_then(|name| name.parse().ok());
        let Some(name) =
            name.filter(|name| !taken.contains(name)).or_else(|| id.short().parse().ok())
        else {
            continue;
        };
        let command = if seen.command.is_empty() { vec![] } else { vec![seen.command.clone()] };
        let new = Container { id, name, command, ..record.clone() };
        if new != *record {
            if new.id != record.id {
                gone.push(Change::RemoveContainer(record.id.clone()));
            }
            called.push(Change::PutContainer(new));
        }
    }
    gone.into_iter().chain(called).collect()
}
