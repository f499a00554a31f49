//! Docker's calls, one a line, in any order, carried out on a host without a
//! kernel.
//!
//! A line is a method and a body: `NetworkDriver.Leave {"EndpointID": "…"}`. In
//! bodies, `@1` to `@9` stand for ids, of 64 digits of that.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    api::docker::calls::{self, Call, Driver, Said},
    controller::{Error, Plan, docker, tests::fixture::World},
};

/// Calls that one input makes at most.
const CALLS: usize = 32;
/// Ports of one endpoint: beyond, an input is only slow.
const PORTS: usize = 300;

pub(super) fn play(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut world = World::new();
    for line in text.split('\n').take(CALLS) {
        let (method, body) = line.split_once(' ').unwrap_or((line, ""));
        let body = with_ids(body);
        match calls::read(method, body.as_bytes()) {
            Some(Ok(Said::Call(call))) if is_small(&call) => carry_out(&mut world, &call),
            Some(Ok(Said::Call(_))) | None => {}
            Some(Ok(Said::Constant(answer))) => assert!(answer.is_object()),
            Some(Err(error)) => {
                let answer = Driver::of(method).error(&error.to_string());
                assert!(matches!(answer, Value::Object(keys) if keys.len() == 1));
            }
        }
    }
    end(&mut world);
}

fn with_ids(body: &str) -> Cow<'_, str> {
    if !body.contains('@') {
        return body.into();
    }
    let mut text = String::with_capacity(body.len() + 256);
    let mut rest = body;
    while let Some((before, behind)) = rest.split_once('@') {
        text.push_str(before);
        if let Some(digit @ '1'..='9') = behind.chars().next() {
            text.extend(std::iter::repeat_n(digit, 64));
            rest = &behind[1..];
        } else {
            text.push('@');
            rest = behind;
        }
    }
    text.push_str(rest);
    text.into()
}

fn is_small(call: &Call) -> bool {
    let Call::Program(program) = call else { return true };
    program.options.bindings.len() <= PORTS
}

fn carry_out(world: &mut World, call: &Call) {
    // Docker sends some again after a failure: the same call must then find
    // what the first one made, or be refused; it changes no more.
    let Some(Ok(first)) = plan(world, call) else { return };
    journal(&first);
    world.run(first);
    world.assert_consistent();
    let again = plan(world, call);
    let repeats = !matches!(call, Call::RequestAddress(_) | Call::RequestPool(_));
    if repeats && let Some(Ok(again)) = again {
        let state = world.state.clone();
        world.run(again);
        assert_eq!(world.state, state, "a replay of {call:?}");
    }
}

/// `None`: the call changes nothing.
fn plan(world: &World, call: &Call) -> Option<Result<Plan, Error>> {
    let (state, host) = (&world.state, &world.host);
    Some(match call {
        Call::CreateNetwork(it) => docker::plan_docker_network(state, host, it),
        Call::DeleteNetwork(it) => docker::plan_docker_network_remove(state, &it.network_id),
        Call::CreateEndpoint(it) => docker::plan_create_endpoint(state, host, it).map(|it| it.0),
        Call::EndpointInfo(it) => {
            let _ = docker::endpoint_by_id(state, &it.endpoint_id);
            return None;
        }
        Call::Join(it) => docker::plan_join(state, it).map(|it| it.0),
        Call::Leave(it) => docker::plan_leave(state, it),
        Call::DeleteEndpoint(it) => docker::plan_delete_endpoint(state, it),
        Call::Program(it) => docker::plan_program(state, host, it),
        Call::Revoke(it) => docker::plan_revoke(state, it),
        Call::RequestPool(it) => docker::plan_request_pool(state, host, it).map(|it| it.0),
        Call::ReleasePool(it) => Ok(docker::plan_release_pool(state, it)),
        Call::RequestAddress(it) => docker::plan_request_address(state, it).map(|it| it.0),
        Call::ReleaseAddress(it) => docker::plan_release_address(state, it),
    })
}

/// A plan outlives a crash as it is.
fn journal(plan: &Plan) {
    let written = serde_json::to_vec(plan).expect("a plan is JSON");
    let read: Plan = serde_json::from_slice(&written).expect("it is read again");
    assert_eq!(read, *plan);
}

/// Whatever was made can be collected, and nothing is left of it.
fn end(world: &mut World) {
    let endpoints: Vec<_> = world
        .state
        .containers
        .values()
        .flat_map(|it| &it.endpoints)
        .map(|it| it.id.clone())
        .collect();
    for id in endpoints {
        let plan = docker::plan_collect(&world.state, &docker::Lost::Endpoint(id));
        world.run(plan.expect("any endpoint can be forgotten"));
    }
    assert!(world.state.containers.is_empty());
    let networks: Vec<_> = world.state.networks.values().cloned().collect();
    for network in networks {
        if network.name.as_str() == crate::model::DEFAULT_NETWORK {
            continue;
        }
        let plan = docker::plan_docker_network_remove(&world.state, network.id.as_str());
        world.run(plan.expect("an empty network can be removed"));
    }
    assert_eq!(world.state.networks, World::new().state.networks);
    assert_eq!(crate::controller::desired_ops(&world.state).len(), world.made.len());
}
