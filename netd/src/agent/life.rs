//! What became of containers, networks, ports and uplinks, for `netd monitor`:
//! told from what has changed, whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        monitor::{LifeEvent, MonitorEvent},
        rows,
    },
    controller::{Change, State},
    model::{Container, ContainerState, Endpoint, Network, PortMapping},
};

/// The events of `change`, which `state` does not have yet.
pub(super) fn events(state: &State, change: &Change) -> Vec<MonitorEvent> {
    match change {
        Change::PutNetwork(network) => put_network(state.networks.get(&network.id), network),
        Change::RemoveNetwork(id) => {
            let gone = state.networks.get(id).map(|network| of_network(network, "remove"));
            gone.into_iter().collect()
        }
        Change::PutContainer(container) => {
            put_container(state, state.containers.get(&container.id), container)
        }
        Change::RemoveContainer(id) => match state.containers.get(id) {
            None => vec![],
            Some(container) => {
                let ends = container.endpoints.iter();
                let mut events: Vec<_> =
                    ends.flat_map(|endpoint| disconnected(state, container, endpoint)).collect();
                events.push(of_container(container, "remove", String::new()));
                events
            }
        },
        // A pool is of a network that tells of itself.
        Change::PutPool(_) | Change::RemovePool(_) | Change::Lease(..) | Change::Release(..) => {
            vec![]
        }
    }
}

/// Uplinks by name, with their addresses: what is different.
pub(super) fn uplinks(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<MonitorEvent> {
    let event = |link: &str, action: &str, detail: String| {
        let about =
            LifeEvent { interface: Some(link.to_owned()), ..LifeEvent::new(action, detail) };
        MonitorEvent::Uplink(about)
    };
    let gone = old.keys().filter(|link| !new.contains_key(*link));
    let gone = gone.map(|link| event(link, "remove", String::new()));
    let come = new.iter().filter_map(|(link, addresses)| match old.get(link) {
        None => Some(event(link, "add", addresses.clone())),
        Some(before) if before == addresses => None,
        Some(before) => Some(event(link, "change", format!("{before} -> {addresses}"))),
    });
    gone.chain(come).collect()
}

fn put_network(old: Option<&Network>, new: &Network) -> Vec<MonitorEvent> {
    match old {
        None => vec![of_network(new, "create")],
        Some(old) if old == new => vec![],
        Some(_) => vec![of_network(new, "update")],
    }
}

fn put_container(state: &State, old: Option<&Container>, new: &Container) -> Vec<MonitorEvent> {
    let mut events = vec![];
    if old.is_none() {
        events.push(of_container(new, "create", new.command.join(" ")));
    }
    let before = old.map_or(&[][..], |old| &old.endpoints);
    let find = |all: &[Endpoint], one: &Endpoint| all.iter().find(|it| it.id == one.id).cloned();
    for endpoint in &new.endpoints {
        let known = find(before, endpoint);
        if known.is_none() {
            events.push(of_endpoint(state, new, endpoint, "connect"));
        }
        // There may be ten thousand.
        let known: BTreeSet<_> = known.iter().flat_map(|endpoint| &endpoint.ports).collect();
        let ports: BTreeSet<_> = endpoint.ports.iter().collect();
        let gone = known.difference(&ports);
        events.extend(gone.map(|port| of_port(state, new, endpoint, port, "unpublish")));
        let come = ports.difference(&known);
        events.extend(come.map(|port| of_port(state, new, endpoint, port, "publish")));
    }
    for endpoint in before.iter().filter(|it| find(&new.endpoints, it).is_none()) {
        events.extend(disconnected(state, new, endpoint));
    }
    let (was, is) = (old.map(|old| rows::state_word(&old.state)), rows::state_word(&new.state));
    if was.is_some_and(|was| was != is) {
        events.push(match &new.state {
            ContainerState::Running(process) => {
                of_container(new, "start", format!("pid {}", process.pid))
            }
            ContainerState::Exited { code: Some(code) } => {
                of_container(new, "exit", format!("code {code}"))
            }
            ContainerState::Exited { code: None } => of_container(new, "exit", String::new()),
            ContainerState::Joined => of_container(new, "start", String::new()),
            ContainerState::Created => of_container(new, is, String::new()),
        });
    }
    events
}

/// An endpoint that goes, and its ports before it.
fn disconnected(state: &State, container: &Container, endpoint: &Endpoint) -> Vec<MonitorEvent> {
    let ports = endpoint.ports.iter();
    let ports = ports.map(|port| of_port(state, container, endpoint, port, "unpublish"));
    ports.chain([of_endpoint(state, container, endpoint, "disconnect")]).collect()
}

fn of_network(network: &Network, action: &str) -> MonitorEvent {
    let subnets: Vec<_> = network.pools.iter().map(|pool| pool.subnet.to_string()).collect();
    MonitorEvent::Network(LifeEvent {
        network: Some(network.name.to_string()),
        ..LifeEvent::new(action, subnets.join(" "))
    })
}

fn of_container(container: &Container, action: &str, detail: String) -> MonitorEvent {
    MonitorEvent::Container(LifeEvent {
        container: Some(container.name.to_string()),
        ..LifeEvent::new(action, detail)
    })
}

fn of_endpoint(
    state: &State,
    container: &Container,
    endpoint: &Endpoint,
    action: &str,
) -> MonitorEvent {
    let addresses: Vec<_> = endpoint.addresses().map(|it| it.ip().to_string()).collect();
    MonitorEvent::Network(LifeEvent {
        container: Some(container.name.to_string()),
        network: Some(network_name(state, endpoint)),
        ..LifeEvent::new(action, addresses.join(" "))
    })
}

fn of_port(
    state: &State,
    container: &Container,
    endpoint: &Endpoint,
    port: &PortMapping,
    action: &str,
) -> MonitorEvent {
    let from = port.from.iter().map(|from| format!(",from={from}"));
    MonitorEvent::Port(LifeEvent {
        container: Some(container.name.to_string()),
        network: Some(network_name(state, endpoint)),
        ..LifeEvent::new(action, [port.to_string()].into_iter().chain(from).collect::<String>())
    })
}

fn network_name(state: &State, endpoint: &Endpoint) -> String {
    let network = state.networks.get(&endpoint.network);
    network.map_or_else(|| endpoint.network.short().to_owned(), |it| it.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::ContainerCreate,
        controller::{
            Force, Plan,
            tests::fixture::{World, on},
        },
    };

    /// What `plan` is told as, without its times.
    fn told(world: &mut World, plan: &Plan) -> Vec<String> {
        let mut told = vec![];
        for change in &plan.changes {
            told.extend(events(&world.state, change).iter().map(text));
            world.state.commit(change.clone());
        }
        told
    }

    fn text(event: &MonitorEvent) -> String {
        let LifeEvent { action, container, network, interface, detail, .. } =
            event.life().expect("not a drop");
        let who: Vec<_> =
            [container, network, interface].into_iter().flatten().map(String::as_str).collect();
        format!("{} {action} {} {detail}", event.kind(), who.join("@")).trim_end().to_owned()
    }

    #[test]
    fn a_container_is_told_from_its_creation_to_its_removal() {
        let mut world = World::new();
        world.network("blue", "172.18.0.0/24").unwrap();
        let request = ContainerCreate {
            publish: vec!["8080:80,from=10.0.0.0/8".into()],
            ..on("blue", "web")
        };
        let (plan, _) =
            crate::controller::plan_container_create(&world.state, &world.host, &request).unwrap();
        let come = told(&mut world, &plan);
        assert_eq!(
            come,
            [
                "container create web sleep 1d",
                "network connect web@blue 172.18.0.2",
                "port publish web@blue 0.0.0.0:8080->80/tcp,from=10.0.0.0/8",
            ]
        );
        let process = crate::model::Process { shim: 10, pid: 11, start_time: 12 };
        let plan = crate::controller::plan_started(&world.state, "web", process).unwrap();
        assert_eq!(told(&mut world, &plan), ["container start web pid 11"]);
        let plan =
            crate::controller::plan_exited(&world.state, &world.host, "web", Some(3)).unwrap();
        let gone = told(&mut world, &plan);
        assert_eq!(
            gone,
            [
                "port unpublish web@blue 0.0.0.0:8080->80/tcp,from=10.0.0.0/8",
                "network disconnect web@blue 172.18.0.2",
                "container exit web code 3",
            ]
        );
        let plan =
            crate::controller::plan_container_remove(&world.state, &world.host, "web", Force::Yes);
        assert_eq!(told(&mut world, &plan.unwrap()), ["container remove web"]);
    }

    #[test]
    fn networks_come_and_go() {
        let mut world = World::new();
        let request = crate::api::types::NetworkCreate {
            name: "blue".into(),
            subnets: vec!["10.1.0.0/16".into()],
            ..Default::default()
        };
        let (plan, _) =
            crate::controller::plan_network_create(&world.state, &world.host, &request).unwrap();
        assert_eq!(told(&mut world, &plan), ["network create blue 10.1.0.0/16"]);
        let plan = crate::controller::plan_network_remove(&world.state, "blue").unwrap();
        assert_eq!(told(&mut world, &plan), ["network remove blue 10.1.0.0/16"]);
    }

    #[test]
    fn uplinks_are_told_by_what_is_different() {
        let map = |all: &[(&str, &str)]| {
            all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let old = map(&[("eth0", "192.0.2.1"), ("eth1", ""), ("eth2", "10.0.0.1")]);
        let new = map(&[("eth0", "192.0.2.9"), ("eth2", "10.0.0.1"), ("eth3", "10.1.0.1")]);
        let told: Vec<_> = uplinks(&old, &new).iter().map(text).collect();
        assert_eq!(
            told,
            [
                "uplink remove eth1",
                "uplink change eth0 192.0.2.1 -> 192.0.2.9",
                "uplink add eth3 10.1.0.1",
            ]
        );
        assert!(uplinks(&new, &new).is_empty());
    }
}
