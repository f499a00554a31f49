use super::fixture::{World, container, on};
use crate::{
    api::types::NetworkCreate,
    controller::{Op, desired_ops, plan_mtu},
};

fn follow(world: &mut World, mtu: u32) -> usize {
    let plan = plan_mtu(&world.state, &world.host.config, mtu);
    let steps = plan.steps.len();
    world.run(plan);
    steps
}

fn network(world: &mut World, name: &str, ipv6: bool, mtu: Option<&str>) {
    let option = |mtu: &str| ("com.docker.network.driver.mtu".to_owned(), mtu.to_owned());
    let options = mtu.map(option).into_iter().collect();
    let request = NetworkCreate { name: name.into(), ipv6, options, ..NetworkCreate::default() };
    world.create_network(&request).unwrap();
}

#[test]
fn networks_without_an_mtu_of_their_own_follow_the_hosts() {
    let mut world = World::new();
    network(&mut world, "fixed", false, Some("1400"));
    network(&mut world, "free", false, None);
    for (net, name) in [("bridge", "a"), ("fixed", "b"), ("free", "c")] {
        world.create(&on(net, name)).unwrap();
    }
    assert_eq!(follow(&mut world, 1450), 4, "two bridges, two pairs");
    let mtus = ["bridge", "fixed", "free"].map(|name| world.get_network(name).mtu);
    assert_eq!(mtus, [1450, 1400, 1450]);
    let shown = &world.get_network("bridge").options["com.docker.network.driver.mtu"];
    assert_eq!(shown, "1450");
    assert_eq!(follow(&mut world, 1450), 0);
    assert_eq!(follow(&mut world, 9000), 4);
    // Kernel and state agree on it: a restart changes nothing.
    for op in desired_ops(&world.state) {
        assert!(world.made.contains(&op), "{op:?}");
    }
}

#[test]
fn the_configured_mtu_is_followed_instead() {
    let mut world = World::new();
    world.host.config.mtu = Some(1420);
    follow(&mut world, 1500);
    assert_eq!(world.get_network("bridge").mtu, 1420);
}

#[test]
fn ipv6_keeps_its_least() {
    let mut world = World::new();
    network(&mut world, "six", true, None);
    follow(&mut world, 1000);
    assert_eq!((world.get_network("six").mtu, world.get_network("bridge").mtu), (1280, 1000));
}

#[test]
fn a_smaller_mtu_reaches_the_senders_first() {
    let mut world = World::new();
    world.create(&container("web")).unwrap();
    let order = |mtu| {
        let plan = plan_mtu(&world.state, &world.host.config, mtu);
        plan.steps.iter().map(|step| matches!(step.op, Op::BridgeMtu { .. })).collect::<Vec<_>>()
    };
    assert_eq!(order(1400), [false, true]);
    assert_eq!(order(9000), [true, false]);
}
