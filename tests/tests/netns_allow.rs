//! Source allow-lists of published ports: who gets in, who does not, and what
//! a change does to connections that run.

use std::{
    net::{IpAddr, TcpStream, UdpSocket},
    time::Duration,
};

use netd_tests::{
    Agent, DEADLINE, Echo, NetNs, SILENCE, Topology, exchange,
    json::rows,
    topology::{HOST, at},
};

/// The outside's addresses: in 192.0.2.0/24 both, the second in `.64/26` too.
const NEAR: &str = "192.0.2.2";
const FAR: &str = "192.0.2.77";
const REFUSED: &str = "source_not_allowed";

/// The outside has [`NEAR`] and [`FAR`].
fn topology() -> Topology {
    let net = Topology::new();
    net.outside.ip(&format!("addr add {FAR}/24 dev eth0"));
    net
}

fn connect(ns: &NetNs, from: &str, within: Duration) -> std::io::Result<TcpStream> {
    let from: IpAddr = from.parse().expect("an address");
    ns.connect_from(from, at(HOST, 8080), within)
}

fn udp(ns: &NetNs, from: &str, port: u16) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind((from, port))).expect("bind a UDP socket");
    socket.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    ns.run(|| socket.connect(at(HOST, 8080))).expect("connect");
    socket
}

fn echoes(socket: &UdpSocket) -> bool {
    socket.send(b"hello").expect("send");
    matches!(socket.recv(&mut [0; 16]), Ok(5))
}

fn serve(agent: &Agent, spec: &str) -> Echo {
    let web = agent.container("web", &format!("-p {spec}"));
    if spec.contains("/udp") {
        web.ns.echo_udp("0.0.0.0:80")
    } else {
        web.ns.echo_tcp("0.0.0.0:80")
    }
}

#[test]
fn a_port_admits_the_sources_of_its_list_and_counts_the_others() {
    let net = topology();
    let agent = net.agent();
    let server = serve(&agent, "8080:80,from=192.0.2.64/26,from=10.0.0.0/8,from=2001:db8::/32");

    exchange(&mut connect(&net.outside, FAR, DEADLINE).unwrap(), b"hello");
    let before = agent.dropped(REFUSED);
    assert!(connect(&net.outside, NEAR, SILENCE).is_err());
    agent.expect_dropped(REFUSED, before);
    assert_eq!(server.peers().len(), 1);

    let listed = agent.json("port ls web");
    let from = &rows(&listed)[0]["From"];
    assert_eq!(*from, serde_json::json!(["192.0.2.64/26", "10.0.0.0/8", "2001:db8::/32"]));
}

#[test]
fn a_udp_port_has_a_list_too() {
    let net = topology();
    let agent = net.agent();
    let server = serve(&agent, "8080:80/udp,from=192.0.2.77");

    assert!(echoes(&udp(&net.outside, FAR, 4000)));
    let before = agent.dropped(REFUSED);
    assert!(!echoes(&udp(&net.outside, NEAR, 4000)));
    agent.expect_dropped(REFUSED, before);
    assert_eq!(server.peers().len(), 1);
}

#[test]
fn a_list_of_the_other_family_alone_admits_nobody() {
    let net = topology();
    let agent = net.agent();
    let server = serve(&agent, "0.0.0.0:8080:80,from=::/0");
    assert!(connect(&net.outside, FAR, SILENCE).is_err());
    assert!(server.peers().is_empty());
}

#[test]
fn a_list_changes_while_connections_run() {
    let net = topology();
    let agent = net.agent();
    let _server = serve(&agent, "8080:80");
    let mut near = connect(&net.outside, NEAR, DEADLINE).unwrap();
    let mut far = connect(&net.outside, FAR, DEADLINE).unwrap();
    exchange(&mut near, b"hello");
    exchange(&mut far, b"hello");

    agent.netd("port add web 8080:80,from=192.0.2.77").ok();
    exchange(&mut far, b"goes on");
    ends(&mut near);
    assert!(connect(&net.outside, NEAR, SILENCE).is_err());
    exchange(&mut connect(&net.outside, FAR, DEADLINE).unwrap(), b"hello");

    agent.netd("port add web 8080:80,from=192.0.2.0/24").ok();
    exchange(&mut far, b"is in both");
    exchange(&mut connect(&net.outside, NEAR, DEADLINE).unwrap(), b"hello");

    agent.netd("port add web 8080:80").ok();
    exchange(&mut far, b"still here");
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}

#[test]
fn a_udp_client_that_is_taken_off_the_list_is_cut_off_at_once() {
    let net = topology();
    let agent = net.agent();
    let _server = serve(&agent, "8080:80/udp");
    let (near, far) = (udp(&net.outside, NEAR, 4000), udp(&net.outside, FAR, 4000));
    assert!(echoes(&near) && echoes(&far));

    agent.netd("port add web 8080:80/udp,from=192.0.2.77").ok();
    assert!(echoes(&far) && !echoes(&near));
    agent.netd("port add web 8080:80/udp,from=192.0.2.2").ok();
    assert!(!echoes(&far) && echoes(&near));
}

#[test]
fn lists_outlive_the_agent_and_leave_with_their_port() {
    let net = topology();
    let mut agent = net.agent();
    let _server = serve(&agent, "8080:80,from=192.0.2.77");
    let before = agent.snapshot();
    agent.kill();
    assert!(connect(&net.outside, NEAR, SILENCE).is_err());
    agent.start_again();
    agent.snapshot().assert_same(&before);
    assert!(connect(&net.outside, NEAR, SILENCE).is_err());
    exchange(&mut connect(&net.outside, FAR, DEADLINE).unwrap(), b"hello");

    agent.netd("rm -f web").ok();
    agent.assert_clean();
}

#[test]
fn neighbours_and_other_networks_are_sources_like_any() {
    let net = topology();
    let agent = net.agent();
    agent.network("side", "10.77.0.0/24", "");
    let server = serve(&agent, "8080:80,from=10.77.0.0/24");
    let guest = agent.container("guest", "--network side");
    let neighbour = agent.container("neighbour", "");

    exchange(&mut guest.ns.connect(at(HOST, 8080)), b"hello");
    let before = agent.dropped(REFUSED);
    assert!(neighbour.ns.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    agent.expect_dropped(REFUSED, before);
    assert_eq!(server.peers().len(), 1);
}

/// The connection is dead: what is sent is not answered any more.
#[track_caller]
fn ends(stream: &mut TcpStream) {
    use std::io::{Read as _, Write as _};
    stream.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    let answered = stream.write_all(b"anyone?").and_then(|()| stream.read(&mut [0; 16]));
    assert!(!matches!(answered, Ok(1..)), "{answered:?}");
}
