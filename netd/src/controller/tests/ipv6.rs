//! Dual-stack networks and their endpoints.

use super::fixture::{World, container, key, on, text, to};
use crate::{
    api::types::{Connect, ContainerCreate, NetworkCreate},
    controller::{Op, desired_ops, plan_connect, plan_default_network},
    model::config::AddressPool,
};

fn dual(name: &str, subnets: &[&str]) -> NetworkCreate {
    NetworkCreate {
        name: name.into(),
        subnets: subnets.iter().map(ToString::to_string).collect(),
        ipv6: true,
        ..NetworkCreate::default()
    }
}

fn subnets(world: &World, name: &str) -> Vec<String> {
    world.get_network(name).pools.iter().map(|pool| pool.subnet.to_string()).collect()
}

fn address6(world: &World, name: &str) -> String {
    let address = world.get(name).endpoints[0].address6;
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn gateways(world: &World, link: &str) -> Vec<String> {
    let interface = world.made.iter().find_map(|op| match op {
        Op::Interface { name, gateways, .. } if name.as_str() == link => Some(gateways),
        _ => None,
    });
    interface.unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn automatic_subnets_are_cut_from_the_hosts_own_site_and_step_around_routes() {
    let mut world = World::new();
    let site = world.host.ula.base.to_string().replace("::/48", "");
    world.create_network(&dual("a", &[])).unwrap();
    assert_eq!(subnets(&world, "a"), ["172.18.0.0/16", &format!("{site}::/64")]);
    let mut route = world.host.routes[1].clone();
    route.destination = format!("{site}:1::/64").parse().unwrap();
    world.host.routes.push(route);
    world.create_network(&dual("b", &["10.9.0.0/24"])).unwrap();
    assert_eq!(subnets(&world, "b"), ["10.9.0.0/24", &format!("{site}:2::/64")]);
    let sized = dual("c", &["0.0.0.0/24", "::/80"]);
    world.create_network(&sized).unwrap();
    assert_eq!(subnets(&world, "c"), ["172.19.0.0/24", &format!("{site}:3::/80")]);

    let pool = AddressPool { base: "2001:db8:4::/56".parse().unwrap(), size: 60 };
    world.host.config.default_address_pools.push(pool);
    world.create_network(&dual("d", &[])).unwrap();
    assert_eq!(subnets(&world, "d"), ["172.20.0.0/16", "2001:db8:4::/60"]);
    // Pools of IPv6 alone leave IPv4 its defaults.
    world.host.config.default_address_pools = vec![pool];
    world.create_network(&dual("e", &[])).unwrap();
    assert_eq!(subnets(&world, "e"), ["172.21.0.0/16", "2001:db8:4:10::/60"]);
    world.assert_consistent();
}

#[test]
fn each_setting_finds_the_subnet_of_its_family() {
    let mut world = World::new();
    let request = NetworkCreate {
        // In any order.
        subnets: ["fd00:9::/64", "10.9.0.0/24"].map(String::from).into(),
        gateways: ["10.9.0.254", "fd00:9::ffff"].map(String::from).into(),
        ip_ranges: ["fd00:9::100/120"].map(String::from).into(),
        aux_addresses: [("router".to_owned(), "fd00:9::101".to_owned())].into(),
        ..dual("n", &[])
    };
    world.create_network(&request).unwrap();
    let [v4, v6] = &world.get_network("n").pools[..] else { panic!("two pools") };
    assert_eq!((v4.gateway.to_string(), v4.ip_range), ("10.9.0.254".into(), None));
    assert_eq!(v6.gateway.to_string(), "fd00:9::ffff");
    world.create(&on("n", "a")).unwrap();
    world.create(&on("n", "b")).unwrap();
    assert_eq!(world.address("a"), "10.9.0.1/24");
    assert_eq!(
        [address6(&world, "a"), address6(&world, "b")],
        ["fd00:9::100/64", "fd00:9::102/64"]
    );
    world.assert_consistent();
}

#[test]
fn a_network_without_ipv6_takes_nothing_of_it() {
    let mut world = World::new();
    let mut refused = |request: NetworkCreate| world.create_network(&request).unwrap_err();
    let plain = |name: &str, subnets: &[&str]| NetworkCreate { ipv6: false, ..dual(name, subnets) };
    let error = refused(plain("n", &["fd00:9::/64"]));
    assert_eq!(
        error.to_string(),
        "invalid subnet fd00:9::/64: it is of IPv6, which the network doesn't have"
    );
    assert_eq!(error.hint().unwrap(), "add --ipv6");
    let gateway = NetworkCreate { gateways: vec!["fd00:9::1".into()], ..plain("n", &[]) };
    let no_subnet = "every ip-range, gateway or auxiliary address must have a corresponding subnet";
    assert_eq!(refused(gateway).to_string(), no_subnet);
    let gateway = NetworkCreate { gateways: vec!["fd00:9::1".into()], ..dual("n", &[]) };
    assert_eq!(refused(gateway).to_string(), no_subnet);
    assert_eq!(
        refused(dual("n", &["fd00:9::/64", "fd00:8::/64"])).to_string(),
        "--subnet is set twice for one subnet: fd00:9::/64 and fd00:8::/64"
    );
    assert_eq!(
        refused(dual("n", &["fd00:9::1/64"])).to_string(),
        "invalid subnet fd00:9::1/64: it should be fd00:9::/64"
    );
    let outside =
        NetworkCreate { gateways: vec!["fd00:8::1".into()], ..dual("n", &["fd00:9::/64"]) };
    assert_eq!(
        refused(outside).to_string(),
        "invalid gateway fd00:8::1: parent subnet fd00:9::/64 doesn't contain this address"
    );
    let small = NetworkCreate {
        options: [("com.docker.network.driver.mtu".to_owned(), "1000".to_owned())].into(),
        ..dual("n", &[])
    };
    assert_eq!(refused(small).to_string(), "invalid MTU number: 1000: IPv6 needs 1280 at least");

    world.create(&container("web")).unwrap();
    assert_eq!(address6(&world, "web"), "");
    let leases = world.made.iter().filter_map(|op| match op {
        Op::Lease { addresses, .. } => Some(addresses.clone()),
        _ => None,
    });
    let addresses: Vec<_> = leases.flatten().map(|ip| ip.to_string()).collect();
    assert_eq!(addresses, ["172.17.0.2"]);
}

#[test]
fn an_endpoint_has_both_families_and_its_link_local_address() {
    let mut world = World::new();
    world.create_network(&dual("n", &["10.9.0.0/24", "fd00:9::/64"])).unwrap();
    let request = ContainerCreate {
        ip: Some("10.9.0.9".into()),
        ip6: Some("fd00:9::77".into()),
        ..on("n", "web")
    };
    world.create(&request).unwrap();
    let lease = world.made.iter().find_map(|op| match op {
        Op::Lease { addresses, .. } => Some(addresses),
        _ => None,
    });
    let addresses: Vec<_> = lease.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.9.0.9", "fd00:9::77", "fe80::42:aff:fe09:9"]);
    assert_eq!(gateways(&world, "eth0"), ["10.9.0.1", "fd00:9::1"]);
    let network: Vec<_> =
        world.made.iter().filter(|op| key(op).starts_with("network 10.9")).collect();
    assert_eq!(network.len(), 1);
    let restored: Vec<_> = desired_ops(&world.state).iter().map(key).collect();
    for op in &world.made {
        let kept = !matches!(op, Op::RunDir { .. } | Op::Sandbox { .. } | Op::Interface { .. });
        assert_eq!(restored.contains(&key(op)), kept, "{op:?}");
    }
}

#[test]
fn a_fixed_ipv6_address_is_checked_with_dockers_texts() {
    let mut world = World::new();
    let id = world.create_network(&dual("n", &["10.9.0.0/24", "fd00:9::8/125"])).unwrap();
    world.network("v4", "10.8.0.0/24").unwrap();
    let with = |network: &str, ip6: &str| ContainerCreate {
        ip6: Some(ip6.into()),
        name: None,
        ..on(network, "")
    };
    let mut refused = |network: &str, ip6: &str| world.create(&with(network, ip6)).unwrap_err();
    assert_eq!(
        refused("bridge", "fd00:9::9").to_string(),
        "user-specified IP address is supported on user-defined networks only"
    );
    assert_eq!(
        refused("n", "fd00:8::9").to_string(),
        "no configured subnet contains IP address fd00:8::9"
    );
    let error = refused("v4", "fd00:9::9");
    assert_eq!(error.to_string(), "no configured subnet contains IP address fd00:9::9");
    assert_eq!(
        error.hint().unwrap(),
        "network v4 has no IPv6; `netd network create --ipv6` makes one"
    );
    assert_eq!(refused("n", "10.9.0.9").to_string(), "invalid IPv6 address: 10.9.0.9");
    let error = refused("n", "fd00:9::8");
    assert_eq!(error.to_string(), "Address already in use");
    assert!(error.hint().unwrap().contains("anycast"));

    world
        .create(&ContainerCreate { name: Some("fixed".into()), ..with("n", "fd00:9::a") })
        .unwrap();
    let error = world.create(&with("n", "fd00:9::a")).unwrap_err();
    assert_eq!(error.to_string(), "Address already in use");
    assert_eq!(error.hint().unwrap(), "fd00:9::a is used by container fixed");
    for _ in 0..5 {
        world.create(&ContainerCreate { name: None, ..on("n", "") }).unwrap();
    }
    assert_eq!(
        text(world.create(&on("n", "full"))),
        format!("no available IPv6 addresses on this network's address pools: n ({id})")
    );
    world.assert_consistent();
}

#[test]
fn the_default_route_of_each_family_goes_by_the_oldest_network_that_has_it() {
    let mut world = World::new();
    world.create_network(&dual("d", &["10.9.0.0/24", "fd00:9::/64"])).unwrap();
    world.create_network(&dual("e", &["10.8.0.0/24", "fd00:8::/64"])).unwrap();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    let connect = Connect { ip6: Some("fd00:9::5".into()), ..to("web") };
    let plan = plan_connect(&world.state, &world.host, "d", &connect).unwrap();
    world.run(plan);
    world.connect("e", "web").unwrap();
    assert_eq!(gateways(&world, "eth0"), ["172.17.0.1"]);
    assert_eq!(gateways(&world, "eth1"), ["fd00:9::1"]);
    assert!(gateways(&world, "eth2").is_empty());
    world.assert_consistent();

    world.disconnect("d", "web").unwrap();
    assert_eq!(gateways(&world, "eth0"), ["172.17.0.1"]);
    assert_eq!(gateways(&world, "eth2"), ["fd00:8::1"]);
    world.disconnect("bridge", "web").unwrap();
    assert_eq!(gateways(&world, "eth2"), ["10.8.0.1", "fd00:8::1"]);
    world.assert_consistent();
}

#[test]
fn the_default_network_gets_ipv6_and_keeps_its_subnet() {
    let mut world = World::bare();
    world.host.config.ipv6 = true;
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    world.run(plan);
    let before = subnets(&world, "bridge");
    assert_eq!(before.len(), 2);
    world.host.ula = crate::ipam::unique_local_pool(b"another");
    assert!(plan_default_network(&world.state, &world.host).unwrap().steps.is_empty());
    world.create(&container("web")).unwrap();
    assert!(address6(&world, "web").ends_with("::2/64"));

    world.remove("web", crate::controller::Force::Yes).unwrap();
    world.host.config.ipv6 = false;
    let plan = plan_default_network(&world.state, &world.host).unwrap();
    world.run(plan);
    assert_eq!(subnets(&world, "bridge"), before[..1]);
}

fn publishing(network: &str, name: &str, specs: &[&str]) -> ContainerCreate {
    ContainerCreate {
        publish: specs.iter().map(ToString::to_string).collect(),
        ..on(network, name)
    }
}

/// `0.0.0.0:8080->10.9.0.2:80` of every `Port` op in place.
fn entries(world: &World) -> Vec<String> {
    let mut entries: Vec<String> = world
        .made
        .iter()
        .filter_map(|op| match op {
            Op::Port { host_address, host_port, address, port, .. } => {
                let at = |ip, port| std::net::SocketAddr::new(ip, port);
                Some(format!("{}->{}", at(*host_address, *host_port), at(*address, *port)))
            }
            _ => None,
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn a_port_without_a_host_address_is_published_on_both_families() {
    let mut world = World::new();
    world.create_network(&dual("n", &["10.9.0.0/24", "fd00:9::/64"])).unwrap();
    world.create(&publishing("n", "web", &["8080:80"])).unwrap();
    assert_eq!(world.ports("web"), ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]);
    assert_eq!(entries(&world), ["0.0.0.0:8080->10.9.0.2:80", "[::]:8080->[fd00:9::2]:80"]);
    let sockets = world.made.iter().filter(|op| matches!(op, Op::HostPort { .. })).count();
    assert_eq!(sockets, 2);

    // A container of IPv4 alone has that.
    world.create(&publishing("bridge", "plain", &["8081:80"])).unwrap();
    assert_eq!(world.ports("plain"), ["0.0.0.0:8081->80/tcp"]);
    // Each family's ports are its own, and a wildcard is every address of it.
    world.create(&publishing("n", "six", &["[::]:8081:80", "127.0.0.1:8082:80"])).unwrap();
    for spec in ["8082:80", "8081:80", "[2001:db8::1]:8080:80", "0.0.0.0:8080:80"] {
        let error = world.create(&publishing("n", "x", &[spec])).unwrap_err();
        assert!(error.to_string().ends_with("failed: port is already allocated"), "{spec}");
    }
    let error = world.create(&publishing("n", "x", &["[2001:db8::1]:8080:80"])).unwrap_err();
    assert_eq!(error.to_string(), "Bind for [2001:db8::1]:8080 failed: port is already allocated");
    world.assert_consistent();
}

#[test]
fn a_port_that_netd_picks_is_the_same_for_both_families() {
    let mut world = World::new();
    world.create_network(&dual("n", &[])).unwrap();
    world.create(&publishing("n", "six", &["[::]:8000:80"])).unwrap();
    world.create(&publishing("n", "web", &["8000-8003:80", "81"])).unwrap();
    let ports = world.ports("web");
    assert_eq!(ports[..2], ["0.0.0.0:8001->80/tcp", "[::]:8001->80/tcp"]);
    let picked =
        |text: &str| text.rsplit_once("->").unwrap().0.rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(picked(&ports[2]), picked(&ports[3]));
}

#[test]
fn a_host_address_of_a_family_that_the_container_lacks_is_refused_before_anything_changes() {
    let mut world = World::new();
    let before = world.made.clone();
    let error = world.create(&publishing("bridge", "x", &["[2001:db8::1]:8080:80"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't publish on 2001:db8::1: the container has no IPv6 address"
    );
    assert!(error.hint().unwrap().contains("publish on an IPv4 address"));
    assert_eq!(world.made, before);

    // A network whose default host address is `::` publishes on IPv6 alone.
    let option = ("com.docker.network.bridge.host_binding_ipv4".to_owned(), "::".to_owned());
    let request = NetworkCreate { options: [option].into(), ..dual("n", &[]) };
    world.create_network(&request).unwrap();
    world.create(&publishing("n", "web", &["8080:80", "0.0.0.0:8081:80"])).unwrap();
    assert_eq!(world.ports("web"), ["[::]:8080->80/tcp", "0.0.0.0:8081->80/tcp"]);
    // An IPv4-mapped address is IPv4's.
    world.start("web").unwrap();
    assert_eq!(
        world.publish("web", "[::ffff:127.0.0.1]:8082:80").unwrap(),
        ["127.0.0.1:8082->80/tcp"]
    );
}

#[test]
fn ports_of_a_running_container_come_and_go_in_both_families() {
    let mut world = World::new();
    world.create_network(&dual("n", &["10.9.0.0/24", "fd00:9::/64"])).unwrap();
    world.create(&on("n", "web")).unwrap();
    world.start("web").unwrap();
    let both = ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"];
    assert_eq!(world.publish("web", "8080:80").unwrap(), both);
    // Again, with sources: both are changed, none is added.
    assert_eq!(world.publish("web", "8080:80,from=fd00::/8").unwrap(), both);
    assert!(world.get("web").endpoints[0].ports.iter().all(|port| port.from.len() == 1));
    world.unpublish("web", "[::]:8080:80").unwrap();
    assert_eq!(world.ports("web"), both[..1]);
    assert_eq!(world.publish("web", "8080:80").unwrap(), both);
    world.unpublish("web", "8080:80").unwrap();
    assert!(world.ports("web").is_empty() && entries(&world).is_empty());
    world.assert_consistent();
}

#[test]
fn each_family_is_published_on_the_endpoint_that_its_replies_leave_by() {
    let mut world = World::new();
    world.create_network(&dual("n", &["10.9.0.0/24", "fd00:9::/64"])).unwrap();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    world.connect("n", "web").unwrap();
    world.publish("web", "8080:80").unwrap();
    assert_eq!(entries(&world), ["0.0.0.0:8080->172.17.0.2:80", "[::]:8080->[fd00:9::2]:80"]);
    let of = |nth: usize| world.get("web").endpoints[nth].ports.len();
    assert_eq!([of(0), of(1)], [1, 1]);
    world.disconnect("n", "web").unwrap();
    assert_eq!(world.ports("web"), ["0.0.0.0:8080->80/tcp"]);
    assert_eq!(entries(&world).len(), 1);
}
