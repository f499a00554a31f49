//! The end of sockets, with the port that they are connected by.

use std::{
    io::{ErrorKind, Read as _},
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use netd_common::abi::{ABI_VERSION, SocketKey, SocketPeer, names};
use netd_tests::{Agent, DEADLINE, Family, eventually, exchange, topology::at};

use super::scene::{Scene, Way, connected, each};

/// Both end at once, though they wait for data, when `change` is made.
fn sockets_end_with(scene: &Scene, change: impl FnOnce()) {
    let (mut stream, socket) = connected(scene);
    thread::scope(|scope| {
        let start = Instant::now();
        let tcp = scope.spawn(move || stream.read(&mut [0; 16]));
        let udp = scope.spawn(move || socket.recv(&mut [0; 16]));
        thread::sleep(Duration::from_millis(100));
        change();
        for waiting in [tcp, udp] {
            let error = waiting.join().expect("no panic").expect_err("the socket ended");
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
        }
        assert!(start.elapsed() < DEADLINE / 2, "after {:?}", start.elapsed());
    });
}

#[test]
fn sockets_that_are_connected_end_with_their_port() {
    each(|scene| {
        sockets_end_with(&scene, || {
            scene.agent.netd("port rm web 8080:80 8080:80/udp").ok();
        });
        let refused = Way::Tcp.ask(scene.host(), scene.local()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn sockets_that_are_connected_end_with_their_container() {
    each(|scene| {
        sockets_end_with(&scene, || {
            scene.agent.netd("rm -f web").ok();
        });
    });
}

#[test]
fn sockets_that_are_connected_end_when_they_are_no_longer_allowed() {
    each(|scene| {
        sockets_end_with(&scene, || {
            let from = format!(",from={}", scene.second());
            scene.agent.netd(&format!("port add web 8080:80{from} 8080:80/udp{from}")).ok();
        });
        let refused = Way::Tcp.ask(scene.host(), scene.local()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn sockets_of_a_port_that_went_while_no_agent_ran_end_with_the_next_one() {
    let mut scene = Scene::new(Family::V4);
    let pid = scene.web.pid;
    let (mut stream, _socket) = connected(&scene);
    scene.agent.kill();
    // Its shim ends with it, and the next agent finds it ended.
    scene.net.host.exec(&format!("kill -KILL {pid}"));
    stream.set_read_timeout(None).expect("no deadline");
    thread::scope(|scope| {
        let waiting = scope.spawn(move || stream.read(&mut [0; 16]));
        scene.agent.start_again();
        match waiting.join().expect("no panic") {
            // The container's own farewell may have come first.
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset),
                "{error}"
            ),
        }
    });
    let refused = Way::Tcp.ask(scene.host(), scene.local()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn other_sockets_go_on_when_a_port_goes() {
    each(|scene| {
        scene.agent.netd("port add web 8081:80").ok();
        let mut other = scene.host().connect(at(scene.family.loopback(), 8081));
        let mut direct = scene.host().connect(at(scene.web.address(scene.family), 80));
        // Not connected: it may ask others, too.
        let datagrams = scene.host().run(|| UdpSocket::bind(scene.family.any(0))).unwrap();
        datagrams.set_read_timeout(Some(DEADLINE)).unwrap();
        let ask = || {
            datagrams.send_to(b"hello", scene.local()).unwrap();
            assert_eq!(datagrams.recv_from(&mut [0; 16]).unwrap(), (5, scene.local()));
        };
        ask();
        sockets_end_with(&scene, || {
            scene.agent.netd("port rm web 8080:80 8080:80/udp").ok();
        });
        exchange(&mut other, b"still here");
        exchange(&mut direct, b"still here");

        let next = scene.agent.container("next", "--network n -p 8080:80/udp");
        let server = next.ns.echo_udp(&scene.family.any(80));
        ask();
        assert_eq!(server.heard().len(), 1);
    });
}

/// How many sockets are remembered.
fn remembered(agent: &Agent) -> usize {
    let pin = agent.root().join(format!("bpf/v{ABI_VERSION}")).join(names::SOCKETS);
    let map = Map::LruHashMap(MapData::from_pin(pin).expect("open the pin"));
    let map: HashMap<_, SocketKey, SocketPeer> = map.try_into().expect("a map of sockets");
    map.keys().count()
}

#[test]
fn sockets_that_are_closed_are_forgotten_before_they_push_others_out() {
    let scene = Scene::new(Family::V4);
    let kept = scene.host().udp_to(scene.local());
    scene.host().run(|| {
        for _ in 0..20_000 {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind a UDP socket");
            socket.connect(scene.local()).expect("connect it");
        }
    });
    assert!(remembered(&scene.agent) > 20_000);
    // The agent looks every ten seconds, and forgets at the second look.
    eventually(Duration::from_secs(60), "they are forgotten", || {
        thread::sleep(Duration::from_millis(200));
        (remembered(&scene.agent) < 100).then_some(())
    });
    assert_eq!(kept.peer_addr().unwrap(), scene.local());
}
