//! Docker's requests, in its order and out of it.

use serde_json::{Value, json};

use super::fixture::{PUBLISHED, QUIET, World, container, on, text, to};
use crate::{
    api::docker::{
        engine::View,
        types::{AddressRef, CreateNetwork, Interface, Joined, RequestPool},
    },
    controller::{
        Error, Op, Plan, docker, find_own_container, plan_connect, plan_network_remove, plan_prune,
    },
    model::ContainerState,
};

pub(super) const NET: &str = "1111111111111111111111111111111111111111111111111111111111111111";
pub(super) const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DB: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const CONTAINER: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
pub(super) const SANDBOX: &str = "/var/run/docker/netns/0123456789ab";

pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn network(subnet: &str, options: &Value) -> CreateNetwork {
    let gateway = subnet.replace(".0/", ".1/");
    let data = json!([{ "AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": gateway }]);
    read(json!({ "NetworkID": NET, "Options": options, "IPv4Data": data, "IPv6Data": null }))
}

fn endpoint(id: &str) -> Value {
    json!({ "NetworkID": NET, "EndpointID": id })
}

impl World {
    pub(super) fn docker_network(&mut self, request: &CreateNetwork) -> Result<(), Error> {
        let plan = docker::plan_docker_network(&self.state, &self.host, request)?;
        self.run(plan);
        Ok(())
    }

    pub(super) fn create_endpoint(
        &mut self,
        id: &str,
        interface: Value,
    ) -> Result<Interface, Error> {
        let mut request = endpoint(id);
        request["Interface"] = interface;
        let (plan, chosen) = docker::plan_create_endpoint(&self.state, &self.host, &read(request))?;
        self.run(plan);
        Ok(chosen)
    }

    pub(super) fn join(&mut self, id: &str, sandbox: &str) -> Result<Joined, Error> {
        let mut request = endpoint(id);
        request["SandboxKey"] = json!(sandbox);
        let (plan, joined) = docker::plan_join(&self.state, &read(request))?;
        self.run(plan);
        Ok(joined)
    }

    fn program(&mut self, id: &str, bindings: &Value) -> Result<(), Error> {
        let mut request = endpoint(id);
        request["Options"] = json!({ "com.docker.network.portmap": bindings });
        let plan = docker::plan_program(&self.state, &self.host, &read(request))?;
        self.run(plan);
        Ok(())
    }

    fn leave(&mut self, id: &str) {
        let plan = docker::plan_leave(&self.state, &read(endpoint(id))).unwrap();
        self.run(plan);
    }

    fn delete_endpoint(&mut self, id: &str) {
        let plan = docker::plan_delete_endpoint(&self.state, &read(endpoint(id))).unwrap();
        self.run(plan);
    }

    pub(super) fn pool(&mut self, request: Value) -> Result<String, Error> {
        let request: RequestPool = read(request);
        let (plan, pool) = docker::plan_request_pool(&self.state, &self.host, &request)?;
        self.run(plan);
        Ok(pool.id.to_string())
    }

    pub(super) fn lease(
        &mut self,
        pool: &str,
        address: &str,
        gateway: bool,
    ) -> Result<String, Error> {
        let kind = "com.docker.network.gateway";
        let options = if gateway { json!({ "RequestAddressType": kind }) } else { Value::Null };
        let request: AddressRef =
            read(json!({ "PoolID": pool, "Address": address, "Options": options }));
        let (plan, address) = docker::plan_request_address(&self.state, &request)?;
        self.run(plan);
        Ok(address.to_string())
    }

    pub(super) fn release(&mut self, pool: &str, address: &str) {
        let request: AddressRef = read(json!({ "PoolID": pool, "Address": address }));
        let plan = docker::plan_release_address(&self.state, &request).unwrap();
        self.run(plan);
    }

    /// A network with one endpoint, joined.
    fn with_web() -> Self {
        let mut world = Self::new();
        world.docker_network(&network("172.30.0.0/16", &json!({}))).unwrap();
        world.create_endpoint(WEB, json!({ "Address": "172.30.0.10/16" })).unwrap();
        world.join(WEB, SANDBOX).unwrap();
        world
    }

    fn lease_flags(&self, link: &str) -> u32 {
        let lease = self.made.iter().find_map(|op| match op {
            Op::Lease { host, flags, .. } if host.as_str() == link => Some(*flags),
            _ => None,
        });
        lease.expect("the endpoint has a lease")
    }
}

fn binding(host: u16, end: u16, port: u16) -> Value {
    json!({ "Proto": 6, "IP": "", "Port": port, "HostIP": "", "HostPort": host, "HostPortEnd": end })
}

#[test]
fn a_network_comes_with_dockers_id_subnet_and_options() {
    let mut world = World::new();
    let options = json!({
        "com.docker.network.generic": {
            "com.docker.network.bridge.name": "docker1",
            "com.docker.network.enable_ipv4": "true",
        },
        "com.docker.network.enable_ipv4": true,
        "com.docker.network.enable_ipv6": false,
    });
    let request = network("172.30.0.0/16", &options);
    world.docker_network(&request).unwrap();
    let made = world.get_network(NET);
    assert_eq!((made.bridge.as_str(), made.name.as_str()), ("docker1", &NET[..12]));
    assert_eq!(made.pools[0].gateway.to_string(), "172.30.0.1");
    world.assert_consistent();
    // Docker asks once more.
    assert_eq!(
        docker::plan_docker_network(&world.state, &world.host, &request).unwrap(),
        Plan::default()
    );
    assert!(
        text(world.docker_network(&network("172.29.0.0/16", &json!({}))))
            .ends_with("already exists")
    );
    let plan = docker::plan_docker_network_remove(&world.state, NET).unwrap();
    world.run(plan);
    assert_eq!(docker::plan_docker_network_remove(&world.state, NET).unwrap(), Plan::default());
    assert_eq!(world.state.networks.len(), 1);
}

#[test]
fn what_netd_cant_do_is_refused_by_name() {
    let mut world = World::new();
    let refused = |world: &mut World, options| {
        text(world.docker_network(&network("172.30.0.0/16", &options)))
    };
    assert_eq!(
        refused(&mut world, json!({ "com.docker.network.enable_ipv4": false })),
        "a network without IPv4 is not supported yet"
    );
    assert_eq!(
        refused(&mut world, json!({ "com.docker.network.generic": { "fast": "yes" } })),
        "unknown option `fast`"
    );
    let mut two = network("172.30.0.0/16", &json!({}));
    two.ipv4.push(two.ipv4[0].clone());
    assert_eq!(text(world.docker_network(&two)), "bridge driver doesn't support multiple subnets");
    let bad = CreateNetwork { network_id: "../x".into(), ..network("172.30.0.0/16", &json!({})) };
    assert!(text(world.docker_network(&bad)).starts_with("invalid id `../x`"));
    assert_eq!(
        text(world.docker_network(&network("10.2.5.0/24", &json!({})))),
        "subnet 10.2.5.0/24 overlaps route 10.2.5.0/24 dev eth0 of this host"
    );
}

#[test]
fn aux_addresses_and_the_default_gateway_among_them_are_read() {
    let mut world = World::new();
    let mut request = network("172.30.0.0/16", &json!({ "com.docker.network.enable_ipv6": true }));
    request.ipv4[0].aux_addresses = read(json!({
        "DefaultGatewayIPv4": "172.30.0.9/16",
        "printer": "172.30.0.7",
    }));
    request.ipv6 = read(json!([{ "Pool": "fd00:5::/64", "Gateway": "fd00:5::1/64" }]));
    world.docker_network(&request).unwrap();
    let chosen = world.create_endpoint(WEB, json!({})).unwrap();
    assert_eq!(
        (chosen.address.as_str(), chosen.address6.as_str()),
        ("172.30.0.2/16", "fd00:5::2/64")
    );
    let joined = world.join(WEB, SANDBOX).unwrap();
    assert_eq!((joined.gateway.as_str(), joined.gateway6.as_str()), ("172.30.0.9", "fd00:5::1"));
    assert_eq!(
        text(world.create_endpoint(DB, json!({ "Address": "172.30.0.7/16" }))),
        "Address already in use"
    );
}

#[test]
fn an_endpoint_lives_and_answers_only_what_was_open() {
    let mut world = World::new();
    world.docker_network(&network("172.30.0.0/16", &json!({}))).unwrap();
    let given = json!({ "Address": "172.30.0.10/16", "AddressIPv6": "", "MacAddress": "" });
    let chosen = world.create_endpoint(WEB, given.clone()).unwrap();
    assert_eq!(chosen.address, "");
    assert_eq!(chosen.mac_address, "02:42:ac:1e:00:0a");
    // Repeated, it is the same; with another address it is not.
    let before = world.state.clone();
    assert_eq!(world.create_endpoint(WEB, given).unwrap(), chosen);
    assert_eq!(world.state, before);
    assert!(
        text(world.create_endpoint(WEB, json!({ "Address": "172.30.0.11/16" })))
            .contains("exists already")
    );
    let veth = world.made.iter().find_map(|op| match op {
        Op::Veth { host, peer, netns, .. } => {
            Some((host.to_string(), peer.to_string(), netns.clone()))
        }
        _ => None,
    });
    assert_eq!(veth, Some(("ndaaaaaaaaaa".into(), "ncaaaaaaaaaa".into(), None)));

    let joined = world.join(WEB, SANDBOX).unwrap();
    assert_eq!(
        serde_json::to_value(&joined).unwrap(),
        json!({
            "InterfaceName": { "SrcName": "ncaaaaaaaaaa", "DstPrefix": "eth" },
            "Gateway": "172.30.0.1",
            "DisableGatewayService": false,
        })
    );
    assert_eq!(world.get(WEB).state, ContainerState::Joined);
    world.leave(WEB);
    assert_eq!(world.get(WEB).state, ContainerState::Created);
    world.delete_endpoint(WEB);
    world.delete_endpoint(WEB);
    world.leave(WEB);
    assert!(world.state.containers.is_empty());
    assert_eq!(world.made.len(), 4, "two networks: {:?}", world.made);
}

#[test]
fn addresses_of_others_and_odd_macs_are_refused() {
    let mut world = World::with_web();
    let mut refused = |interface| text(world.create_endpoint(DB, interface));
    assert_eq!(refused(json!({ "Address": "172.30.0.10/16" })), "Address already in use");
    assert_eq!(refused(json!({ "Address": "172.30.0.1/16" })), "Address already in use");
    assert_eq!(
        refused(json!({ "Address": "10.0.0.1/8" })),
        "no configured subnet contains IP address 10.0.0.1"
    );
    assert_eq!(
        refused(json!({ "MacAddress": "01:00:5e:00:00:01" })),
        "invalid MAC address: 01:00:5e:00:00:01"
    );
    assert!(text(world.create_endpoint("x", json!({}))).starts_with("invalid id"));
    assert!(text(world.join(DB, SANDBOX)).starts_with("endpoint bbbb"));
    assert!(text(world.join(WEB, "netns/x")).contains("an absolute path is expected"));
}

#[test]
fn endpoints_of_one_sandbox_are_one_container() {
    let mut world = World::with_web();
    world.create_endpoint(DB, json!({})).unwrap();
    assert_eq!(world.state.containers.len(), 2);
    world.join(DB, SANDBOX).unwrap();
    assert_eq!(world.state.containers.len(), 1);
    assert_eq!(world.get(WEB).endpoints.len(), 2);
    // The one that it is called after goes first.
    world.leave(WEB);
    assert_eq!(world.state.containers.len(), 2);
    assert_eq!(world.get(DB).endpoints.len(), 1);
    world.delete_endpoint(WEB);
    assert_eq!(world.get(DB).name.as_str(), &DB[..12]);
    world.assert_consistent();
    // Docker is sure that all have gone.
    let plan = docker::plan_docker_network_remove(&world.state, NET).unwrap();
    world.run(plan);
    assert!(world.state.containers.is_empty());
}

#[test]
fn ports_open_when_docker_says_so_and_close_with_leave() {
    let mut world = World::with_web();
    assert_eq!(world.lease_flags("ndaaaaaaaaaa"), QUIET);
    let bindings = json!([binding(8080, 8080, 80), binding(9000, 9010, 81), binding(0, 0, 82)]);
    world.program(WEB, &bindings).unwrap();
    let ports = world.ports(WEB);
    assert_eq!(ports[..2], ["0.0.0.0:8080->80/tcp", "0.0.0.0:9000->81/tcp"]);
    assert!(ports[2].ends_with("->82/tcp"));
    assert_eq!(world.lease_flags("ndaaaaaaaaaa"), PUBLISHED);
    assert!(world.get(WEB).endpoints[0].default_route);

    let mut request = endpoint(WEB);
    request["Options"] = json!({ "com.docker.network.portmap": bindings });
    let again = docker::plan_program(&world.state, &world.host, &read(request)).unwrap();
    assert_eq!(again, Plan::default());
    // Other bindings replace them, on the same host port too.
    world.program(WEB, &json!([binding(8080, 8080, 8000)])).unwrap();
    assert_eq!(world.ports(WEB), ["0.0.0.0:8080->8000/tcp"]);
    assert_eq!(world.publish(WEB, "8081:81").unwrap(), ["0.0.0.0:8081->81/tcp"]);

    world.leave(WEB);
    assert!(world.ports(WEB).is_empty());
    assert!(!world.get(WEB).endpoints[0].default_route);
    assert_eq!(world.lease_flags("ndaaaaaaaaaa"), QUIET);
    world.delete_endpoint(WEB);
    assert_eq!(world.made.len(), 4);
}

#[test]
fn ports_that_are_taken_or_make_no_sense_are_refused() {
    let mut world = World::with_web();
    let netds = crate::api::types::ContainerCreate {
        publish: vec!["8080:80".into()],
        ..container("netds")
    };
    world.create(&netds).unwrap();
    let mut refused = |binding| text(world.program(WEB, &json!([binding])));
    assert_eq!(
        refused(binding(8080, 8080, 80)),
        "Bind for 0.0.0.0:8080 failed: port is already allocated"
    );
    assert_eq!(refused(binding(8080, 8070, 80)), "invalid hostPort: 8080-8070");
    assert_eq!(refused(json!({ "Proto": 1, "Port": 80 })), "invalid proto: 1");
    assert!(
        refused(json!({ "Proto": 132, "Port": 80, "HostPort": 81 })).starts_with("SCTP port 80")
    );
    assert_eq!(
        refused(json!({ "Proto": 6, "Port": 80, "HostIP": "here" })),
        "invalid IP address: here"
    );
    assert!(world.ports(WEB).is_empty());
}

#[test]
fn an_internal_network_has_no_gateway_and_wants_none() {
    let mut world = World::new();
    let options = json!({ "com.docker.network.internal": true });
    world.docker_network(&network("172.30.0.0/16", &options)).unwrap();
    world.create_endpoint(WEB, json!({})).unwrap();
    let joined = world.join(WEB, SANDBOX).unwrap();
    assert_eq!((joined.gateway.as_str(), joined.disable_gateway_service), ("", true));
    assert!(text(world.program(WEB, &json!([binding(80, 80, 80)]))).starts_with("can't publish"));
}

#[test]
fn netds_own_commands_refer_to_docker() {
    let mut world = World::with_web();
    world.create(&container("own")).unwrap();
    let name = &NET[..12];
    let hint = |error: Error| {
        assert!(error.to_string().ends_with("belongs to Docker"), "{error}");
        error.hint().unwrap()
    };
    assert_eq!(
        hint(plan_network_remove(&world.state, name).unwrap_err()),
        format!("use `docker network rm {name}`")
    );
    assert_eq!(
        hint(plan_connect(&world.state, &world.host, name, &to("own")).unwrap_err()),
        format!("use `docker network connect {name} own`")
    );
    assert!(hint(world.create(&on(name, "x")).unwrap_err()).contains("docker run"));
    assert!(
        hint(find_own_container(&world.state, WEB, "stop").unwrap_err()).contains("docker stop")
    );
    assert!(
        hint(world.remove(WEB, crate::controller::Force::Yes).unwrap_err())
            .contains("docker rm -f")
    );
    assert!(plan_prune(&world.state).1.is_empty());
    assert_eq!(
        world.exit(WEB).map(|()| world.get(WEB).state.clone()).unwrap(),
        ContainerState::Joined
    );
    // Its namespace may be shared.
    world.create(&on(&format!("container:{}", &WEB[..12]), "beside")).unwrap();
}

fn view(name: &str) -> View {
    View {
        networks: read(
            json!([{ "Id": NET, "Name": "mynet", "Driver": "netd", "Labels": { "a": "b" } }]),
        ),
        containers: read(json!([{
            "Id": CONTAINER, "Names": [format!("/{name}")], "Command": "sleep 1d",
            "NetworkSettings": { "Networks": { "mynet": { "EndpointID": WEB } } },
        }])),
    }
}

#[test]
fn names_are_dockers_once_they_are_known() {
    let mut world = World::with_web();
    let rename = |world: &mut World, view: &View| {
        let changes = docker::plan_names(&world.state, view);
        world.run(Plan { steps: vec![], changes });
        docker::plan_names(&world.state, view)
    };
    assert_eq!(rename(&mut world, &view("web")), []);
    assert_eq!(world.get("web").id.as_str(), CONTAINER);
    assert_eq!(world.get_network("mynet").id.as_str(), NET);
    rename(&mut world, &view("renamed"));
    assert_eq!(world.get("renamed").id.as_str(), CONTAINER);
    // One of netd's own keeps its name.
    world.create(&container("taken")).unwrap();
    rename(&mut world, &view("taken"));
    assert_eq!(world.get(CONTAINER).name.as_str(), &CONTAINER[..12]);
    world.leave(WEB);
    assert_eq!(world.get(WEB).state, ContainerState::Created);
    world.delete_endpoint(WEB);
    world.assert_consistent();
}
