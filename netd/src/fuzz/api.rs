//! Requests as they come over the socket, one a line, and the plans that they
//! become, carried out on a host without a kernel.
//!
//! A line is a letter, a name and a body: `C - {"command": ["sleep"]}`.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{
        inspect, rows,
        types::{Connect, ContainerCreate, NetworkCreate, Ports, Started, Stop},
    },
    controller::{
        Error, Force, Plan, desired_ops, plan_connect, plan_container_create,
        plan_container_remove, plan_disconnect, plan_exited, plan_network_create,
        plan_network_remove, plan_prune, plan_publish, plan_started, plan_unpublish,
        tests::fixture::World,
    },
    model::Process,
};

/// Requests that one input makes at most.
const REQUESTS: usize = 32;
/// Published ports at a time: beyond, an input is only slow.
const PORTS: usize = 600;

pub(super) fn play(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut world = World::new();
    for line in text.split('\n').take(REQUESTS) {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (route, name, body) = (word(), word(), word());
        // A refusal must be one that its reader can do something with.
        if let Some(Err(error)) = request(&mut world, route, name, body) {
            assert!(!error.to_string().is_empty());
            let _ = (error.kind(), error.hint());
        }
        if ports(&world) > PORTS {
            return;
        }
        world.assert_consistent();
    }
    lists(&world);
    end(&mut world);
}

/// Plans what a line asks for and carries it out. `None`: it is no request.
fn request(world: &mut World, route: &str, name: &str, body: &str) -> Option<Result<(), Error>> {
    let (state, host) = (&world.state, &world.host);
    let plan = match route {
        "N" => plan_network_create(state, host, &read::<NetworkCreate>(body)?).map(|it| it.0),
        "n" => plan_network_remove(state, name),
        "P" => Ok(plan_prune(state).0),
        "C" => {
            let request = read::<ContainerCreate>(body)?;
            if !is_small(&request.publish) || !is_small(&request.expose) {
                return None;
            }
            plan_container_create(state, host, &request).map(|it| it.0)
        }
        "c" => plan_container_remove(state, host, name, Force::Yes),
        "r" => plan_container_remove(state, host, name, Force::No),
        "s" => {
            let started = read::<Started>(body)?;
            let process = Process { shim: started.shim, pid: started.pid, start_time: 1 };
            plan_started(state, name, process)
        }
        "e" => {
            let stop = read::<Stop>(body)?;
            plan_exited(state, host, name, i32::try_from(stop.timeout).ok())
        }
        "j" => plan_connect(state, host, name, &read::<Connect>(body)?),
        "d" => plan_disconnect(state, name, &read::<Connect>(body)?),
        "p" => {
            let specs = read::<Ports>(body)?.specs;
            if !is_small(&specs) {
                return None;
            }
            plan_publish(state, host, name, &specs).map(|it| it.0)
        }
        "u" => plan_unpublish(state, name, &read::<Ports>(body)?.specs),
        _ => return None,
    };
    Some(plan.map(|plan| {
        journal(&plan);
        world.run(plan);
    }))
}

/// A body, which is written as what it was read from.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: &str) -> Option<T> {
    let read: T = serde_json::from_str(body).ok()?;
    let written = serde_json::to_string(&read).expect("a request is JSON");
    assert_eq!(serde_json::from_str::<T>(&written).expect("it is read again"), read);
    Some(read)
}

/// Not a range of thousands of ports, whose plan is only long.
fn is_small(specs: &[String]) -> bool {
    let ports = |spec: &String| {
        spec.parse::<crate::model::PortSpec>().map_or(1, |spec| spec.container.len())
    };
    specs.iter().map(ports).sum::<usize>() <= PORTS / 2
}

/// A plan outlives a crash as it is.
fn journal(plan: &Plan) {
    let written = serde_json::to_vec(plan).expect("a plan is JSON");
    let read: Plan = serde_json::from_slice(&written).expect("it is read again");
    assert_eq!(read, *plan);
}

fn ports(world: &World) -> usize {
    let containers = world.state.containers.values();
    containers.flat_map(|it| &it.endpoints).map(|endpoint| endpoint.ports.len()).sum()
}

/// What readers are shown.
fn lists(world: &World) {
    let state = &world.state;
    assert_eq!(rows::networks(state).len(), state.networks.len());
    assert_eq!(rows::containers(state, true).len(), state.containers.len());
    let ports = ports(world);
    assert_eq!(rows::ports(state, state.containers.values()).len(), ports);
    assert!(rows::leases(state).len() >= state.networks.len());
    for network in state.networks.values() {
        serde_json::to_value(inspect::network(state, network)).expect("it is JSON");
    }
    for container in state.containers.values() {
        serde_json::to_value(inspect::container(state, container)).expect("it is JSON");
    }
    let _ = desired_ops(state);
}

/// Whatever was made can be taken back, and nothing is left.
fn end(world: &mut World) {
    let containers: Vec<_> = world.state.containers.keys().cloned().collect();
    for id in containers {
        let plan = plan_container_remove(&world.state, &world.host, id.as_str(), Force::Yes);
        world.run(plan.expect("any container can be removed by force"));
    }
    world.run(plan_prune(&world.state).0);
    assert_eq!(world.state, World::new().state);
    assert_eq!(desired_ops(&world.state).len(), world.made.len());
}
