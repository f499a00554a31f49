use netd_common::abi::Network as Flags;

use super::fixture::{World, container, on, text};
use crate::{
    api::types::{ContainerCreate, NetworkCreate},
    controller::{Error, Op},
};

fn create(world: &mut World, internal: bool, options: &[(&str, &str)]) -> Result<(), Error> {
    let key = |key: &str| match key {
        "netd.syn_rate" | "netd.max_flows" => key.to_owned(),
        "host_ipv4" | "host_ipv6" => format!("com.docker.network.{key}"),
        key => format!("com.docker.network.bridge.{key}"),
    };
    let request = NetworkCreate {
        name: "blue".into(),
        subnets: vec!["172.18.0.0/16".into()],
        internal,
        options: options.iter().map(|(k, v)| (key(k), (*v).to_owned())).collect(),
        ..NetworkCreate::default()
    };
    world.create_network(&request).map(drop)
}

/// What the datapath is told of network `blue`.
fn blue(world: &World) -> (u32, Option<String>) {
    let index = world.get_network("blue").index;
    world
        .made
        .iter()
        .find_map(|op| match op {
            Op::Network { index: it, flags, source, .. } if *it == index => {
                Some((*flags, source.map(|ip| ip.to_string())))
            }
            _ => None,
        })
        .unwrap()
}

fn bridge_addresses(world: &World) -> Vec<String> {
    let bridge = &world.get_network("blue").bridge;
    world
        .made
        .iter()
        .find_map(|op| match op {
            Op::Bridge { name, addresses, .. } if name == bridge => {
                Some(addresses.iter().map(ToString::to_string).collect())
            }
            _ => None,
        })
        .unwrap()
}

fn with_mode(internal: bool, mode: &str) -> World {
    let mut world = World::new();
    create(&mut world, internal, &[("gateway_mode_ipv4", mode)]).unwrap();
    world
}

#[test]
fn a_gateway_mode_says_how_packets_cross_the_border() {
    let flags = |mode| blue(&with_mode(false, mode)).0;
    assert_eq!(flags("nat"), Flags::MASQUERADE | Flags::ICC);
    assert_eq!(flags("nat-unprotected"), Flags::MASQUERADE | Flags::ICC | Flags::UNPROTECTED);
    assert_eq!(flags("routed"), Flags::ICC | Flags::ROUTED);
    let isolated = with_mode(true, "isolated");
    assert_eq!(blue(&isolated).0, Flags::INTERNAL | Flags::ICC | Flags::ISOLATED);
    assert!(bridge_addresses(&isolated).is_empty(), "the host is no member");
    assert_eq!(bridge_addresses(&with_mode(false, "routed")), ["172.18.0.1/16"]);
}

#[test]
fn isolated_is_for_internal_networks() {
    let mut world = World::new();
    let error = text(create(&mut world, false, &[("gateway_mode_ipv4", "isolated")]));
    assert_eq!(error, "gateway mode 'isolated' can only be used for an internal network");
}

#[test]
fn the_gateway_may_be_another_machine() {
    let mut world = World::new();
    create(&mut world, false, &[("inhibit_ipv4", "true")]).unwrap();
    assert!(bridge_addresses(&world).is_empty());
    assert_ne!(blue(&world).0 & Flags::INHIBITED, 0);
    world.create(&on("blue", "web")).unwrap();
    let routed = world.made.iter().any(|op| match op {
        Op::Interface { gateways, .. } => gateways.contains(&"172.18.0.1".parse().unwrap()),
        _ => false,
    });
    assert!(routed, "its containers go by it all the same");
}

#[test]
fn the_source_of_outbound_packets_can_be_chosen() {
    let mut world = World::new();
    create(&mut world, false, &[("host_ipv4", "10.2.5.77")]).unwrap();
    assert_eq!(blue(&world).1.as_deref(), Some("10.2.5.77"));
}

#[test]
fn a_routed_port_is_at_the_containers_own_address_and_takes_none_of_the_hosts() {
    let mut world = with_mode(false, "routed");
    let publish = ["8080:80", "8081:80", "9000:53/udp"].map(ToOwned::to_owned).into();
    let request = ContainerCreate { publish, ..on("blue", "web") };
    world.create(&request).unwrap();
    assert_eq!(world.ports("web"), ["80/tcp", "53/udp"]);
    assert!(!world.made.iter().any(|op| matches!(op, Op::HostPort { .. })));
    let at: Vec<_> = world
        .made
        .iter()
        .filter_map(|op| match op {
            Op::Port { host_address, host_port, address, port, .. } => {
                assert_eq!((host_address, host_port), (address, port));
                Some((address.to_string(), *port))
            }
            _ => None,
        })
        .collect();
    assert_eq!(at, [("172.18.0.2".to_owned(), 80), ("172.18.0.2".to_owned(), 53)]);

    // Nor is any port of the host's in the way.
    let taken = ContainerCreate { publish: vec!["8080:80".into()], ..container("taken") };
    world.create(&taken).unwrap();
    assert_eq!(world.publish("web", "8080:81").unwrap(), ["81/tcp"]);
    assert_eq!(world.publish("web", "8080:81,from=10.0.0.0/8").unwrap(), ["81/tcp"]);
    world.unpublish("web", "8080:80").unwrap();
    assert_eq!(world.ports("web"), ["53/udp", "81/tcp"]);
    world.assert_consistent();
}

#[test]
fn one_routed_port_has_one_list() {
    let mut world = with_mode(false, "routed");
    let publish = ["80:80", "80:80,from=10.0.0.0/8"].map(ToOwned::to_owned).into();
    let request = ContainerCreate { publish, ..on("blue", "web") };
    assert_eq!(
        text(world.create(&request)),
        "Bind for 0.0.0.0:80 failed: port is already allocated"
    );
}

#[test]
fn a_syn_rate_is_of_each_tcp_port() {
    let mut world = World::new();
    create(&mut world, false, &[("netd.syn_rate", "500")]).unwrap();
    let publish = ["8080:80", "8080:80/udp"].map(ToOwned::to_owned).into();
    world.create(&ContainerCreate { publish, ..on("blue", "web") }).unwrap();
    let rates: Vec<_> = world
        .made
        .iter()
        .filter_map(|op| match op {
            Op::Port { protocol, syn_rate, .. } => Some((protocol.as_str(), *syn_rate)),
            _ => None,
        })
        .collect();
    assert_eq!(rates, [("tcp", 500), ("udp", 0)]);
}

#[test]
fn a_quota_of_flows_is_of_each_container() {
    let mut world = World::new();
    create(&mut world, false, &[("netd.max_flows", "1000")]).unwrap();
    world.create(&on("blue", "web")).unwrap();
    let quotas = world.made.iter().filter_map(|op| match op {
        Op::Lease { max_flows, .. } => Some(*max_flows),
        _ => None,
    });
    assert_eq!(quotas.collect::<Vec<_>>(), [1000]);
}
