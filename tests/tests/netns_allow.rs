//! Source allow-lists of published ports: who gets in, who does not, and what
//! a change does to connections that run.

use std::{
    net::{IpAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{
    Agent, Container, DEADLINE, Family, NetNs, SILENCE, Snapshot, Topology, exchange, json::rows,
    topology::at,
};
use serde_json::json;

const REFUSED: &str = "source_not_allowed";

/// One of the outside's addresses.
fn near(family: Family) -> IpAddr {
    family.outside()
}

/// The other, which has a block of its own, too.
fn far(family: Family) -> IpAddr {
    family.pick("192.0.2.77", "2001:db8:0:1::77").parse().expect("an address")
}

/// A block with `far` in it, and not `near`.
fn far_block(family: Family) -> &'static str {
    family.pick("192.0.2.64/26", "2001:db8:0:1::40/122")
}

/// A block with both in it.
fn block(family: Family) -> &'static str {
    family.pick("192.0.2.0/24", "2001:db8:0:1::/64")
}

/// The outside has `near` and `far`; the default network has both families.
fn topology() -> (Topology, Agent) {
    let net = Topology::new();
    net.outside.ip(&format!("addr add {}/24 dev eth0", far(Family::V4)));
    net.outside.ip(&format!("addr add {}/64 dev eth0 nodad", far(Family::V6)));
    let agent = net.agent_with(&json!({ "ipv6": true }));
    (net, agent)
}

fn connect(ns: &NetNs, from: IpAddr, within: Duration) -> std::io::Result<TcpStream> {
    let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
    ns.connect_from(at(from, 0), at(family.host(), 8080), within)
}

#[track_caller]
fn gets_in(ns: &NetNs, from: IpAddr) -> TcpStream {
    let mut stream = connect(ns, from, DEADLINE).unwrap_or_else(|e| panic!("{from}: {e}"));
    exchange(&mut stream, b"hello");
    stream
}

fn is_refused(ns: &NetNs, from: IpAddr) -> bool {
    connect(ns, from, SILENCE).is_err()
}

fn udp(ns: &NetNs, family: Family, from: IpAddr) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind((from, 4000))).expect("bind a UDP socket");
    socket.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    ns.run(|| socket.connect(at(family.host(), 8080))).expect("connect");
    socket
}

fn echoes(socket: &UdpSocket) -> bool {
    socket.send(b"hello").expect("send");
    matches!(socket.recv(&mut [0; 16]), Ok(5))
}

/// All that the agent and the datapath know of ports and their lists.
fn lists(agent: &Agent) -> Snapshot {
    agent.snapshot().only(&["map ALLOW", "map PORTS", "port ls"])
}

/// A container that publishes its port 80, and its servers there.
fn serve(agent: &Agent, spec: &str) -> (Container, Vec<netd_tests::Echo>) {
    let web = agent.container("web", &format!("-p {spec}"));
    let server = |family: Family| {
        let at = family.any(80);
        if spec.contains("/udp") { web.ns.echo_udp(&at) } else { web.ns.echo_tcp(&at) }
    };
    let servers = Family::ALL.map(server).into();
    (web, servers)
}

#[test]
fn a_port_admits_the_sources_of_its_list_and_counts_the_others() {
    let (net, agent) = topology();
    let blocks = Family::ALL.map(far_block);
    let spec = format!("8080:80,from={},from=10.0.0.0/8,from={}", blocks[0], blocks[1]);
    let (_web, servers) = serve(&agent, &spec);
    for (family, server) in Family::ALL.into_iter().zip(&servers) {
        gets_in(&net.outside, far(family));
        let before = agent.dropped(REFUSED);
        assert!(is_refused(&net.outside, near(family)), "{family}");
        agent.expect_dropped(REFUSED, before);
        assert_eq!(server.peers().len(), 1, "{family}");
    }

    let listed = agent.json("port ls web");
    for row in rows(&listed) {
        assert_eq!(row["From"], json!([blocks[0], "10.0.0.0/8", blocks[1]]));
    }
}

#[test]
fn a_udp_port_has_a_list_too() {
    let (net, agent) = topology();
    let [v4, v6] = Family::ALL.map(far);
    let (_web, servers) = serve(&agent, &format!("8080:80/udp,from={v4},from={v6}"));
    for (family, server) in Family::ALL.into_iter().zip(&servers) {
        assert!(echoes(&udp(&net.outside, family, far(family))), "{family}");
        let before = agent.dropped(REFUSED);
        assert!(!echoes(&udp(&net.outside, family, near(family))), "{family}");
        agent.expect_dropped(REFUSED, before);
        assert_eq!(server.peers().len(), 1, "{family}");
    }
}

#[test]
fn a_list_of_one_family_alone_admits_nobody_of_the_other() {
    let (net, agent) = topology();
    for (family, all) in Family::ALL.into_iter().zip(["0.0.0.0/0", "::/0"]) {
        let other = family.pick(Family::V6, Family::V4);
        let (_web, _servers) = serve(&agent, &format!("8080:80,from={all}"));
        gets_in(&net.outside, near(family));
        assert!(is_refused(&net.outside, near(other)), "{all}");
        agent.netd("rm -f web").ok();
    }
}

#[test]
fn a_list_changes_while_connections_run() {
    let (net, agent) = topology();
    let none = lists(&agent);
    for family in Family::ALL {
        let (_web, _servers) = serve(&agent, "8080:80");
        let mut near_stream = gets_in(&net.outside, near(family));
        let mut far_stream = gets_in(&net.outside, far(family));

        agent.netd(&format!("port add web 8080:80,from={}", far(family))).ok();
        exchange(&mut far_stream, b"goes on");
        ends(&mut near_stream);
        assert!(is_refused(&net.outside, near(family)), "{family}");
        gets_in(&net.outside, far(family));

        agent.netd(&format!("port add web 8080:80,from={}", block(family))).ok();
        exchange(&mut far_stream, b"is in both");
        gets_in(&net.outside, near(family));

        agent.netd("port add web 8080:80").ok();
        exchange(&mut far_stream, b"still here");
        agent.netd("rm -f web").ok();
    }
    lists(&agent).assert_same(&none);
}

#[test]
fn at_no_moment_of_a_change_is_the_port_open_to_all_or_closed_to_those_who_stay() {
    let (net, agent) = topology();
    let family = Family::V4;
    let lists = [far(family).to_string(), far_block(family).to_owned()];
    let (_web, _servers) = serve(&agent, &format!("8080:80,from={}", lists[0]));
    let done = AtomicBool::new(false);
    let (net, done) = (&net, &done);
    thread::scope(|scope| {
        let admitted = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                gets_in(&net.outside, far(family));
                count += 1;
            }
            count
        });
        let stranger = scope.spawn(|| {
            let mut got_in = 0;
            while !done.load(Ordering::Acquire) {
                let within = Duration::from_millis(20);
                got_in += usize::from(connect(&net.outside, near(family), within).is_ok());
            }
            got_in
        });
        for nth in 1..20 {
            agent.netd(&format!("port add web 8080:80,from={}", lists[nth % 2])).ok();
        }
        done.store(true, Ordering::Release);
        assert!(admitted.join().expect("nobody was refused") > 20);
        assert_eq!(stranger.join().expect("no panic"), 0);
    });
}

#[test]
fn a_udp_client_that_is_taken_off_the_list_is_cut_off_at_once() {
    let (net, agent) = topology();
    let (_web, _servers) = serve(&agent, "8080:80/udp");
    for family in Family::ALL {
        let near_socket = udp(&net.outside, family, near(family));
        let far_socket = udp(&net.outside, family, far(family));
        assert!(echoes(&near_socket) && echoes(&far_socket), "{family}");

        agent.netd(&format!("port add web 8080:80/udp,from={}", far(family))).ok();
        assert!(echoes(&far_socket) && !echoes(&near_socket), "{family}");
        agent.netd(&format!("port add web 8080:80/udp,from={}", near(family))).ok();
        assert!(!echoes(&far_socket) && echoes(&near_socket), "{family}");
        agent.netd("port add web 8080:80/udp").ok();
    }
}

#[test]
fn lists_outlive_the_agent_and_leave_with_their_port() {
    let (net, mut agent) = topology();
    let none = lists(&agent);
    let [v4, v6] = Family::ALL.map(far);
    let (_web, _servers) = serve(&agent, &format!("8080:80,from={v4},from={v6}"));
    let holds = || {
        for family in Family::ALL {
            assert!(is_refused(&net.outside, near(family)), "{family}");
            gets_in(&net.outside, far(family));
        }
    };
    let before = lists(&agent);
    agent.kill();
    holds();
    agent.start_again();
    lists(&agent).assert_same(&before);
    holds();

    agent.netd("rm -f web").ok();
    lists(&agent).assert_same(&none);
}

#[test]
fn neighbours_other_networks_and_the_host_are_sources_like_any() {
    let (net, agent) = topology();
    agent.network("side", "10.77.0.0/24", "--ipv6 --subnet fd00:77::/64");
    let (_web, servers) = serve(&agent, "8080:80,from=10.77.0.0/24,from=fd00:77::/64");
    let guest = agent.container("guest", "--network side");
    let neighbour = agent.container("neighbour", "");
    for (family, server) in Family::ALL.into_iter().zip(&servers) {
        let port = at(family.host(), 8080);
        exchange(&mut guest.ns.connect(port), b"hello");
        for stranger in [&neighbour.ns, &net.host] {
            let before = agent.dropped(REFUSED);
            assert!(stranger.connect_tcp(port, SILENCE).is_err(), "{family}");
            agent.expect_dropped(REFUSED, before);
        }
        assert_eq!(server.peers().len(), 1);
    }
    let hosts = Family::ALL.map(|family| format!("from={}", family.host())).join(",");
    agent.netd(&format!("port add web 8080:80,{hosts}")).ok();
    for family in Family::ALL {
        exchange(&mut net.host.connect(at(family.host(), 8080)), b"hello");
        assert!(guest.ns.connect_tcp(at(family.host(), 8080), SILENCE).is_err(), "{family}");
    }
}

/// The connection is dead: what is sent is not answered any more.
#[track_caller]
fn ends(stream: &mut TcpStream) {
    use std::io::{Read as _, Write as _};
    stream.set_read_timeout(Some(SILENCE)).expect("set a deadline");
    let answered = stream.write_all(b"anyone?").and_then(|()| stream.read(&mut [0; 16]));
    assert!(!matches!(answered, Ok(1..)), "{answered:?}");
}
