//! What Docker seems to have lost, and that all else stays.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    docker::{NET, SANDBOX, WEB, network, read},
    fixture::{World, text},
};
use crate::{
    api::docker::engine::View,
    controller::docker::{self, Lost},
    model::Id,
};

fn id(text: &str) -> Id {
    Id::try_from(text.to_owned()).expect("an id of the tests")
}

impl World {
    /// With these links of the host's, and the sandbox there or not.
    fn lost(&self, links: &[&str], sandbox: bool) -> BTreeSet<Lost> {
        docker::lost(&self.state, |name| links.contains(&name), |_| sandbox)
    }

    fn collect(&mut self, lost: &Lost) {
        let plan = docker::plan_collect(&self.state, lost).expect("what is lost can go");
        self.run(plan);
    }
}

#[test]
fn a_lease_of_a_living_endpoint_stays_and_a_strayed_one_is_seen() {
    let mut world = World::new();
    let pool = world.pool(json!({ "Pool": "172.30.0.0/16" })).unwrap();
    assert_eq!(world.lease(&pool, "", true).unwrap(), "172.30.0.1/16");
    world.docker_network(&network("172.30.0.0/16", &json!({}))).unwrap();
    assert_eq!(world.lease(&pool, "172.30.0.10", false).unwrap(), "172.30.0.10/16");
    let strayed = Lost::Lease(pool.clone().into(), "172.30.0.10".parse().unwrap());
    assert_eq!(world.lost(&[], false), [strayed.clone()].into());
    world.create_endpoint(WEB, json!({ "Address": "172.30.0.10/16" })).unwrap();
    assert!(!world.lost(&[], false).contains(&strayed));
    world.release(&pool, "172.30.0.10");
    assert_eq!(text(world.lease(&pool, "172.30.0.10", false)), "Address already in use");
    // What netd collects takes its lease with it.
    world.collect(&Lost::Endpoint(id(WEB)));
    assert_eq!(world.lease(&pool, "172.30.0.10", false).unwrap(), "172.30.0.10/16");
    world.collect(&strayed);
    assert!(world.lost(&[], false).is_empty());
}

#[test]
fn an_endpoint_is_lost_outside_of_a_sandbox_and_with_it() {
    let mut world = World::new();
    world.docker_network(&network("172.30.0.0/16", &json!({}))).unwrap();
    world.create_endpoint(WEB, json!({})).unwrap();
    let (host, peer) = ("ndaaaaaaaaaa", "ncaaaaaaaaaa");
    let outside = BTreeSet::from([Lost::Outside(id(WEB))]);
    assert_eq!(world.lost(&[host, peer], false), outside);
    world.join(WEB, SANDBOX).unwrap();
    assert!(world.lost(&[host, peer], true).is_empty(), "Docker is about to move it");
    assert_eq!(world.lost(&[host, peer], false), outside);
    assert!(world.lost(&[host], true).is_empty());
    assert!(world.lost(&[], true).is_empty(), "Docker has it to clean up");
    let dead = Lost::Dead(id(WEB));
    assert_eq!(world.lost(&[], false), [dead.clone()].into());
    world.collect(&dead);
    assert!(world.state.containers.is_empty());
}

#[test]
fn what_docker_does_not_list_is_lost_and_what_it_writes_otherwise_is_not() {
    let mut world = World::new();
    let pool = world.pool(json!({ "Pool": "fd00:5::/64", "V6": true })).unwrap();
    world.docker_network(&network("172.30.0.0/16", &json!({}))).unwrap();
    world.create_endpoint(WEB, json!({})).unwrap();
    let view = |subnet: &str| View {
        networks: read(json!([{ "Id": NET, "IPAM": { "Config": [{ "Subnet": subnet }] } }])),
        containers: read(json!([{
            "Id": "c", "NetworkSettings": { "Networks": { "mynet": { "EndpointID": WEB } } },
        }])),
    };
    assert!(docker::unlisted(&world.state, &view("FD00:0005::/64")).is_empty());
    let pool = Lost::Pool(pool.into());
    assert_eq!(docker::unlisted(&world.state, &view("fd00:6::/64")), [pool.clone()].into());
    let all = docker::unlisted(&world.state, &View::default());
    assert_eq!(all, [Lost::Endpoint(id(WEB)), Lost::Network(id(NET)), pool].into());
    assert!(all.iter().all(Lost::is_unlisted));
    for lost in &all {
        world.collect(lost);
    }
    assert!(docker::unlisted(&world.state, &View::default()).is_empty());
    assert_eq!((world.state.networks.len(), world.state.pools.len()), (1, 0));
}
