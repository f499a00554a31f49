//! Flows end with what they were opened by, in both families: no packet goes
//! to a container that the port no longer leads to.

use std::net::{SocketAddr, UdpSocket};

use netd_tests::{Agent, Container, Family, SILENCE, Topology, exchange, topology::at};

/// A dual-stack network `blue`.
fn dual_stack(net: &Topology) -> Agent {
    let agent = net.agent();
    agent.network("blue", "172.18.0.0/16", "--ipv6 --subnet fd00:18::/64");
    agent
}

fn serving(agent: &Agent, name: &str, ports: &str) -> Container {
    agent.container(name, &format!("--network blue {ports}"))
}

fn echoes(socket: &UdpSocket) -> bool {
    socket.send(b"hello").is_ok() && matches!(socket.recv(&mut [0; 16]), Ok(5))
}

/// A client socket of the outside's, which gives up soon.
fn client(net: &Topology, to: SocketAddr) -> UdpSocket {
    let socket = net.outside.udp_to(to);
    socket.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    socket
}

#[test]
fn the_next_datagram_after_a_port_has_moved_reaches_the_new_container() {
    let net = Topology::new();
    let agent = dual_stack(&net);
    let old = serving(&agent, "old", "-p 8080:80/udp");
    let new = serving(&agent, "new", "");
    let clients = Family::ALL.map(|family| client(&net, at(family.host(), 8080)));
    let old_servers = Family::ALL.map(|family| old.ns.echo_udp(&family.any(80)));
    let new_servers = Family::ALL.map(|family| new.ns.echo_udp(&family.any(80)));
    assert!(clients.iter().all(echoes));

    agent.netd("port rm old 8080:80/udp").ok();
    agent.netd("port add new 8080:80/udp").ok();
    for (family, client) in Family::ALL.into_iter().zip(&clients) {
        assert!(echoes(client), "{family}: the very next one");
    }
    assert!(old_servers.iter().all(|server| server.heard().len() == 1));
    assert!(new_servers.iter().all(|server| server.heard().len() == 1));
}

#[test]
fn the_next_datagram_after_a_container_was_replaced_reaches_its_successor() {
    let net = Topology::new();
    let agent = dual_stack(&net);
    let old = serving(&agent, "old", "-p 8080:80/udp");
    let clients = Family::ALL.map(|family| client(&net, at(family.host(), 8080)));
    let servers = Family::ALL.map(|family| old.ns.echo_udp(&family.any(80)));
    assert!(clients.iter().all(echoes));
    drop(servers);

    agent.netd("rm -f old").ok();
    let new = serving(&agent, "new", "-p 8080:80/udp");
    let servers = Family::ALL.map(|family| new.ns.echo_udp(&family.any(80)));
    assert!(clients.iter().all(echoes));
    assert!(servers.iter().all(|server| server.heard().len() == 1));
}

#[test]
fn connections_end_with_their_port_and_others_go_on() {
    let net = Topology::new();
    let agent = dual_stack(&net);
    let web = serving(&agent, "web", "-p 8080:80 -p 8081:80");
    let _servers = Family::ALL.map(|family| web.ns.echo_tcp(&family.any(80)));
    let connect = |family: Family, port| net.outside.connect(at(family.host(), port));
    let mut ended = Family::ALL.map(|family| connect(family, 8080));
    let mut kept = Family::ALL.map(|family| connect(family, 8081));
    for stream in ended.iter_mut().chain(&mut kept) {
        exchange(stream, b"hello");
    }

    agent.netd("port rm web 8080:80").ok();
    for stream in &mut kept {
        exchange(stream, b"goes on");
    }
    for stream in &mut ended {
        use std::io::{Read as _, Write as _};
        stream.set_read_timeout(Some(SILENCE)).expect("set a deadline");
        let answered = stream.write_all(b"anyone?").and_then(|()| stream.read(&mut [0; 16]));
        assert!(!matches!(answered, Ok(1..)), "{answered:?}");
    }
}

#[test]
fn a_port_of_one_host_address_does_not_take_the_flows_of_another_along() {
    let net = Topology::new();
    net.host.ip("addr add 192.0.2.9/24 dev up0");
    let agent = net.agent();
    let web = agent.container("web", "-p 192.0.2.1:8080:80/udp -p 192.0.2.9:8080:80/udp");
    let _server = web.ns.echo_udp("0.0.0.0:80");
    let (first, second) =
        ["192.0.2.1:8080", "192.0.2.9:8080"].map(|to| client(&net, to.parse().unwrap())).into();
    assert!(echoes(&first) && echoes(&second));
    let flows = || agent.json("flows").as_array().map_or(0, Vec::len);
    assert_eq!(flows(), 2);

    agent.netd("port rm web 192.0.2.1:8080:80/udp").ok();
    assert_eq!(flows(), 1, "one has ended, the other has not");
    assert!(echoes(&second) && !echoes(&first));
}
