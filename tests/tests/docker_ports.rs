//! Ports that a real dockerd publishes through netd.

use std::{net::Ipv4Addr, time::Duration};

use netd_tests::{
    Agent, DEADLINE, Docker, Family, SILENCE, Topology, eventually, exchange,
    json::{number, rows, text},
    probe,
    topology::{HOST, OUTSIDE, at},
};

#[test]
fn everyone_reaches_a_published_port_and_is_seen_as_who_they_are() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "--ipv6 --subnet fd00:18::/64");
    docker.network("other", "172.19.0.0/24", "--ipv6 --subnet fd00:19::/64");
    let web = docker.container("web", "--network mine -p 8080:80 -p 8080:80/udp");
    let client = docker.container("client", "--network mine");
    let stranger = docker.container("stranger", "--network other");
    for family in Family::ALL {
        let (tcp, udp) = (web.ns.echo_tcp(&family.any(80)), web.ns.echo_udp(&family.any(80)));
        let published = at(family.host(), 8080);
        let gateway = family.pick([172, 18, 0, 1].into(), "fd00:18::1".parse().unwrap());
        for (from, to, seen) in [
            (&net.outside, published, family.outside()),
            (&net.host, published, gateway),
            (&net.host, at(family.loopback(), 8080), gateway),
            (&client.ns, published, client.address(family)),
            (&client.ns, at(web.address(family), 80), client.address(family)),
            (&stranger.ns, published, stranger.address(family)),
            (&web.ns, published, gateway),
        ] {
            let talk = probe::tcp(from, to, &tcp, &[1, 4000]);
            let (peer, _) = talk.unwrap_or_else(|e| {
                panic!("TCP {} to {to}: {e:#}\n{}", from.name(), from.ip("route"))
            });
            assert_eq!(peer.ip(), seen, "TCP {} to {to}", from.name());
            let talk = probe::udp(from, to, &udp, &[5, 1400]);
            let (peer, _) = talk.unwrap_or_else(|e| panic!("UDP {} to {to}: {e:#}", from.name()));
            assert_eq!(peer.ip(), seen, "UDP {} to {to}", from.name());
        }
    }
    nothing_of_netds_in_netfilter(&docker, &["172.18.0.", "172.19.0.", "fd00:1", "8080"]);
    assert_eq!(docker.processes("docker-proxy"), [""; 0]);
    let networks = docker.docker("network ls --format {{.Name}}").ok();
    assert!(!networks.contains("docker_gwbridge"), "{networks}");

    docker.docker("rm -f web client stranger").ok();
    docker.docker("network rm mine other").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

/// Whatever netfilter does in the host, it does without these words.
#[track_caller]
fn nothing_of_netds_in_netfilter(docker: &Docker, words: &[&str]) {
    for line in ["iptables-save", "ip6tables-save", "nft list ruleset"] {
        let rules = docker.host().exec(line);
        for word in words {
            assert!(!rules.contains(word), "{line} has {word}:\n{rules}");
        }
    }
}

#[test]
fn containers_find_a_published_service_by_name_too() {
    let net = Topology::new();
    let (docker, _agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let web = docker.container("web", "--network mine -p 8080:80");
    docker.container("client", "--network mine");
    docker.command(["exec", "web", "sh", "-c", "echo hello > /www/index.html"]).output().ok();
    docker.docker("exec -d web httpd -f -p 80 -h /www").ok();
    web.ns.wait_for_listener(80);
    assert_eq!(docker.exec("client", "wget -qO- http://web/").ok(), "hello");
    assert_eq!(docker.exec("client", &format!("wget -qO- http://{HOST}:8080/")).ok(), "hello");
}

/// `netd port ls` as (host address, host port, container port, protocol).
fn listed(agent: &Agent) -> Vec<(String, u64, u64, String)> {
    let list = agent.json("port ls");
    let row = |row| {
        let own = |key| text(row, key).to_owned();
        (own("/HostIp"), number(row, "/HostPort"), number(row, "/ContainerPort"), own("/Protocol"))
    };
    rows(&list).iter().map(row).collect()
}

#[test]
fn every_form_of_publishing_leads_where_it_says() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let web = docker.container(
        "web",
        "--network mine -p 127.0.0.1:8081:81 -p 9000-9002:90-92/udp -p 9100-9109:100 \
         -p 192.0.2.1:8082:82 -p 83 --expose 84 --expose 85/udp -P",
    );
    let ports = listed(&agent);
    let of = |port: u64, protocol: &str| {
        let found = ports.iter().find(|row| (row.2, &*row.3) == (port, protocol));
        let (ip, host, ..) = found.unwrap_or_else(|| panic!("no {port}/{protocol}: {ports:?}"));
        (ip.as_str(), u16::try_from(*host).expect("a port"))
    };
    assert_eq!(of(81, "tcp"), ("127.0.0.1", 8081));
    assert_eq!(of(82, "tcp"), ("192.0.2.1", 8082));
    assert!((9100..=9109).contains(&of(100, "tcp").1));
    for n in 0..3 {
        assert_eq!(of(90 + u64::from(n), "udp"), ("0.0.0.0", 9000 + n));
    }
    let picked =
        [(83, "tcp"), (84, "tcp"), (85, "udp")].map(|(port, protocol)| of(port, protocol).1);
    assert!(picked.iter().all(|port| *port >= 1024), "{picked:?}");

    // From outside, but for the one on the loopback.
    for (inner, published) in
        [(82, 8082), (100, of(100, "tcp").1), (83, picked[0]), (84, picked[1])]
    {
        let server = web.ns.echo_tcp(&format!("0.0.0.0:{inner}"));
        exchange(&mut net.outside.connect(at(HOST, published)), b"hello");
        assert_eq!(server.peers()[0].ip(), OUTSIDE, "{inner}");
    }
    for (inner, published) in [(90, 9000), (91, 9001), (92, 9002), (85, picked[2])] {
        let server = web.ns.echo_udp(&format!("0.0.0.0:{inner}"));
        let outcome = probe::udp(&net.outside, at(HOST, published), &server, &[9]);
        outcome.unwrap_or_else(|e| panic!("UDP {inner}: {e:#}"));
    }
    let _server = web.ns.echo_tcp("0.0.0.0:81");
    exchange(&mut net.host.connect(at(Ipv4Addr::LOCALHOST, 8081)), b"hello");
    assert!(!probe::reaches_tcp(&net.outside, at(HOST, 8081), SILENCE));

    docker.docker("rm -f web").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn a_port_that_is_taken_is_refused_by_its_owners_name_and_nothing_is_left() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    eventually(DEADLINE, "the network's name is known", || {
        (agent.netd("network inspect mine").code == 0).then_some(())
    });
    let before = agent.snapshot();
    let run = |options: &str| {
        let said = docker.refuses(&format!("run -d --name late --network mine {options} box"));
        docker.docker("rm -f late").ok();
        said
    };
    let held = net.host.run(|| std::net::TcpListener::bind("0.0.0.0:8080")).unwrap();
    let said = run("-p 8080:80");
    assert!(
        said.contains("failed to bind host port 0.0.0.0:8080/tcp: address already in use"),
        "{said}"
    );
    drop(held);
    docker.wait_for_shims();
    agent.snapshot().assert_same(&before);

    let web = docker.container("web", "--network mine -p 8080:80");
    let said = run("-p 8079:79 -p 8080:80");
    assert!(said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    net.host.can_bind_tcp(([0, 0, 0, 0], 8079).into()).unwrap();
    // Docker's own bridge and netd keep out of each other's way.
    let said = docker.refuses("run -d --name late -p 8080:80 box");
    assert!(said.contains("address already in use"), "{said}");
    docker.docker("rm -f late").ok();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
}

#[test]
fn ports_of_a_running_container_are_added_and_removed_by_netd() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let web = docker.container("web", "--network mine");
    eventually(DEADLINE, "the container's name is known", || {
        (agent.netd("inspect web").code == 0).then_some(())
    });
    agent.netd("port add web 8080:80").ok();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
    agent.netd("port rm web 8080:80").ok();
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    agent.netd("port add web 8080:80").ok();
    docker.docker("rm -f web").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn a_datagram_never_reaches_the_container_before() {
    let net = Topology::new();
    let (docker, _agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let mut address = None;
    // One client socket, and one container after the other behind the port.
    let client = net.outside.udp_to(at(HOST, 5353));
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("set a deadline");
    for round in 0..3_u8 {
        let web = docker.container("web", "--network mine -p 5353:53/udp");
        assert_ne!(address.replace(web.ip), Some(web.ip), "the address is another's meanwhile");
        let server = web.ns.echo_udp("0.0.0.0:53");
        eventually(DEADLINE, "the new container answers", || {
            client.send(&[round]).ok()?;
            matches!(client.recv(&mut [0]), Ok(1)).then_some(())
        });
        assert_eq!(server.peers()[0].ip(), OUTSIDE);
        drop(server);
        docker.docker("rm -f web").ok();
        docker.container(&format!("holder-{round}"), &format!("--network mine --ip {}", web.ip));
    }
}
