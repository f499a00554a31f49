//! The fixtures hold what they promise, shown with the kernel alone.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use netd_tests::{
    Family, NetNs, Offload, RawSocket, SILENCE, TestDir, Topology,
    dir::mounts_below,
    eventually, exchange, flood,
    topology::{HOST, HOST2, OUTSIDE, at, links},
};

#[test]
fn a_namespace_has_only_its_loopback_and_it_is_up() {
    let dir = TestDir::new().into();
    let ns = NetNs::new(&dir, "lonely");
    assert_eq!(links(&ns), [""; 0]);
    let server = ns.echo_tcp("127.0.0.1:0");
    exchange(&mut ns.connect(server.addr), b"hello");
}

#[test]
fn work_in_a_namespace_does_not_move_the_test_itself() {
    let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let net = Topology::new();
    let there = net.host.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_ne!(here, there);
    assert_eq!(here, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
}

#[test]
fn the_host_and_the_outside_reach_each_other() {
    let net = Topology::new();
    for family in Family::ALL {
        net.host.exec(&format!("ping -c 1 -W 2 {}", family.outside()));
        net.outside.exec(&format!("ping -c 1 -W 2 {}", family.host()));
    }
}

#[test]
fn the_host_and_the_outside_reach_each_other_by_the_router() {
    let (net, router) = Topology::behind_router();
    for family in Family::ALL {
        net.host.exec(&format!("ping -c 1 -W 2 -t 2 {}", family.beyond()));
        net.outside.exec(&format!("ping -c 1 -W 2 -t 2 {}", family.host()));
        let stopped = net.host.command("ping").args(["-c", "1", "-W", "2", "-t", "1"]);
        let said = stopped.arg(family.beyond().to_string()).output().stdout;
        assert!(said.contains(&format!("From {}", family.near())), "{said}");
    }
    drop(router);
}

#[test]
fn large_datagrams_arrive_whole() {
    let net = Topology::new();
    for family in Family::ALL {
        let _server = net.outside.echo_udp(&family.any(7));
        let fate = flood::large(&net.host, at(family.outside(), 7), 2000, 1, SILENCE);
        assert_eq!(fate, flood::Fate { echoed: 2000, lost: 0 });
    }
}

#[test]
fn a_hop_swaps_fragments_and_nothing_else() {
    let (net, _hop) = Topology::behind_swapping_hop();
    let wire = RawSocket::open(&net.outside, "eth0");
    for family in Family::ALL {
        let _tcp = net.outside.echo_tcp(&family.any(7));
        let server = net.outside.echo_udp(&family.any(7));
        exchange(&mut net.host.connect(at(family.outside(), 7)), &[0; 10_000]);
        // The kernel puts them together in any order.
        let fate = flood::large(&net.host, at(family.outside(), 7), 500, 1, SILENCE);
        assert_eq!(fate, flood::Fate { echoed: 500, lost: 0 });
        assert_eq!(server.heard().len(), 500);
    }
    // One that has an offset comes first, in its datagram.
    let mut last_id = Vec::new();
    let overtaken = wire.wait_for(SILENCE, |frame| {
        let Some([0x08, 0x00]) = frame.get(12..14) else { return false };
        let (id, fragment) = (frame[18..20].to_vec(), [frame[20], frame[21]]);
        let offset = u16::from_be_bytes(fragment) & 0x1fff;
        offset != 0 && std::mem::replace(&mut last_id, id.clone()) != id
    });
    assert!(overtaken.is_some());
}

#[test]
fn a_server_speaks_one_family() {
    let net = Topology::new();
    let servers = Family::ALL.map(|family| net.outside.echo_tcp(&family.any(7)));
    for (family, server) in Family::ALL.into_iter().zip(&servers) {
        exchange(&mut net.host.connect(at(family.outside(), 7)), b"hello");
        assert_eq!(server.peers()[0].ip(), family.host());
    }
}

#[test]
fn a_second_uplink_leads_elsewhere() {
    let mut net = Topology::new();
    let second = net.second_uplink();
    let server = net.host.echo_udp("0.0.0.0:5000");
    assert!(second.udp_echoes(at(HOST2, 5000), Duration::from_secs(5)));
    assert_eq!(server.peers()[0].ip(), Ipv4Addr::new(198, 51, 100, 2));
}

#[test]
fn an_echo_server_remembers_its_peers() {
    let net = Topology::new();
    let server = net.outside.echo_tcp("0.0.0.0:7");
    let mut stream = net.host.connect(at(OUTSIDE, 7));
    exchange(&mut stream, b"one");
    exchange(&mut stream, b"two");
    assert_eq!(server.peers(), [stream.local_addr().unwrap()]);
    assert_eq!(server.heard()[0].data, b"onetwo");
}

#[test]
fn nothing_answers_where_nobody_listens() {
    let net = Topology::new();
    assert!(!net.host.udp_echoes(at(OUTSIDE, 9), SILENCE));
    assert!(net.host.connect_tcp(at(OUTSIDE, 9), SILENCE).is_err());
}

fn floods_arrive(offload: Offload) {
    let net = Topology::new();
    net.set_offload(offload, &[]);
    let tcp = net.outside.echo_tcp("0.0.0.0:7");
    let udp = net.outside.echo_udp("0.0.0.0:7");
    let (by_tcp, by_udp) = std::thread::scope(|scope| {
        let tcp = scope.spawn(|| flood::tcp(&net.host, at(OUTSIDE, 7), 1000));
        let udp = scope.spawn(|| flood::udp(&net.host, at(OUTSIDE, 7), 10_000));
        let end = |flood: std::thread::ScopedJoinHandle<_>| flood.join().expect("it passes");
        (end(tcp), end(udp))
    });
    assert_eq!(flood::heard_all(&tcp, 1000), with_source(by_tcp));
    assert_eq!(flood::heard_all(&udp, 10_000), with_source(by_udp));
    assert_eq!(net.outside.checksum_errors() + net.host.checksum_errors(), 0);
}

/// Sockets that were connected have the host's address.
fn with_source(senders: flood::Senders) -> flood::Senders {
    assert!(senders.values().all(|sender| sender.ip() == HOST));
    senders
}

#[test]
fn floods_arrive_whole() {
    floods_arrive(Offload::Default);
}

#[test]
fn floods_arrive_whole_with_tx_off() {
    floods_arrive(Offload::TxOff);
}

#[test]
fn a_raw_socket_sends_and_sees_frames() {
    let net = Topology::new();
    let (here, there) = (RawSocket::open(&net.host, "up0"), RawSocket::open(&net.outside, "eth0"));
    let frame = [&there.mac[..], &here.mac, &[0x88, 0xb5], b"a frame of our own"].concat();
    here.send(&frame);
    assert_eq!(there.wait_for(Duration::from_secs(5), |f| f == frame), Some(frame));
    assert_eq!(there.wait_for(SILENCE, |f| f.ends_with(b"never sent")), None);
}

#[test]
fn a_taken_port_cannot_be_bound() {
    let net = Topology::new();
    let any = at(Ipv4Addr::UNSPECIFIED, 8080);
    let held = net.host.run(|| TcpListener::bind(any)).unwrap();
    assert!(net.host.can_bind_tcp(any).is_err());
    assert!(net.outside.can_bind_tcp(any).is_ok());
    drop(held);
    assert!(net.host.can_bind_tcp(any).is_ok());
}

#[test]
fn a_program_that_fails_shows_its_code_and_words() {
    let net = Topology::new();
    let output = net.host.command("sh").args(["-c", "echo data; echo 'error: why' >&2; exit 3"]);
    let output = output.output();
    assert_eq!((output.code, output.stdout.as_str(), output.error()), (3, "data\n", "why"));
}

#[test]
#[should_panic(expected = "has not ended within")]
fn a_program_that_hangs_fails_the_test() {
    let net = Topology::new();
    net.host.command("sleep").arg("60").within(Duration::from_millis(100)).output();
}

#[test]
fn a_process_ends_with_its_fixture() {
    let net = Topology::new();
    let process = net.host.command("sleep").arg("60").start(&net.dir().path().join("log"));
    let proc = PathBuf::from(format!("/proc/{}", process.id()));
    assert!(proc.exists());
    drop(process);
    assert!(!proc.exists());
}

#[test]
fn nothing_is_left_of_a_test() {
    let net = Topology::new();
    let path = net.dir().path().to_owned();
    assert!(!mounts_below(&path).is_empty());
    // A daemon that nobody holds, as a container's is.
    let daemon = net.host.command("sh").args(["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"]);
    let pid = daemon.output().ok();
    let proc = PathBuf::from(format!("/proc/{pid}/ns/net"));
    eventually(Duration::from_secs(5), "the daemon runs", || proc.read_link().ok());
    drop(net);
    assert!(!path.exists());
    assert!(mounts_below(&path).is_empty());
    assert!(proc.read_link().is_err(), "the daemon has ended");
}

#[test]
fn a_test_that_fails_leaves_nothing_either() {
    static LEFT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let failing = std::thread::spawn(|| {
        let net = Topology::new();
        *LEFT.lock().unwrap() = Some(net.dir().path().to_owned());
        panic!("on purpose");
    });
    assert!(failing.join().is_err());
    let path = LEFT.lock().unwrap().clone().unwrap();
    assert!(!path.exists());
}

#[test]
fn addresses_are_there_at_once() {
    let net = Topology::at("10.2.5.6/24", "10.2.5.1/24");
    let server: SocketAddr = "10.2.5.1:7".parse().unwrap();
    let _echo = net.outside.echo_tcp("10.2.5.1:7");
    exchange(&mut net.host.connect(server), b"through");
}
