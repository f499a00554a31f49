//! The plugin's socket, called as Docker 20.10, 28 and 29 call it, and as
//! nobody should.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    thread,
};

use netd_tests::{
    Agent, DEADLINE, Libnetwork, SILENCE, Topology, eventually, exchange,
    json::{one, rows, text},
    libnetwork::{Sandbox, Version},
    probe::reaches_tcp,
    topology::{HOST, OUTSIDE, at},
};
use serde_json::{Value, json};

const NETWORK: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DB: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const SUBNET: &str = "172.30.0.0/16";
const GATEWAY: &str = "172.30.0.1";

fn publish(port: u16) -> Value {
    json!([{
        "Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": port, "HostPortEnd": port,
    }])
}

fn endpoint(id: &str) -> Value {
    json!({ "NetworkID": NETWORK, "EndpointID": id })
}

/// An agent that does not wait long for what looks lost.
fn impatient(net: &Topology) -> Agent {
    net.agent_with_flags(&["--docker-patience", "1"])
}

#[track_caller]
fn serves(net: &Topology, web: &Sandbox, port: u16) {
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, port)), b"from outside");
    exchange(&mut net.host.connect(at(HOST, port)), b"from the host");
    exchange(&mut net.host.connect(([127, 0, 0, 1], port).into()), b"by the loopback");
    assert!(server.peers().iter().any(|peer| peer.ip() == OUTSIDE), "{:?}", server.peers());
}

/// From the first call to the last, as this version makes them.
fn a_life(version: Version) {
    let net = Topology::new();
    let agent = net.agent();
    let docker = Libnetwork::of(&agent, version);
    let generic = json!({ "com.docker.network.bridge.name": "docker1" });
    let pool = docker.create_network(NETWORK, SUBNET, &generic);
    let empty = agent.snapshot();
    let web = docker.run(&agent, NETWORK, &pool, WEB, &publish(8080));
    let db = docker.run(&agent, NETWORK, &pool, DB, &json!(null));

    serves(&net, &web, 8080);
    let beside = web.ns.echo_tcp("0.0.0.0:90");
    exchange(&mut db.ns.connect(at(web.ip, 90)), b"from the same network");
    assert_eq!(beside.peers()[0].ip(), db.ip);
    let away = net.outside.echo_tcp("0.0.0.0:7");
    exchange(&mut db.ns.connect(at(OUTSIDE, 7)), b"out, masqueraded");
    assert_eq!(away.peers()[0].ip(), HOST);

    // Both control planes show the same.
    let port = agent.json("port ls");
    assert_eq!(text(one(&port), "/HostIp"), "0.0.0.0");
    assert_eq!(text(one(&port), "/Container"), &WEB[..12]);
    let listed = agent.json("network ls");
    let row = rows(&listed).iter().find(|row| text(row, "/Id") == NETWORK).expect("the network");
    assert_eq!(row["Subnets"], json!([SUBNET]));
    assert_eq!(rows(&agent.json("ps")).len(), 2);
    let leases = agent.json("ipam");
    assert!(rows(&leases).iter().any(|row| text(row, "/Address") == web.ip.to_string()));
    agent.netd("port add aaaaaaaaaaaa 8081:80").ok();
    serves(&net, &web, 8081);

    docker.remove(&agent, &pool, web);
    docker.remove(&agent, &pool, db);
    agent.snapshot().without_flows().assert_same(&empty.without_flows());
    docker.delete_network(NETWORK, &pool, GATEWAY);
    agent.assert_clean();
}

#[test]
fn docker_20_10_lives_with_it() {
    a_life(Version::V20_10);
}

#[test]
fn docker_28_lives_with_it() {
    a_life(Version::V28);
}

#[test]
fn docker_29_lives_with_it() {
    a_life(Version::V29);
}

#[test]
fn what_is_repeated_unknown_or_out_of_order_does_no_harm() {
    let net = Topology::new();
    let agent = net.agent();
    let docker = Libnetwork::of(&agent, Version::V28);
    let pool = docker.create_network(NETWORK, SUBNET, &json!({}));
    let request = docker.network_request(NETWORK, SUBNET, "172.30.0.1/16", &json!({}));
    docker.ok("NetworkDriver.CreateNetwork", &request);
    for method in ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity"] {
        docker.ok(&format!("NetworkDriver.{method}"), &endpoint(WEB));
    }
    docker.ok("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": DB }));
    docker.ok("IpamDriver.ReleasePool", &json!({ "PoolID": "nowhere" }));
    docker.ok("IpamDriver.ReleaseAddress", &json!({ "PoolID": "nowhere", "Address": "1.2.3.4" }));
    assert!(docker.fails("NetworkDriver.Join", &endpoint(WEB)).contains("not found"));
    assert!(docker.fails("NetworkDriver.EndpointOperInfo", &endpoint(WEB)).contains("not found"));
    let lost = json!({ "PoolID": "nowhere", "Address": "" });
    assert!(docker.fails("IpamDriver.RequestAddress", &lost).contains("nowhere not found"));

    // A taken port is told with its owner, and leaves what there is.
    agent.container("own", "-p 8080:80");
    let web = docker.run(&agent, NETWORK, &pool, WEB, &json!([]));
    let mut program = endpoint(WEB);
    program["Options"] = json!({ "com.docker.network.portmap": publish(8080) });
    assert_eq!(
        docker.fails("NetworkDriver.ProgramExternalConnectivity", &program),
        "Bind for 0.0.0.0:8080 failed: port is already allocated (the port is used by container own)"
    );
    program["Options"] = json!({ "com.docker.network.portmap": publish(8081) });
    for _ in 0..2 {
        docker.ok("NetworkDriver.ProgramExternalConnectivity", &program);
    }
    serves(&net, &web, 8081);
    let again = agent.snapshot();
    let mut create = endpoint(WEB);
    create["Interface"] = json!({ "Address": format!("{}/16", web.ip) });
    docker.ok("NetworkDriver.CreateEndpoint", &create);
    agent.snapshot().without_flows().assert_same(&again.without_flows());
    // Leave without Revoke, twice, closes the port.
    docker.ok("NetworkDriver.Leave", &endpoint(WEB));
    docker.ok("NetworkDriver.Leave", &endpoint(WEB));
    assert!(!reaches_tcp(&net.outside, at(HOST, 8081), SILENCE));
    docker.ok("NetworkDriver.DeleteEndpoint", &endpoint(WEB));
    docker.ok("NetworkDriver.DeleteEndpoint", &endpoint(WEB));
    docker.delete_network(NETWORK, &pool, GATEWAY);
    docker.ok("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": NETWORK }));
}

#[test]
fn what_is_no_request_is_answered_and_the_rest_is_served() {
    let net = Topology::new();
    let agent = net.agent();
    let docker = Libnetwork::of(&agent, Version::V28);
    let before = agent.snapshot();

    // Two that never finish: one in its head, one in its body.
    let mut head = docker.connect();
    head.write_all(b"POST /NetworkDriver.Join HTTP/1.1\r\nHost:").unwrap();
    let mut body = docker.connect();
    body.write_all(b"POST /NetworkDriver.Join HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        .unwrap();

    let unknown = docker.post("NetworkDriver.Fly", b"{}");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.body, json!({ "Err": "netd has no method NetworkDriver.Fly" }));
    for broken in [&b"{"[..], b"", b"3", b"\xff", br#"{"NetworkID":1}"#] {
        let answer = docker.post("NetworkDriver.CreateNetwork", broken);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(text(&answer.body, "/Err").starts_with("invalid request body"));
    }
    let answer = docker.post("IpamDriver.RequestPool", b"nonsense");
    assert_eq!((answer.status, answer.body.get("Error").is_some()), (400, true));
    let large = docker.post("IpamDriver.RequestPool", &vec![b' '; 100 << 20]);
    assert_eq!(large.status, 413);
    assert_eq!(large.body, json!({ "Error": "invalid request body: it is larger than 16 MiB" }));
    for bad in ["..", "/etc/passwd", "x", "", "é"] {
        let request = docker.network_request(bad, SUBNET, "172.30.0.1/16", &json!({}));
        assert!(docker.fails("NetworkDriver.CreateNetwork", &request).starts_with("invalid id"));
    }
    agent.snapshot().assert_same(&before);

    // The one that is cut off and the one that waits are both let go.
    head.shutdown(Shutdown::Both).unwrap();
    assert_eq!(Libnetwork::answer(&mut body).status, 408);
    agent.netd("network ls").ok();
}

#[test]
fn fifty_at_once_come_and_go() {
    let net = Topology::new();
    let agent = net.agent();
    let docker = Libnetwork::of(&agent, Version::V28);
    let pool = docker.create_network(NETWORK, SUBNET, &json!({}));
    let ids: Vec<String> =
        (0..50).map(|n| format!("{:064x}", (n + 1) * 0x1234_5678_9abc_u64)).collect();
    let ids: Vec<String> = ids.iter().map(|id| id.chars().rev().collect()).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = ids
            .iter()
            .zip(20000..)
            .map(|(id, port)| {
                let (docker, agent, pool) = (&docker, &agent, &pool);
                scope.spawn(move || {
                    let web = docker.run(agent, NETWORK, pool, id, &publish(port));
                    docker.remove(agent, pool, web);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a container's life");
        }
    });
    docker.delete_network(NETWORK, &pool, GATEWAY);
    agent.assert_clean();
}

#[test]
fn what_docker_lost_is_collected() {
    let net = Topology::new();
    let mut agent = impatient(&net);
    let docker = Libnetwork::of(&agent, Version::V28);
    let pool = docker.create_network(NETWORK, SUBNET, &json!({}));
    let empty = agent.snapshot();
    let gone = |agent: &Agent, what: &str| {
        eventually(DEADLINE, what, || (agent.json("ps") == json!([])).then_some(()));
        let port = net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into());
        port.expect("the port is free");
    };

    // The namespace ends, and nobody says so.
    let web = docker.run(&agent, NETWORK, &pool, WEB, &publish(8080));
    web.end();
    gone(&agent, "a dead sandbox is collected");

    // It ends while no agent runs.
    let web = docker.run(&agent, NETWORK, &pool, WEB, &publish(8080));
    agent.kill();
    web.end();
    agent.start_again();
    gone(&agent, "a sandbox that died meanwhile is collected");

    // It was never joined, or its address never used.
    let lease = json!({ "PoolID": text(&pool, "/PoolID"), "Address": "", "Options": {} });
    docker.ok("IpamDriver.RequestAddress", &lease);
    docker.ok("NetworkDriver.CreateEndpoint", &endpoint(DB));
    gone(&agent, "an endpoint without a sandbox is collected");
    eventually(DEADLINE, "the lease is given back", || {
        let next = docker.ok("IpamDriver.RequestAddress", &lease);
        let address = text(&next, "/Address").to_owned();
        let mut release = lease.clone();
        release["Address"] = json!(address.trim_end_matches("/16"));
        docker.ok("IpamDriver.ReleaseAddress", &release);
        (address == "172.30.0.2/16").then_some(())
    });
    agent.snapshot().without_flows().assert_same(&empty.without_flows());
    docker.delete_network(NETWORK, &pool, GATEWAY);
}

#[test]
fn connections_live_on_while_the_agent_is_away() {
    let net = Topology::new();
    let mut agent = net.agent();
    let docker = Libnetwork::of(&agent, Version::V20_10);
    let pool = docker.create_network(NETWORK, SUBNET, &json!({}));
    let web = docker.run(&agent, NETWORK, &pool, WEB, &publish(8080));
    let server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, b"before");
    agent.kill();
    exchange(&mut stream, b"without an agent");
    agent.start_again();
    exchange(&mut stream, b"with the next");
    agent.stop();
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one without");
    agent.start_again();
    exchange(&mut stream, b"and with the one after");
    drop(server);
    docker.remove(&agent, &pool, web);
    docker.delete_network(NETWORK, &pool, GATEWAY);
    agent.assert_clean();
}

/// A dockerd that only tells what it has.
fn tell(agent: &Agent, networks: &Value, containers: &Value) -> Arc<Mutex<(Value, Value)>> {
    let told = Arc::new(Mutex::new((networks.clone(), containers.clone())));
    let listener =
        UnixListener::bind(agent.root().join("run/docker.sock")).expect("listen as dockerd");
    let shared = Arc::clone(&told);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a request");
            let (networks, containers) = shared.lock().expect("nobody panics").clone();
            let body = if line.contains("/networks") { networks } else { containers }.to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    told
}

#[test]
fn names_are_dockers_and_what_it_forgot_goes() {
    let net = Topology::new();
    let agent = impatient(&net);
    let docker = Libnetwork::of(&agent, Version::V28);
    let pool = docker.create_network(NETWORK, SUBNET, &json!({}));
    let web = docker.run(&agent, NETWORK, &pool, WEB, &publish(8080));
    let id = "cc".repeat(32);
    let config = json!({ "Config": [{ "Subnet": SUBNET }] });
    let told = tell(
        &agent,
        &json!([{ "Id": NETWORK, "Name": "mynet", "Driver": "netd", "IPAM": config }]),
        &json!([{
            "Id": id, "Names": ["/web"], "Command": "sleep 1d",
            "NetworkSettings": { "Networks": { "mynet": { "EndpointID": WEB } } },
        }]),
    );
    eventually(DEADLINE, "the container has Docker's name", || {
        let list = agent.json("ps");
        (text(one(&list), "/Name") == "web").then_some(())
    });
    let shown = agent.inspect("inspect web");
    assert_eq!(text(one(&shown), "/Id"), id);
    assert_eq!(text(one(&shown), "/NetworkSettings/Networks/mynet/IPAddress"), web.ip.to_string());
    agent.netd("network rm mynet").fails(1, "network mynet belongs to Docker");
    agent.netd("stop web").fails(1, "container web belongs to Docker");
    serves(&net, &web, 8080);

    *told.lock().unwrap() = (json!([]), json!([]));
    eventually(DEADLINE, "all that Docker forgot is gone", || {
        (agent.json("ps") == json!([]) && rows(&agent.json("network ls")).len() == 1).then_some(())
    });
    drop(web);
    eventually(DEADLINE, "the pool too", || {
        let again = json!({ "Pool": SUBNET, "AddressSpace": "netd-local" });
        docker.call("IpamDriver.RequestPool", &again).get("PoolID").map(|_| ())
    });
}
