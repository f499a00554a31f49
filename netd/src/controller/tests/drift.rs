//! What counts as gone or changed, and what brings it back.

use super::fixture::{World, container, on};
use crate::{
    controller::{Op, Repair, SeenLink, What, drift, own_network},
    kernel::names,
    model::IfName,
};

/// The default network and another, a container on each.
fn world() -> World {
    let mut world = World::new();
    world.network("mine", "172.18.0.0/16").unwrap();
    world.create(&container("web")).unwrap();
    world.create(&on("mine", "api")).unwrap();
    world
}

/// The host as the plans have left it.
fn seen(world: &World) -> Vec<SeenLink> {
    let mut links: Vec<SeenLink> = Vec::new();
    for op in &world.made {
        let index = u32::try_from(links.len()).unwrap() + 1;
        match op {
            Op::Bridge { name, mac, mtu, addresses } => links.push(SeenLink {
                index,
                name: name.to_string(),
                alias: Some(names::bridge_alias(*mac)),
                master: None,
                mtu: *mtu,
                mac: Some(*mac),
                up: true,
                addresses: addresses.clone(),
                routes: addresses.iter().filter_map(|it| own_network(*it)).collect(),
                forwards: (true, true),
            }),
            Op::Veth { endpoint, host, mtu, bridge, .. } => {
                let master = links.iter().find(|link| link.name == bridge.as_str());
                links.push(SeenLink {
                    index,
                    name: host.to_string(),
                    alias: Some(names::veth_alias(endpoint)),
                    master: master.map(|bridge| bridge.index),
                    mtu: *mtu,
                    mac: None,
                    up: true,
                    addresses: vec![],
                    routes: vec![],
                    forwards: (true, true),
                });
            }
            _ => {}
        }
    }
    links
}

fn found(world: &World, links: &[SeenLink]) -> Vec<(What, Vec<Repair>)> {
    let found = drift(&world.state, links, |_| true);
    found.into_iter().map(|drift| (drift.what, drift.repairs)).collect()
}

fn name(name: &str) -> IfName {
    name.parse().unwrap()
}

#[test]
fn what_is_as_it_was_made_needs_nothing() {
    let world = world();
    let mut links = seen(&world);
    assert!(found(&world, &links).is_empty());
    // Links of others come and go.
    links.push(SeenLink { name: "docker0".into(), alias: None, up: false, ..links[0].clone() });
    assert!(found(&world, &links).is_empty());
}

#[test]
fn a_bridge_that_is_gone_is_made_again_and_its_veths_are_put_back_in_it() {
    let world = world();
    let mut links = seen(&world);
    links.retain(|link| link.name != "netd0");
    let found = found(&world, &links);
    let [(What::BridgeGone(bridge), repairs)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*bridge, name("netd0"));
    assert!(matches!(
        repairs[..],
        [
            Repair::Op(Op::Bridge { .. }),
            Repair::Op(Op::Network { .. }),
            Repair::Op(Op::Veth { .. })
        ]
    ));
}

#[test]
fn a_veth_that_is_gone_comes_back_with_all_that_was_in_the_container() {
    let world = world();
    let mut links = seen(&world);
    let host = world.get("web").endpoints[0].host_link.clone();
    links.retain(|link| link.name != host.as_str());
    let found = found(&world, &links);
    let [(What::VethGone { link, container }, repairs)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((link, container.as_str()), (&host, "web"));
    assert!(matches!(
        repairs[..],
        [
            Repair::Op(Op::Veth { .. }),
            Repair::Op(Op::Programs { .. }),
            Repair::Op(Op::Lease { .. }),
            Repair::Op(Op::Interface { .. })
        ]
    ));
    assert!(drift(&world.state, &links, |_| false).is_empty(), "its sandbox has gone");
}

#[test]
fn each_thing_that_is_changed_is_told_by_itself() {
    let world = world();
    let change = |change: fn(&mut SeenLink)| {
        let mut links = seen(&world);
        change(links.iter_mut().find(|link| link.name == "netd0").unwrap());
        found(&world, &links).into_iter().map(|(what, _)| what.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(change(|link| link.up = false), ["link `netd0` was set down"]);
    assert_eq!(change(|link| link.mtu = 1400), ["the MTU of `netd0` was set to 1400"]);
    assert_eq!(change(|link| link.alias = None), ["the alias of `netd0` was removed"]);
    assert_eq!(change(|link| link.forwards.0 = false), ["forwarding of `netd0` was switched off"]);
    assert!(change(|link| link.forwards.1 = false).is_empty(), "it has no IPv6");
    assert_eq!(
        change(|link| link.addresses.clear()),
        ["the address 172.17.0.1/16 of `netd0` was removed"]
    );
    assert_eq!(
        change(|link| link.routes.clear()),
        ["the route to 172.17.0.0/16 over `netd0` was removed"]
    );
    assert_eq!(change(|link| link.name = "mine".into()), ["link `netd0` was renamed to `mine`"]);
}
