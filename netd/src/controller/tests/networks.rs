use super::fixture::{World, container, on, text};
use crate::{
    api::types::NetworkCreate,
    controller::{Error, HostRoute, Op, desired_ops, plan_default_network, plan_prune},
    model::{ConfigFile, config::Config},
};

fn configured(text: &str) -> World {
    let mut world = World::bare();
    world.host.config = Config::try_from(text.parse::<ConfigFile>().unwrap()).unwrap();
    world
}

fn request(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.into(), ..NetworkCreate::default() }
}

fn with_option(key: &str, value: &str) -> NetworkCreate {
    NetworkCreate { options: [(key.to_owned(), value.to_owned())].into(), ..request("n") }
}

#[test]
fn the_default_network_takes_the_first_free_pool() {
    let world = World::new();
    let network = world.get_network("bridge");
    assert_eq!(network.bridge.as_str(), "netd0");
    assert_eq!(network.pools[0].subnet.to_string(), "172.17.0.0/16");
    assert_eq!(network.pools[0].gateway.to_string(), "172.17.0.1");
    assert_eq!(network.mtu, 1500);
    assert!(matches!(&world.made[..], [Op::Bridge { .. }, Op::Network { .. }]));
}

#[test]
fn planning_the_default_network_twice_changes_nothing() {
    let world = World::new();
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    assert!(plan.steps.is_empty() && plan.changes.is_empty());
}

#[test]
fn the_default_network_follows_the_configuration() {
    let mut world = configured(
        r#"{"bip": "10.5.0.1/24", "fixed-cidr": "10.5.0.128/25", "default-gateway": "10.5.0.254",
            "mtu": 1400, "icc": false, "ip-masq": false}"#,
    );
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    world.run(plan);
    world.create(&container("web")).unwrap();
    assert_eq!(world.address("web"), "10.5.0.128/24");
    let gateway = world.made.iter().find_map(|op| match op {
        Op::Interface { gateways, .. } => gateways.first(),
        _ => None,
    });
    assert_eq!(gateway, Some(&"10.5.0.254".parse().unwrap()));
    assert!(world.made.iter().any(|op| matches!(op, Op::Network { flags: 0, .. })));
    assert!(world.made.iter().any(|op| matches!(op, Op::Veth { mtu: 1400, .. })));
}

#[test]
fn a_bip_of_the_host_is_derived_from_its_uplink() {
    let mut world = configured(r#"{"bip": "host"}"#);
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    world.run(plan);
    let network = world.get_network("bridge");
    assert_eq!(network.pools[0].subnet.to_string(), "172.5.6.0/24");
    assert_eq!(network.pools[0].gateway.to_string(), "172.5.6.1");
}

#[test]
fn a_bip_on_a_route_of_the_host_is_refused_and_the_route_named() {
    let mut world = configured(r#"{"bip": "10.5.0.1/24"}"#);
    world.host.routes.push(HostRoute {
        destination: "10.4.0.0/14".parse().unwrap(),
        gateway: "10.2.5.9".parse().ok(),
        link: "tun0".into(),
    });
    let error = plan_default_network(&world.state, &world.host).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bip 10.5.0.0/24 overlaps route 10.4.0.0/14 via 10.2.5.9 dev tun0 of this host"
    );
    assert!(error.hint().unwrap().contains("bip"));
}

#[test]
fn another_bip_replaces_the_default_network_unless_it_is_in_use() {
    let mut world = World::new();
    let other = configured(r#"{"bip": "10.5.0.1/24"}"#).host.config;
    world.create(&container("web")).unwrap();
    let before = std::mem::replace(&mut world.host.config, other);
    let error = text(plan_default_network(&world.state, &world.host));
    assert!(error.contains("it has active endpoints (name:\"web\""), "{error}");

    world.exit("web").unwrap();
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    world.run(plan);
    assert_eq!(world.get_network("bridge").pools[0].subnet.to_string(), "10.5.0.0/24");
    // Without a bip the subnet stays what it is.
    world.host.config = before;
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    assert!(plan.steps.is_empty());
}

#[test]
fn a_network_is_created_as_asked() {
    let mut world = World::new();
    let mut request = with_option("com.docker.network.bridge.name", "docker1");
    request.name = "mynetwork".into();
    request.subnets = vec!["172.18.0.0/16".into()];
    request.ip_ranges = vec!["172.18.5.0/24".into()];
    request.gateways = vec!["172.18.5.254".into()];
    request.aux_addresses = [("router".to_owned(), "172.18.5.0".to_owned())].into();
    world.create_network(&request).unwrap();
    world.create(&on("mynetwork", "web")).unwrap();
    assert_eq!(world.address("web"), "172.18.5.1/16");
    assert_eq!(world.get_network("mynetwork").bridge.as_str(), "docker1");
    world.assert_consistent();
}

#[test]
fn automatic_subnets_step_around_networks_and_routes() {
    let mut world = World::new();
    world.host.routes.push(HostRoute {
        destination: "172.18.0.0/15".parse().unwrap(),
        gateway: None,
        link: "virbr0".into(),
    });
    world.create_network(&request("a")).unwrap();
    let network = world.get_network("a");
    assert_eq!(network.pools[0].subnet.to_string(), "172.20.0.0/16");
    assert_eq!(network.bridge.as_str(), format!("br-{}", network.id.short()));
    world.host.routes.push(HostRoute {
        destination: "172.16.0.0/12".parse().unwrap(),
        gateway: None,
        link: "vpn".into(),
    });
    world.host.routes.push(HostRoute {
        destination: "192.168.0.0/16".parse().unwrap(),
        gateway: None,
        link: "vpn".into(),
    });
    assert_eq!(
        text(world.create_network(&request("b"))),
        "all predefined address pools have been fully subnetted"
    );
}

#[test]
fn requests_that_cannot_be_are_refused_with_dockers_texts() {
    let mut world = World::new();
    world.network("taken", "10.9.0.0/16").unwrap();
    let mut refused = |name: &str, subnet: &str| text(world.network(name, subnet));
    assert_eq!(refused("taken", "10.8.0.0/16"), "network with name taken already exists");
    assert_eq!(
        refused("n", "10.9.5.0/24"),
        "invalid pool request: Pool overlaps with other one on this address space"
    );
    assert_eq!(
        refused("n", "10.2.0.0/16"),
        "subnet 10.2.0.0/16 overlaps route 10.2.5.0/24 dev eth0 of this host"
    );
    assert_eq!(refused("n", "10.8.1.1/16"), "invalid subnet 10.8.1.1/16: it should be 10.8.0.0/16");
    assert_eq!(
        refused("bridge", "10.8.0.0/16"),
        "operation is not permitted on predefined bridge network"
    );
    let gateway = NetworkCreate {
        subnets: vec!["10.8.0.0/16".into()],
        gateways: vec!["10.7.0.1".into()],
        ..request("n")
    };
    assert_eq!(
        text(world.create_network(&gateway)),
        "invalid gateway 10.7.0.1: parent subnet 10.8.0.0/16 doesn't contain this address"
    );
    assert_eq!(text(world.create_network(&with_option("x.y", "z"))), "unknown option `x.y`");
    assert_eq!(
        text(world.create_network(&with_option("com.docker.network.bridge.name", "eth0"))),
        "device eth0 already exists on this host"
    );
    assert_eq!(world.state.networks.len(), 2);
}

#[test]
fn a_network_in_use_or_predefined_stays() {
    let mut world = World::new();
    world.network("n", "10.9.0.0/16").unwrap();
    world.create(&on("n", "web")).unwrap();
    let endpoint = world.get("web").endpoints[0].id.short().to_owned();
    assert_eq!(
        text(world.remove_network("n")),
        format!(
            "error while removing network: network n has active endpoints (name:\"web\" id:\"{endpoint}\")"
        )
    );
    for name in ["bridge", "host", "none"] {
        assert_eq!(
            text(world.remove_network(name)),
            format!("{name} is a pre-defined network and cannot be removed")
        );
    }
    assert_eq!(text(world.remove_network("x")), "network x not found");
    world.exit("web").unwrap();
    world.remove_network("n").unwrap();
    assert_eq!(world.made.len(), 3, "the default network and a run directory");
}

#[test]
fn prune_removes_what_nobody_uses() {
    let mut world = World::new();
    world.network("used", "10.8.0.0/16").unwrap();
    world.network("idle", "10.9.0.0/16").unwrap();
    world.create(&on("used", "web")).unwrap();
    let (plan, names) = plan_prune(&world.state);
    world.run(plan);
    assert_eq!(names.iter().map(crate::model::Name::as_str).collect::<Vec<_>>(), ["idle"]);
    assert_eq!(world.state.networks.len(), 2);
}

#[test]
fn names_ids_and_prefixes_find_a_network() {
    let mut world = World::new();
    let id = world.network("n", "10.9.0.0/16").unwrap();
    for name in ["n", id.as_str(), id.short(), &id.as_str()[..8]] {
        assert_eq!(world.get_network(name).id, id);
    }
    assert!(matches!(world.remove_network(""), Err(Error::NoSuchNetwork(_))));
}

#[test]
fn desired_ops_leave_namespaces_alone() {
    let mut world = World::new();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    let desired = desired_ops(&world.state);
    let outside: Vec<Op> = world
        .made
        .iter()
        .filter(|op| !matches!(op, Op::RunDir { .. } | Op::Sandbox { .. } | Op::Interface { .. }))
        .cloned()
        .collect();
    assert_eq!(desired, outside);
}
