//! Published ports as the host's own processes reach them.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use netd::datapath::{Datapath, Options};
use netd_common::abi::{
    ABI_VERSION, SocketKey, SocketPeer,
    names::{self, SOCKET_PROGRAMS},
};
use netd_tests::{
    Agent, Container, DEADLINE, Echo, Family, NetNs, Program, SILENCE, Topology, eventually,
    exchange, netd_path,
    topology::{HOST, at},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{setsockopt, sockopt::BindToDevice},
    },
    unistd::Pid,
};
use serde_json::Value;

const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const SECOND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 9);
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// How a process speaks to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    /// By `connect` and `send`.
    UdpConnected,
    /// By `sendto` alone.
    Udp,
}

const WAYS: [Way; 3] = [Way::Tcp, Way::UdpConnected, Way::Udp];

impl Way {
    /// Asks `to` from a socket that is bound to `from`; gives the peer, as
    /// `getpeername` and `recvfrom` tell it.
    fn ask_from(self, ns: &NetNs, from: IpAddr, to: SocketAddr) -> io::Result<SocketAddr> {
        let patience = Some(DEADLINE);
        if self == Self::Tcp {
            let mut stream = connect_from(ns, from, to)?;
            stream.set_read_timeout(patience)?;
            stream.write_all(b"hello")?;
            stream.read_exact(&mut [0; 5])?;
            return stream.peer_addr();
        }
        let socket = ns.run(|| UdpSocket::bind((from, 0)))?;
        socket.set_read_timeout(patience)?;
        if self == Self::UdpConnected {
            socket.connect(to)?;
            assert_eq!(socket.peer_addr()?, to, "getpeername");
            socket.send(b"hello")?;
        } else {
            socket.send_to(b"hello", to)?;
        }
        let (length, peer) = socket.recv_from(&mut [0; 16])?;
        assert_eq!(length, 5);
        Ok(peer)
    }

    fn ask(self, ns: &NetNs, to: SocketAddr) -> io::Result<SocketAddr> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let any = family.pick(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        self.ask_from(ns, any, to)
    }
}

/// `std` has no way to bind before it connects.
fn connect_from(ns: &NetNs, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
    };
    use std::os::fd::AsRawFd as _;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = ns.run(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))?;
    if !from.is_unspecified() {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// A host with two addresses of each family, an agent, and a container with
/// the port 8080 and servers of both protocols behind it.
struct Scene {
    net: Topology,
    agent: Agent,
    web: Container,
    tcp: Echo,
    udp: Echo,
    family: Family,
}

impl Scene {
    /// A container that has IPv4 alone, or the IPv6 half of one that has both.
    fn new(family: Family) -> Self {
        Self::with(family, "")
    }

    /// With something behind each port, such as `,from=…`.
    fn with(family: Family, suffix: &str) -> Self {
        let net = Topology::new();
        net.host.ip(&format!("addr add {SECOND}/24 dev up0"));
        net.host.ip(&format!("addr add {SECOND6}/64 dev up0 nodad"));
        let agent = net.agent();
        let v6 = family.pick("", "--ipv6 --subnet fd00:30::/64");
        agent.network("n", "172.30.0.0/24", v6);
        let ports = format!("--network n -p 8080:80/tcp{suffix} -p 8080:80/udp{suffix}");
        let web = agent.container("web", &ports);
        let any = family.any(80);
        let (tcp, udp) = (web.ns.echo_tcp(&any), web.ns.echo_udp(&any));
        Self { net, agent, web, tcp, udp, family }
    }

    fn host(&self) -> &NetNs {
        &self.net.host
    }

    /// The port at the address that `localhost` is.
    fn local(&self) -> SocketAddr {
        at(self.family.loopback(), 8080)
    }

    /// The port at the host's first address.
    fn first(&self) -> SocketAddr {
        at(self.family.host(), 8080)
    }

    /// The host's other address.
    fn second(&self) -> IpAddr {
        self.family.pick(SECOND.into(), SECOND6.into())
    }

    /// Where the container's servers see the last client.
    fn client(&self, way: Way) -> IpAddr {
        let server = if way == Way::Tcp { &self.tcp } else { &self.udp };
        server.peers().last().expect("a client").ip()
    }

    fn gateway(&self) -> IpAddr {
        let [v4, v6] = ["172.30.0.1", "fd00:30::1"].map(|text| text.parse().expect("an address"));
        self.family.pick(v4, v6)
    }
}

/// What holds for both families.
fn each(test: impl Fn(Scene)) {
    for family in Family::ALL {
        eprintln!("--- {family}");
        test(Scene::new(family));
    }
}

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

/// A TCP and a UDP socket of the host's that are connected, and have spoken.
fn connected(scene: &Scene) -> (TcpStream, UdpSocket) {
    let mut stream = scene.host().connect(scene.local());
    exchange(&mut stream, b"hello");
    let socket = scene.host().udp_to(scene.local());
    socket.send(b"hello").expect("send");
    socket.recv(&mut [0; 16]).expect("an echo");
    (stream, socket)
}

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

/// The kernel's ids of the links that an agent has pinned.
fn links(agent: &Agent) -> Vec<u64> {
    let pins = agent.root().join(format!("bpf/v{ABI_VERSION}/cgroup"));
    SOCKET_PROGRAMS.map(|name| link_id(&pins.join(name))).to_vec()
}

fn link_id(pin: &std::path::Path) -> u64 {
    let output = Program::new("bpftool").args(["-j", "link", "show", "pinned"]).arg(pin).output();
    let shown = output.json();
    let link = if shown.is_array() { &shown[0] } else { &shown };
    link["id"].as_u64().unwrap_or_else(|| panic!("{} is a link: {shown}", pin.display()))
}

fn exists(link: u64) -> bool {
    let id = link.to_string();
    Program::new("bpftool").args(["-j", "link", "show", "id", &id]).output().code == 0
}

#[test]
fn ports_are_reached_without_a_gap_while_agents_come_and_go() {
    each(|mut scene| {
        let local = scene.local();
        let (mut stream, socket) = connected(&scene);
        let before = links(&scene.agent);
        let (host, over) = (scene.host().clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut asked = 0;
                while !over.load(Ordering::Acquire) {
                    for way in WAYS {
                        let peer = way.ask(&host, local);
                        let peer = peer.unwrap_or_else(|e| panic!("{way:?} number {asked}: {e}"));
                        assert_eq!(peer, local);
                        asked += 1;
                    }
                }
                asked
            });
            scene.agent.kill();
            exchange(&mut stream, b"while no agent runs");
            scene.agent.start_again();
            scene.agent.stop();
            scene.agent.start_again();
            over.store(true, Ordering::Release);
            assert!(asking.join().expect("each was answered") > 3);
        });
        assert_eq!(links(&scene.agent), before, "taken over, not made anew");
        exchange(&mut stream, b"after");
        assert_eq!(stream.peer_addr().unwrap(), local);
        socket.send(b"after").unwrap();
        assert_eq!(socket.recv_from(&mut [0; 16]).unwrap(), (5, local));
        drop(stream);
        scene.agent.netd("rm -f web").ok();
        scene.agent.netd("network rm n").ok();
        scene.agent.assert_clean();
    });
}

#[test]
fn nothing_is_left_on_the_cgroups_but_what_others_put_there() {
    let pins = PathBuf::from(format!("/sys/fs/bpf/netd-others-{}", std::process::id()));
    let options = Options { flow_table_size: 1024, attach: None };
    let mut others = Datapath::load(&pins, &options).expect("load the programs");
    others.attach_sockets(PathBuf::from("/nonexistent")).expect("attach the programs");
    let theirs = SOCKET_PROGRAMS.map(|name| link_id(&others.pins().join("cgroup").join(name)));

    let net = Topology::new();
    let mut agent = net.agent();
    let ours = links(&agent);
    assert!(ours.iter().all(|link| exists(*link) && !theirs.contains(link)));
    agent.stop();
    // The kernel frees a link a little later than its last user.
    eventually(DEADLINE, "netd's links are gone", || {
        (!ours.iter().any(|link| exists(*link))).then_some(())
    });
    let kept = theirs.iter().all(|link| exists(*link));
    others.destroy().expect("remove the programs");
    assert!(kept, "those of others are still there");
}

#[test]
fn without_a_cgroup_v2_mount_the_agent_has_its_own() {
    let net = Topology::new();
    let dir = net.dir().path();
    let (root, log, left) = (dir.join("root"), dir.join("log"), dir.join("left"));
    // In mounts of its own: those of the machine stay as they are.
    let script = "for at in $(findmnt -nlo TARGET -t cgroup2); do umount -l $at; done
                  $1 --root $2 agent; findmnt -nlo TARGET -t cgroup2 > $3; true";
    let agent = Program::new("unshare").args(["--mount", "sh", "-c", script, "sh"]);
    let agent = agent.arg(netd_path()).arg(&root).arg(&left);
    let mut shell = agent.inside(&net.host).start(&log);
    let netd = |line: &str| {
        let target = format!("--target={}", shell.id());
        let program = Program::new("nsenter").args(["--mount", &target]).arg(netd_path());
        program.arg("--root").arg(&root).args(line.split(' ')).inside(&net.host).output()
    };
    eventually(DEADLINE, "the agent answers", || (netd("ps").code == 0).then_some(()));
    netd("run -d --name web -p 8080:80 -- sleep infinity").ok();
    let pid = netd("inspect web").json().pointer("/0/State/Pid").and_then(Value::as_u64);
    let web = NetNs::of_process("web", u32::try_from(pid.expect("a pid")).expect("a pid"));
    let _server = web.echo_tcp("0.0.0.0:80");
    let to = at(LOCALHOST, 8080);
    assert_eq!(Way::Tcp.ask(&net.host, to).expect("an answer"), to);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", shell.id())).unwrap();
    let own = format!(" {} ", root.join("run/cgroup").display());
    assert!(mounts.lines().any(|line| line.contains(&own) && line.contains(" cgroup2 ")));

    netd("rm -f web").ok();
    let children = format!("/proc/{0}/task/{0}/children", shell.id());
    let children = std::fs::read_to_string(children).unwrap();
    let agent = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    kill(Pid::from_raw(agent.expect("the agent")), Signal::SIGTERM).unwrap();
    assert_eq!(shell.wait(), 0, "{}", std::fs::read_to_string(&log).unwrap_or_default());
    assert_eq!(std::fs::read_to_string(&left).unwrap(), "", "the mount is gone");
    assert!(!root.join("run/cgroup").exists());
}

#[test]
fn a_listener_of_the_hosts_own_is_not_in_the_way() {
    let scene = Scene::new(Family::V4);
    let listener = scene.host().run(|| TcpListener::bind("0.0.0.0:9090")).unwrap();
    let client = scene.host().connect(at(LOCALHOST, 9090));
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(client.local_addr().unwrap(), peer);
}
