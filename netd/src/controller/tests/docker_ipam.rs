//! Docker's requests to netd as its IPAM driver.

use serde_json::json;

use super::{
    docker::read,
    fixture::{World, text},
};
use crate::controller::{Plan, docker};

#[test]
fn pools_are_given_once_and_step_around_each_other() {
    let mut world = World::new();
    let any = json!({ "AddressSpace": "netd-local", "Pool": "", "V6": false });
    let (first, second) = (world.pool(any.clone()).unwrap(), world.pool(any.clone()).unwrap());
    assert_eq!(
        (first.as_str(), second.as_str()),
        ("netd-local/172.18.0.0/16", "netd-local/172.19.0.0/16")
    );
    assert_eq!(
        text(world.pool(json!({ "Pool": "172.18.4.0/24" }))),
        "invalid pool request: Pool overlaps with other one on this address space"
    );
    assert_eq!(
        text(world.network("own", "172.19.0.0/24")),
        text(world.pool(json!({ "Pool": "172.18.0.0/16" })))
    );
    assert_eq!(world.pool(json!({ "Pool": "0.0.0.0/24" })).unwrap(), "netd-local/172.20.0.0/24");
    assert!(world.pool(json!({ "V6": true })).unwrap().starts_with("netd-local/fd"));
    let plan = docker::plan_release_pool(&world.state, &read(json!({ "PoolID": first })));
    world.run(plan);
    assert_eq!(
        docker::plan_release_pool(&world.state, &read(json!({ "PoolID": first }))),
        Plan::default()
    );
    assert_eq!(world.pool(any).unwrap(), first);
    assert_eq!(
        text(world.pool(json!({ "AddressSpace": "LocalDefault" }))),
        "unknown address space LocalDefault: netd-local or netd-global is expected"
    );
    assert_eq!(text(world.pool(json!({ "Options": { "x": "y" } }))), "unknown option `x`");
    let mut given = 0;
    while world.pool(json!({})).is_ok() {
        given += 1;
    }
    assert!(given < 40);
    assert_eq!(
        text(world.pool(json!({}))),
        "all predefined address pools have been fully subnetted"
    );
}

#[test]
fn addresses_are_leased_with_dockers_texts() {
    let mut world = World::new();
    let request = json!({ "Pool": "172.30.0.0/16", "SubPool": "172.30.5.0/29" });
    let pool = world.pool(request).unwrap();
    assert_eq!(pool, "netd-local/172.30.0.0/16/172.30.5.0/29");
    assert_eq!(world.lease(&pool, "", true).unwrap(), "172.30.0.1/16");
    assert_eq!(world.lease(&pool, "172.30.5.1", false).unwrap(), "172.30.5.1/16");
    let given: Vec<_> = (0..7).map(|_| world.lease(&pool, "", false).unwrap()).collect();
    assert_eq!(given[..2], ["172.30.5.0/16", "172.30.5.2/16"]);
    assert_eq!(
        text(world.lease(&pool, "", false)),
        format!("no available IPv4 addresses on address pool {pool}")
    );
    assert_eq!(text(world.lease(&pool, "172.30.5.2", false)), "Address already in use");
    assert_eq!(text(world.lease(&pool, "172.30.255.255", false)), "Address already in use");
    assert_eq!(
        text(world.lease(&pool, "10.0.0.1", false)),
        "no configured subnet contains IP address 10.0.0.1"
    );
    world.release(&pool, "172.30.5.2");
    world.release(&pool, "172.30.5.2");
    assert_eq!(world.lease(&pool, "", false).unwrap(), "172.30.5.2/16");
    assert_eq!(text(world.lease("nowhere", "", false)), "address pool nowhere not found");
    world.release("nowhere", "10.0.0.1");
}
