use super::fixture::{PUBLISHED, World, container, key, on, text, to};
use crate::{
    api::{
        inspect, rows,
        types::{Connect, ContainerCreate},
    },
    controller::{Action, Force, Kind, Op, plan_connect, plan_container_create, plan_exited},
    model::{ContainerState, Mode},
};

fn with_ip(network: &str, ip: &str) -> ContainerCreate {
    ContainerCreate { ip: Some(ip.into()), ..on(network, "fixed") }
}

#[test]
fn a_container_is_made_in_the_order_that_the_datapath_needs() {
    let world = World::new();
    let request = ContainerCreate { publish: vec!["8080:80".into()], ..container("web") };
    let (plan, id) = plan_container_create(&world.state, &world.host, &request).unwrap();
    let kinds: Vec<String> =
        plan.steps.iter().map(|step| key(&step.op).split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["run", "sandbox", "veth", "programs", "lease", "interface", "host", "port"]);
    assert!(plan.steps.iter().any(|step| matches!(step.op, Op::Lease { flags: PUBLISHED, .. })));
    let netns = format!("/run/netd/netns/{id}");
    assert!(
        plan.steps.iter().any(
            |step| matches!(&step.op, Op::Sandbox { path, .. } if path.to_str() == Some(&netns))
        )
    );
}

#[test]
fn removal_reverts_exactly_what_creation_applied() {
    let mut world = World::new();
    let request = ContainerCreate {
        publish: vec!["8080-8082:80-82".into()],
        auto_remove: true,
        ..container("web")
    };
    let (create, _) = plan_container_create(&world.state, &world.host, &request).unwrap();
    world.run(create.clone());
    let exit = plan_exited(&world.state, &world.host, "web", None).unwrap();
    assert!(exit.steps.iter().all(|step| step.action == Action::Revert));
    let mut reverted: Vec<Op> = exit.steps.into_iter().map(|step| step.op).collect();
    reverted.reverse();
    let applied: Vec<Op> = create.steps.into_iter().map(|step| step.op).collect();
    assert_eq!(reverted, applied);
}

#[test]
fn the_four_modes() {
    let mut world = World::new();
    world.create(&on("none", "alone")).unwrap();
    assert!(world.get("alone").endpoints.is_empty());
    assert!(world.made.iter().any(|op| matches!(op, Op::Sandbox { .. })));

    world.create(&on("host", "bare")).unwrap();
    assert_eq!(world.get("bare").netns.to_str(), Some("/proc/1/ns/net"));

    world.create(&container("web")).unwrap();
    let web = world.get("web").id.clone();
    assert_eq!(
        text(world.create(&on("container:web", "side"))),
        format!("cannot join network of a non running container: {web}")
    );
    world.start("web").unwrap();
    world.create(&on("container:web", "side")).unwrap();
    assert_eq!(world.get("side").mode, Mode::Container(web));
    assert_eq!(world.get("side").netns, world.get("web").netns);

    assert_eq!(text(world.create(&on("container:x", "y"))), "No such container: x");
    assert_eq!(text(world.create(&on("x", "y"))), "network x not found");
    for (network, mode) in [("none", "none"), ("host", "host"), ("container:web", "container type")]
    {
        let request = ContainerCreate { publish: vec!["80".into()], ..on(network, "y") };
        assert_eq!(
            text(world.create(&request)),
            format!("conflicting options: port publishing and the {mode} network mode")
        );
    }
}

#[test]
fn a_fixed_address_is_checked_with_dockers_texts() {
    let mut world = World::new();
    let id = world.network("n", "10.9.0.0/29").unwrap();
    let mut refused = |network: &str, ip: &str| text(world.create(&with_ip(network, ip)));
    assert_eq!(
        refused("bridge", "172.17.0.9"),
        "user-specified IP address is supported on user-defined networks only"
    );
    assert_eq!(refused("n", "10.8.0.1"), "no configured subnet contains IP address 10.8.0.1");
    assert_eq!(refused("n", "10.9.0.1"), "Address already in use");
    assert_eq!(refused("n", "ten"), "invalid IPv4 address: ten");
    world.create(&with_ip("n", "10.9.0.5")).unwrap();
    assert_eq!(world.address("fixed"), "10.9.0.5/29");
    let taken = ContainerCreate { name: None, ..with_ip("n", "10.9.0.5") };
    let error = world.create(&taken).unwrap_err();
    assert_eq!(error.to_string(), "Address already in use");
    assert_eq!(error.hint().unwrap(), "10.9.0.5 is used by container fixed");
    assert_eq!(error.kind(), Kind::Conflict);

    for nth in 0..4 {
        world.create(&on("n", &format!("c{nth}"))).unwrap();
    }
    assert_eq!(
        text(world.create(&on("n", "full"))),
        format!("no available IPv4 addresses on this network's address pools: n ({id})")
    );
}

#[test]
fn names_are_unique_and_made_up_where_none_is_given() {
    let mut world = World::new();
    let id = world.create(&container("web")).unwrap();
    assert_eq!(
        text(world.create(&container("web"))),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    for _ in 0..40 {
        let unnamed = ContainerCreate { name: None, ..on("none", "") };
        let id = world.create(&unnamed).unwrap();
        assert!(world.get(id.as_str()).name.as_str().contains('_'));
    }
    world.assert_consistent();
    assert!(text(world.create(&container("-x"))).starts_with("invalid name `-x`"));
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let mut world = World::new();
    let option =
        ContainerCreate { options: [("k".to_owned(), "v".to_owned())].into(), ..container("a") };
    assert_eq!(text(world.create(&option)), "unknown option `k`");
}

#[test]
fn an_ended_container_keeps_its_record_only() {
    let mut world = World::new();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    assert_eq!(
        text(world.remove("web", Force::No)),
        "cannot remove container \"web\": container is running: stop the container before removing or force remove"
    );
    world.exit("web").unwrap();
    assert_eq!(world.get("web").state, ContainerState::Exited { code: Some(0) });
    assert!(world.get("web").endpoints.is_empty());
    assert_eq!(world.made.len(), 3, "the default network and the run directory");
    world.exit("web").unwrap();
    world.remove("web", Force::No).unwrap();
    assert_eq!(text(world.remove("web", Force::No)), "No such container: web");
    assert_eq!(world.made.len(), 2);
}

#[test]
fn a_second_network_is_eth1_and_leaves_the_default_route() {
    let mut world = World::new();
    world.network("n", "10.9.0.0/16").unwrap();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    world.connect("n", "web").unwrap();
    let [first, second] = &world.get("web").endpoints[..] else {
        panic!("two endpoints");
    };
    assert!(first.default_route && !second.default_route);
    assert_eq!(second.container_link.as_str(), "eth1");
    assert_eq!(second.address.to_string(), "10.9.0.2/16");
    assert_eq!(second.mac.to_string(), "02:42:0a:09:00:02");
    assert_eq!(
        text(world.connect("n", "web")),
        "endpoint with name web already exists in network n"
    );

    world.disconnect("bridge", "web").unwrap();
    let [rest] = &world.get("web").endpoints[..] else {
        panic!("one endpoint");
    };
    assert!(rest.default_route, "the default route moves on");
    assert!(world.made.iter().any(
        |op| matches!(op, Op::Interface { gateways, .. } if gateways[..] == ["10.9.0.1".parse::<std::net::IpAddr>().unwrap()])
    ));
    let id = world.get("web").id.clone();
    assert_eq!(
        text(world.disconnect("bridge", "web")),
        format!("container {id} is not connected to network bridge")
    );
    world.connect("bridge", "web").unwrap();
    assert_eq!(world.get("web").endpoints[1].container_link.as_str(), "eth0");
    world.remove("web", Force::Yes).unwrap();
    assert_eq!(world.made.len(), 4, "two networks");
}

#[test]
fn what_has_no_networks_of_its_own_cannot_be_connected() {
    let mut world = World::new();
    world.network("n", "10.9.0.0/16").unwrap();
    world.create(&on("none", "alone")).unwrap();
    world.create(&on("host", "bare")).unwrap();
    world.create(&container("gone")).unwrap();
    world.exit("gone").unwrap();
    assert!(text(world.connect("n", "alone")).contains("private (none) mode"));
    assert!(text(world.connect("n", "bare")).starts_with("container sharing network namespace"));
    assert_eq!(text(world.connect("n", "gone")), "container gone is not running");
    let ip = Connect { ip: Some("172.17.0.9".into()), ..to("bare") };
    assert!(plan_connect(&world.state, &world.host, "bridge", &ip).is_err());
}

#[test]
fn inspect_and_rows_have_dockers_shape() {
    let mut world = World::new();
    let request = ContainerCreate { publish: vec!["8080:80".into()], ..container("web") };
    let id = world.create(&request).unwrap();
    world.start("web").unwrap();
    let shown = serde_json::to_value(inspect::container(&world.state, world.get("web"))).unwrap();
    assert_eq!(shown["Name"], "/web");
    assert_eq!(shown["State"]["Pid"], 11);
    let settings = &shown["NetworkSettings"];
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
    assert_eq!(settings["Networks"]["bridge"]["MacAddress"], "02:42:ac:11:00:02");
    assert_eq!(settings["IPAddress"], "172.17.0.2");
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], "8080");

    let network = world.get_network("bridge");
    let shown = serde_json::to_value(inspect::network(&world.state, network)).unwrap();
    assert_eq!(shown["IPAM"]["Config"][0]["Gateway"], "172.17.0.1");
    assert_eq!(shown["Containers"][id.as_str()]["IPv4Address"], "172.17.0.2/16");
    assert_eq!(shown["EnableIPv6"], false);

    assert_eq!(rows::containers(&world.state, false)[0].ports, ["0.0.0.0:8080->80/tcp"]);
    assert_eq!(rows::networks(&world.state)[0].subnets, ["172.17.0.0/16"]);
    assert_eq!(rows::ports(&world.state, world.state.containers.values()).len(), 1);
    let owners: Vec<String> = rows::leases(&world.state).into_iter().map(|row| row.owner).collect();
    assert_eq!(owners, ["gateway", "web"]);
}
