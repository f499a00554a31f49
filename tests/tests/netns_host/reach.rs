//! Who reaches a published port, who does not, and whom they are told of.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use netd_tests::{
    DEADLINE, Family, NetNs, SILENCE, Topology,
    topology::{HOST, at},
};
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use serde_json::Value;

use super::scene::{LOCALHOST, SECOND6, Scene, WAYS, Way, each};

#[test]
fn every_address_of_the_hosts_leads_to_the_container() {
    each(|scene| {
        let [first, second] = [scene.first().ip(), scene.second()];
        let local = scene.local().ip();
        let other = scene.family.pick(Ipv4Addr::new(127, 9, 9, 9).into(), local);
        for way in WAYS {
            for address in [first, second, local, other] {
                let peer = way.ask(scene.host(), at(address, 8080));
                let peer = peer.unwrap_or_else(|e| panic!("{way:?} to {address}: {e}"));
                assert_eq!(peer, at(address, 8080), "{way:?}: the peer is who was asked");
                assert_eq!(scene.client(way), scene.gateway(), "{way:?} to {address}");
            }
        }
    });
}

#[test]
fn ipv6_loopback_leads_to_a_container_of_ipv4_once_connected() {
    let scene = Scene::new(Family::V4);
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 8080));
    for way in [Way::Tcp, Way::UdpConnected] {
        assert_eq!(way.ask(scene.host(), to).expect("an answer"), to, "{way:?}");
    }
    // The kernel takes no IPv4 address for a single IPv6 datagram.
    let socket = scene.host().run(|| UdpSocket::bind("[::]:0")).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send_to(b"hello", to).unwrap();
    socket.recv_from(&mut [0; 16]).unwrap_err();
    // Nor is there anything at the host's other IPv6 addresses.
    let refused = Way::Tcp.ask(scene.host(), (SECOND6, 8080).into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_leads_there_too() {
    let scene = Scene::new(Family::V4);
    for way in WAYS {
        for address in [HOST, LOCALHOST] {
            let to = SocketAddr::from((address.to_ipv6_mapped(), 8080));
            assert_eq!(way.ask(scene.host(), to).expect("an answer"), to, "{way:?}");
        }
    }
}

#[test]
fn a_socket_keeps_the_address_that_it_is_bound_to() {
    each(|scene| {
        for way in WAYS {
            way.ask_from(scene.host(), scene.second(), scene.first()).expect("an answer");
            assert_eq!(scene.client(way), scene.second(), "{way:?}");
        }
        // From a loopback address no packet leaves the host.
        let bound = Way::Tcp.ask_from(scene.host(), scene.local().ip(), scene.local());
        assert_eq!(bound.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_socket_of_one_interface_stays_there() {
    each(|scene| {
        let any = scene.family.any(0);
        let socket = scene.host().run(|| UdpSocket::bind(any)).unwrap();
        setsockopt(&socket, BindToDevice, &"up0".into()).unwrap();
        socket.connect(scene.first()).unwrap();
        socket.send(b"hello").unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket.recv(&mut [0; 16]).unwrap_err();
        assert!(scene.udp.heard().is_empty());
    });
}

#[test]
fn one_socket_may_ask_containers_and_others() {
    each(|scene| {
        let _outside = scene.net.outside.echo_udp(&scene.family.any(8080));
        let outside = at(scene.family.outside(), 8080);
        let any = scene.family.any(0);
        let socket = scene.host().run(|| UdpSocket::bind(any)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        for to in [scene.local(), outside, at(scene.second(), 8080), outside] {
            socket.send_to(b"hello", to).unwrap();
            assert_eq!(socket.recv_from(&mut [0; 16]).unwrap(), (5, to));
        }
    });
}

#[test]
fn a_port_of_loopback_is_for_processes_alone() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 127.0.0.1:8080:80");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    let to = at(LOCALHOST, 8080);
    assert_eq!(Way::Tcp.ask(&net.host, to).expect("an answer"), to);
    assert!(Way::Tcp.ask(&net.host, at(HOST, 8080)).is_err());
    // A neighbour that sends there all the same.
    net.outside.ip("route add 127.0.0.1 via 192.0.2.1 table 7");
    net.outside.ip("rule add pref 1 lookup local");
    net.outside.ip("rule del pref 0 lookup local");
    net.outside.ip("rule add pref 0 to 127.0.0.1 lookup 7");
    net.outside.set_sysctl("net/ipv4/conf/eth0/route_localnet", "1");
    let seen = received(&net.host);
    assert!(net.outside.connect_tcp(to, SILENCE).is_err());
    assert!(received(&net.host) > seen, "its packet has come");
    assert_eq!(server.peers().len(), 1, "the process's own");
}

fn received(host: &NetNs) -> u64 {
    let links = host.ip("-s -j link show up0");
    let links: Value = serde_json::from_str(&links).expect("ip prints JSON");
    links[0]["stats64"]["rx"]["packets"].as_u64().expect("a number")
}

#[test]
fn processes_of_other_namespaces_are_left_alone() {
    each(|scene| {
        // Another host of the same address, with a server of its own.
        let twin = NetNs::new(scene.net.dir(), "twin");
        twin.ip(&format!("addr add {} dev lo", scene.first().ip()));
        let any = scene.family.any(8080);
        let (tcp, udp) = (twin.echo_tcp(&any), twin.echo_udp(&any));
        for way in WAYS {
            for to in [scene.first(), scene.local()] {
                assert_eq!(way.ask(&twin, to).unwrap(), to);
            }
        }
        assert_eq!((tcp.peers().len(), udp.peers().len()), (2, 4));
        // A container's loopback is its own.
        let inside = Way::Tcp.ask(&scene.web.ns, scene.local());
        assert_eq!(inside.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(scene.tcp.peers().is_empty() && scene.udp.peers().is_empty());
        // The outside comes by packets, and keeps its address.
        for way in WAYS {
            way.ask(&scene.net.outside, scene.first()).expect("an answer");
            assert_eq!(scene.client(way), scene.family.outside());
        }
    });
}

#[test]
fn a_program_of_the_hosts_at_ipv6_loopback_keeps_its_clients() {
    let scene = Scene::new(Family::V4);
    let own = scene.host().echo_tcp("[::1]:8080");
    Way::Tcp.ask(scene.host(), (Ipv6Addr::LOCALHOST, 8080).into()).expect("an answer");
    assert_eq!((own.peers().len(), scene.tcp.peers().len()), (1, 0));
}

#[test]
fn an_allow_list_holds_for_processes() {
    for family in Family::ALL {
        let from = family.pick("127.0.0.0/8,from=192.0.2.9", "::1,from=2001:db8:0:1::9");
        let scene = Scene::with(family, &format!(",from={from}"));
        let second = at(scene.second(), 8080);
        for way in WAYS {
            for to in [scene.local(), second] {
                way.ask(scene.host(), to).expect("an answer");
            }
            way.ask_from(scene.host(), scene.second(), scene.first()).expect("an answer");
            let before = scene.agent.dropped("source_not_allowed");
            let refused = way.ask(scene.host(), scene.first()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{way:?}");
            assert_eq!(scene.agent.dropped("source_not_allowed"), before + 1);
        }
    }
}

#[test]
fn a_network_without_the_host_has_nothing_for_it() {
    let net = Topology::new();
    let agent = net.agent();
    let options = "-o com.docker.network.bridge.inhibit_ipv4=true";
    agent.network("n", "172.30.0.0/24", options);
    let web = agent.container("web", "--network n -p 8080:80");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    let refused = Way::Tcp.ask(&net.host, at(LOCALHOST, 8080)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(server.peers().is_empty());
}

#[test]
fn a_listener_of_the_hosts_own_is_not_in_the_way() {
    let scene = Scene::new(Family::V4);
    let listener = scene.host().run(|| TcpListener::bind("0.0.0.0:9090")).unwrap();
    let client = scene.host().connect(at(LOCALHOST, 9090));
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(client.local_addr().unwrap(), peer);
}
