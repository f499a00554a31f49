//! Any sequence of requests keeps the invariants and can be taken back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::{World, container, key, on};
use crate::{
    api::types::ContainerCreate,
    controller::{Force, Op, desired_ops},
};

/// The third network's.
const ROUTED: (&str, &str) = ("com.docker.network.bridge.gateway_mode_ipv4", "routed");

#[derive(Clone, Debug)]
enum Request {
    CreateNetwork(u8, bool),
    CreateNetworkAt(u8, u8),
    RemoveNetwork(u8),
    Create(u8, u8, Vec<String>),
    CreateAt(u8, u8, u8),
    Start(u8),
    Exit(u8),
    Remove(u8),
    Connect(u8, u8),
    Disconnect(u8, u8),
    Publish(u8, String),
    Unpublish(u8, String),
}

fn spec() -> impl Strategy<Value = String> {
    prop_oneof![
        (8000u16..8006, 80u16..83).prop_map(|(host, ctr)| format!("{host}:{ctr}")),
        (80u16..83).prop_map(|ctr| ctr.to_string()),
        (80u16..83).prop_map(|ctr| format!("8000-8003:{ctr}")),
        (8000u16..8006).prop_map(|host| format!("127.0.0.1:{host}:80/udp")),
        Just("8000-8002:80-82".to_owned()),
        Just("8000-8002:80-82,from=10.0.0.0/8".to_owned()),
        (8000u16..8003, 0u8..3).prop_map(|(host, n)| format!("{host}:80,from=10.{n}.0.0/16")),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let (net, ctr) = (0u8..4, 0u8..5);
    prop_oneof![
        (net.clone(), any::<bool>()).prop_map(|(n, ipv6)| Request::CreateNetwork(n, ipv6)),
        (net.clone(), 0u8..8).prop_map(|(n, at)| Request::CreateNetworkAt(n, at)),
        net.clone().prop_map(Request::RemoveNetwork),
        (ctr.clone(), 0u8..6, prop::collection::vec(spec(), 0..3))
            .prop_map(|(c, n, specs)| Request::Create(c, n, specs)),
        (ctr.clone(), net.clone(), 0u8..9).prop_map(|(c, n, ip)| Request::CreateAt(c, n, ip)),
        ctr.clone().prop_map(Request::Start),
        ctr.clone().prop_map(Request::Exit),
        ctr.clone().prop_map(Request::Remove),
        (net.clone(), ctr.clone()).prop_map(|(n, c)| Request::Connect(n, c)),
        (net, ctr.clone()).prop_map(|(n, c)| Request::Disconnect(n, c)),
        (ctr.clone(), spec()).prop_map(|(c, spec)| Request::Publish(c, spec)),
        (ctr, spec()).prop_map(|(c, spec)| Request::Unpublish(c, spec)),
    ]
}

fn network_name(n: u8) -> String {
    match n {
        0 => "bridge".into(),
        4 => "none".into(),
        5 => "container:c0".into(),
        n => format!("n{n}"),
    }
}

/// Whether the request was granted; refusals change nothing.
fn play(world: &mut World, request: &Request) -> bool {
    let ctr = |c: &u8| format!("c{c}");
    match request {
        Request::CreateNetwork(n, ipv6) => world
            .create_network(&crate::api::types::NetworkCreate {
                name: network_name(*n),
                ipv6: *ipv6,
                options: match n {
                    3 => [(ROUTED.0.to_owned(), ROUTED.1.to_owned())].into(),
                    _ => BTreeMap::new(),
                },
                ..Default::default()
            })
            .is_ok(),
        Request::CreateNetworkAt(n, at) => {
            world.network(&network_name(*n), &format!("172.18.0.{}/29", at * 8)).is_ok()
        }
        Request::RemoveNetwork(n) => world.remove_network(&network_name(*n)).is_ok(),
        Request::Create(c, n, publish) => world
            .create(&ContainerCreate { publish: publish.clone(), ..on(&network_name(*n), &ctr(c)) })
            .is_ok(),
        Request::CreateAt(c, n, ip) => world
            .create(&ContainerCreate {
                ip: Some(format!("172.18.0.{ip}")),
                network: Some(network_name(*n)),
                ..container(&ctr(c))
            })
            .is_ok(),
        Request::Start(c) => world.start(&ctr(c)).is_ok(),
        Request::Exit(c) => world.exit(&ctr(c)).is_ok(),
        Request::Remove(c) => world.remove(&ctr(c), Force::Yes).is_ok(),
        Request::Connect(n, c) => world.connect(&network_name(*n), &ctr(c)).is_ok(),
        Request::Disconnect(n, c) => world.disconnect(&network_name(*n), &ctr(c)).is_ok(),
        Request::Publish(c, spec) => world.publish(&ctr(c), spec).is_ok(),
        Request::Unpublish(c, spec) => world.unpublish(&ctr(c), spec).is_ok(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_requests_keeps_the_invariants(
        requests in prop::collection::vec(request(), 1..40)
    ) {
        let mut world = World::new();
        let fresh = (world.state.clone(), world.made.clone());
        for request in &requests {
            let before = (world.state.clone(), world.made.clone());
            if !play(&mut world, request) {
                prop_assert_eq!(&before, &(world.state.clone(), world.made.clone()));
            }
            world.assert_consistent();

            // What the state says must exist is what the plans have made.
            let mut desired: Vec<String> = desired_ops(&world.state).iter().map(key).collect();
            let inner = ["run dir", "sandbox", "interface"];
            let mut made: Vec<String> = world.made.iter().map(key).collect();
            made.retain(|op| !inner.iter().any(|inner| op.starts_with(inner)));
            desired.sort();
            made.sort();
            prop_assert_eq!(desired, made);
            // No port names a list that is not there.
            for op in &world.made {
                if let Op::Port { allow: list @ 1.., .. } = op {
                    let named = |op: &Op| matches!(op, Op::AllowList { list: it, .. } if it == list);
                    prop_assert!(world.made.iter().any(named));
                }
            }
        }

        let containers: Vec<String> =
            world.state.containers.values().map(|c| c.name.to_string()).collect();
        for name in containers {
            world.remove(&name, Force::Yes).unwrap();
        }
        let networks: Vec<String> =
            world.state.networks.values().map(|n| n.name.to_string()).collect();
        for name in networks.iter().filter(|name| *name != "bridge") {
            world.remove_network(name).unwrap();
        }
        prop_assert_eq!(fresh, (world.state, world.made));
    }
}
