//! Networks that a real dockerd makes with `-d netd`, and containers in them.

use std::net::{IpAddr, Ipv4Addr};

use netd_tests::{
    DEADLINE, Docker, Family, SILENCE, Topology, eventually, exchange,
    json::{one, rows, text},
    probe,
    topology::{HOST, OUTSIDE, at, links},
};
use serde_json::json;

/// With netd's addresses, and with those of Docker's own IPAM.
const IPAM: [&str; 2] = ["--ipam-driver netd", ""];

#[test]
fn a_network_is_made_used_and_gone() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    for ipam in IPAM {
        docker
            .docker(&format!(
                "network create -d netd {ipam} --subnet 172.18.0.0/16 \
                 -o com.docker.network.bridge.name=docker1 mynetwork"
            ))
            .ok();
        assert!(links(&net.host).contains(&"docker1".to_owned()));
        let web = docker.container("web", "--net mynetwork --ip 172.18.0.10");
        assert_eq!(web.ip, Ipv4Addr::new(172, 18, 0, 10));
        let list = docker.json("inspect web");
        let endpoint = one(&list).pointer("/NetworkSettings/Networks/mynetwork").expect("it is on");
        assert_eq!(text(endpoint, "/Gateway"), "172.18.0.1");
        assert!(web.ns.ip("addr show eth0").contains("172.18.0.10/16"));
        web.ns.exec("ping -c 1 -W 2 172.18.0.1");
        net.host.exec("ping -c 1 -W 2 172.18.0.10");

        let refused = docker.refuses("network rm mynetwork");
        assert!(refused.contains("has active endpoints"), "{refused}");
        docker.docker("stop web").ok();
        docker.docker("network rm mynetwork").ok();
        assert!(!links(&net.host).contains(&"docker1".to_owned()));
        docker.docker("rm web").ok();
        docker.wait_for_shims();
        agent.assert_clean();
    }
}

#[test]
fn a_stopped_container_starts_again_where_it_was() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    docker.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
    for again in ["stop web", "kill web"] {
        docker.docker(again).ok();
        assert_eq!(agent.json("port ls"), json!([]), "{again}");
        docker.docker("start web").ok();
        let web = docker.find("web");
        assert_eq!(web.ip, Ipv4Addr::new(172, 18, 0, 10));
        let server = web.ns.echo_tcp("0.0.0.0:80");
        exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
        assert_eq!(server.peers()[0].ip(), OUTSIDE);
    }
    docker.docker("restart web").ok();
    docker.docker("rm -f web").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn addresses_are_given_as_the_network_says() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    for ipam in IPAM {
        docker
            .docker(&format!(
                "network create -d netd {ipam} --subnet 172.18.0.0/24 --gateway 172.18.0.254 \
                 --ip-range 172.18.0.8/29 --aux-address printer=172.18.0.9 mine"
            ))
            .ok();
        let mut addresses: Vec<_> = ["c1", "c2", "c3"]
            .iter()
            .map(|name| docker.container(name, "--network mine"))
            .map(|container| {
                let route = container.ns.ip("route show default");
                assert!(route.contains("via 172.18.0.254"), "{route}");
                container.ip.octets()[3]
            })
            .collect();
        addresses.sort_unstable();
        assert!(addresses.iter().all(|last| (8..16).contains(last) && *last != 9), "{addresses:?}");
        addresses.dedup();
        assert_eq!(addresses.len(), 3);
        let chosen = docker
            .container("c4", "--network mine --ip 172.18.0.77 --mac-address 02:00:00:00:00:77");
        assert_eq!((chosen.ip.octets()[3], chosen.mac.as_str()), (77, "02:00:00:00:00:77"));
        assert!(chosen.ns.ip("link show eth0").contains("02:00:00:00:00:77"));
        chosen.ns.exec("ping -c 1 -W 2 172.18.0.254");

        docker.docker("rm -f c1 c2 c3 c4").ok();
        docker.docker("network rm mine").ok();
    }
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn subnets_are_chosen_where_none_is_asked_for() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    let mut subnets = Vec::new();
    for name in ["a", "b", "c"] {
        docker.docker(&format!("network create -d netd --ipam-driver netd {name}")).ok();
        let list = docker.json(&format!("network inspect {name}"));
        subnets.push(text(one(&list), "/IPAM/Config/0/Subnet").to_owned());
        let container = docker.container(&format!("in-{name}"), &format!("--network {name}"));
        let _server = net.outside.echo_tcp("0.0.0.0:7");
        exchange(&mut container.ns.connect(at(OUTSIDE, 7)), b"hello");
    }
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    docker.docker("rm -f in-a in-b in-c").ok();
    docker.docker("network rm a b c").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn an_internal_network_leads_nowhere_else() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("inner", "172.18.0.0/24", "--internal");
    let web = docker.container("web", "--network inner");
    let client = docker.container("client", "--network inner");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut client.ns.connect(web.at(80)), b"hello");
    assert_eq!(server.peers()[0].ip(), client.ip);
    assert_eq!(client.ns.ip("route show default"), "", "no way out");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    assert!(!probe::reaches_tcp(&client.ns, at(OUTSIDE, 7), SILENCE));
    assert_no_gateway_network(&docker);
    docker.exec("client", "nslookup web 127.0.0.11").ok();
    drop(agent);
}

#[test]
fn both_families_reach_the_outside_and_each_other() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64");
    let web = docker.container("web", "--network mine");
    let client = docker.container("client", "--network mine --ip6 fd00:18::77");
    assert_eq!(client.address(Family::V6), "fd00:18::77".parse::<IpAddr>().unwrap());
    for family in Family::ALL {
        let outside = net.outside.echo_tcp(&family.any(7));
        exchange(&mut client.ns.connect(at(family.outside(), 7)), b"hello");
        assert_eq!(outside.peers()[0].ip(), family.host(), "the host's address is its own");
        let server = web.ns.echo_tcp(&family.any(80));
        exchange(&mut client.ns.connect(at(web.address(family), 80)), b"hello");
        assert_eq!(server.peers()[0].ip(), client.address(family));
    }
    docker.docker("rm -f web client").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("one", "172.18.0.0/24", "");
    docker.network("two", "172.19.0.0/24", "");
    let web = docker.container("web", "--network one -p 8080:80");
    let client = docker.container("client", "--network two");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    assert!(!probe::reaches_tcp(&client.ns, web.at(80), SILENCE), "isolated");
    let mut kept = net.outside.connect(at(HOST, 8080));
    exchange(&mut kept, b"before");

    docker.docker("network connect --ip 172.19.0.50 --alias shop two web").ok();
    assert!(web.ns.ip("addr show eth1").contains("172.19.0.50/24"));
    exchange(&mut client.ns.connect(at([172, 19, 0, 50], 80)), b"hello");
    let said = docker.exec("client", "nslookup shop 127.0.0.11").ok();
    assert!(said.contains("172.19.0.50"), "{said}");
    exchange(&mut kept, b"with both");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one");

    docker.docker("network disconnect two web").ok();
    assert!(!links(&web.ns).contains(&"eth1".to_owned()));
    assert!(!probe::reaches_tcp(&client.ns, at([172, 19, 0, 50], 80), SILENCE));
    exchange(&mut kept, b"with one again");
    docker.docker("network disconnect one web").ok();
    assert_eq!(links(&web.ns), [""; 0]);
    net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into()).unwrap();
    drop((server, kept));

    docker.docker("rm -f web client").ok();
    docker.docker("network rm one two").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn names_inside_and_names_outside_are_resolved() {
    let net = Topology::new();
    let (docker, _agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let web = docker.container("web", "--network mine --network-alias shop");
    docker.container("client", &format!("--network mine --dns {OUTSIDE}"));
    for name in ["web", "shop"] {
        let said = docker.exec("client", &format!("nslookup {name} 127.0.0.11")).ok();
        assert!(said.contains(&web.ip.to_string()), "{said}");
    }
    // Whatever else is asked for goes to the name server of the container.
    let server = net.outside.echo_udp("0.0.0.0:53");
    docker.exec("client", "nslookup example.org 127.0.0.11");
    let asked = server.heard();
    assert!(asked.iter().any(|heard| heard.data.windows(7).any(|w| w == b"example")), "{asked:?}");
    assert_eq!(asked[0].peer.ip(), HOST);
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    let create = "network create -d netd --ipam-driver netd";
    for (line, text) in [
        ("--subnet 172.18.0.1/24 x", "invalid subnet 172.18.0.1/24: it should be 172.18.0.0/24"),
        ("--subnet 192.0.2.0/25 x", "overlaps"),
        ("--subnet 172.18.0.0/24 -o com.docker.network.bridge.nmae=y x", "bridge.nmae"),
        ("--subnet 172.18.0.0/24 -o com.docker.network.driver.mtu=-1 x", "invalid MTU number"),
    ] {
        let said = docker.refuses(&format!("{create} {line}"));
        assert!(said.contains(text), "{line}: {said}");
    }
    agent.assert_clean();
    docker.network("mine", "172.18.0.0/29", "");
    let said = docker.refuses(&format!("{create} --subnet 172.18.0.0/24 y"));
    assert!(said.contains("Pool overlaps with other one on this address space"), "{said}");
    docker.container("c1", "--network mine --ip 172.18.0.2");
    let run =
        |options: &str| docker.refuses(&format!("run --rm --network mine {options} box true"));
    let said = run("--ip 172.18.0.2");
    assert!(said.contains("Address already in use"), "{said}");
    // Docker's own words: it asks no one.
    let said = run("--ip 172.19.0.2");
    assert!(said.contains("Invalid address 172.19.0.2: It does not belong"), "{said}");
    for name in ["c2", "c3", "c4", "c5"] {
        docker.container(name, "--network mine");
    }
    let said = run("");
    assert!(said.contains("no available IPv4 addresses on this network's address pools"), "{said}");
    docker.docker("rm -f c1 c2 c3 c4 c5").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn both_control_planes_show_one_truth() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    let id = docker.network("mine", "172.18.0.0/24", "--label team=a");
    let web = docker.container("web", "--network mine -p 8080:80 -p 8081:81/udp");
    // The names come from Docker's own socket, a moment later.
    let has = |list: &str, pointer: &str, wanted: &str| {
        rows(&agent.json(list)).iter().any(|row| text(row, pointer) == wanted).then_some(())
    };
    eventually(DEADLINE, "the network's name is known", || has("network ls", "/Name", "mine"));
    eventually(DEADLINE, "the container's name is known", || has("ps", "/Name", "web"));

    let networks = agent.json("network ls");
    let row = rows(&networks).iter().find(|row| text(row, "/Name") == "mine").expect("it is shown");
    assert_eq!((text(row, "/Id"), &row["Subnets"]), (&*id, &json!(["172.18.0.0/24"])));
    let shown = agent.inspect("network inspect mine");
    assert_eq!(text(one(&shown), "/IPAM/Config/0/Gateway"), "172.18.0.1");
    assert_eq!(text(one(&shown), "/Labels/team"), "a");
    let containers = agent.json("ps");
    let row = one(&containers);
    assert_eq!((text(row, "/Id"), text(row, "/State")), (&*web.id, "running"));
    assert_eq!(row["Networks"], json!(["mine"]));
    let shown = agent.inspect("inspect web");
    let endpoint = one(&shown).pointer("/NetworkSettings/Networks/mine").expect("it is on");
    assert_eq!(text(endpoint, "/IPAddress"), web.ip.to_string());
    assert_eq!(text(endpoint, "/MacAddress"), web.mac);
    let ports = agent.json("port ls web");
    let ports: Vec<_> =
        rows(&ports).iter().map(|row| (&row["HostPort"], text(row, "/Protocol"))).collect();
    assert_eq!(ports, [(&json!(8080), "tcp"), (&json!(8081), "udp")]);
    let leases = agent.json("ipam");
    let own = rows(&leases).iter().filter(|row| text(row, "/Network") == "mine");
    let own: Vec<_> = own.map(|row| (text(row, "/Address"), text(row, "/Owner"))).collect();
    assert!(own.contains(&(&*web.ip.to_string(), "web")), "{own:?}");

    // Docker's are removed by Docker.
    for line in ["rm -f web", "network rm mine"] {
        let refused = agent.netd(line);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.hint().contains(&format!("docker {line}").replace(" -f", "")), "{refused}");
    }
    docker.docker("rename web shop").ok();
    docker.docker("network connect bridge shop").ok();
    docker.docker("rm -f shop").ok();
    assert_eq!(agent.json("ps -a"), json!([]));
}

/// Docker has not attached anything to a bridge of its own.
#[track_caller]
fn assert_no_gateway_network(docker: &Docker) {
    let networks = docker.docker("network ls --format {{.Name}}").ok();
    assert!(!networks.contains("docker_gwbridge"), "{networks}");
}
