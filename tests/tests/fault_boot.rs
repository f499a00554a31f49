//! After a boot: networks as they were, and nothing of containers, leases and
//! flows that ended with the earlier one. And what another version has left.

use std::fs;

use netd_tests::{
    Agent, Topology, exchange,
    json::{rows, text},
    topology::{HOST, OUTSIDE, at},
};

/// What must be as before the first container; the bridge's number and the seed
/// of a new table are others.
const SECTIONS: [&str; 10] = [
    "mounts",
    "files",
    "processes",
    "map ENDPOINTS",
    "map LINKS",
    "map SUBNETS",
    "map PORTS",
    "map FLOWS",
    "port ls",
    "ipam",
];

/// The machine goes down and comes up: all that is not on disk is gone, and
/// the boot id is another.
fn reboot(agent: &mut Agent, pids: &[u32]) {
    agent.kill();
    for pid in pids {
        let shim = agent.host().exec(&format!("ps -o ppid= -p {pid}"));
        agent.host().exec(&format!("kill -KILL {} {pid}", shim.trim()));
    }
    let root = agent.root().display().to_string();
    for mount in netd_tests::dir::mounts_below(agent.root()).iter().rev() {
        agent.host().exec(&format!("umount -l {}", mount.display()));
    }
    agent.host().exec(&format!("rm -rf {root}/run {root}/bpf"));
    let links = agent.host().ip("-o link show type bridge");
    for line in links.lines() {
        let name = line.split(": ").nth(1).expect("a link's name");
        agent.host().ip(&format!("link del {name}"));
    }
    agent.set_environment("NETD_BOOT_ID", Some("another".to_owned()));
}

#[test]
fn networks_come_back_and_what_ended_with_the_boot_is_gone() {
    let net = Topology::new();
    let mut agent = net.agent();
    let before = agent.snapshot_of(&SECTIONS);
    agent.network("mine", "172.18.0.0/16", "--label team=a");
    let web = agent.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
    agent.netd("run -d --rm --name brief -- sleep infinity").ok();
    let brief = agent.inspect("inspect brief")[0]["State"]["Pid"].to_string();
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a flow");
    let networks = agent.inspect("network inspect bridge mine").to_string();
    drop(server);

    reboot(&mut agent, &[web.pid, brief.parse().expect("a pid")]);
    agent.start_again();
    let state = |name: &str| {
        let list = agent.json("ps -a");
        let row = rows(&list).iter().find(|row| text(row, "/Name") == name).cloned();
        row.map(|row| text(&row, "/State").to_owned())
    };
    assert_eq!(state("web").as_deref(), Some("exited"));
    assert_eq!(state("brief"), None, "it was to be removed at its end");
    for list in ["port ls", "flows"] {
        assert_eq!(rows(&agent.json(list)).len(), 0, "{list}");
    }
    let leases = agent.json("ipam");
    assert!(rows(&leases).iter().all(|row| text(row, "/Owner") == "gateway"), "{leases}");
    net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into()).expect("nobody holds the port");
    let without = |shown: &str| shown.split("\"Containers\"").next().unwrap_or_default().to_owned();
    let now = agent.inspect("network inspect bridge mine").to_string();
    assert_eq!(without(&now), without(&networks));
    let log = agent.log();
    assert!(!log.contains("failed to restore") && !log.contains("was deleted"), "{log}");

    // The address and the port are free again, and what is made works.
    agent.netd("rm web").ok();
    let web = agent.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    exchange(&mut web.ns.connect(at(OUTSIDE, 7)), b"hello");
    agent.netd("rm -f web").ok();
    agent.netd("network rm mine").ok();
    agent.snapshot_of(&SECTIONS).assert_same(&before);
}

#[test]
fn sandboxes_and_files_of_nobody_are_collected() {
    let net = Topology::new();
    let mut agent = net.agent();
    let run = agent.root().join("run");
    let stranger = "ab".repeat(32);
    fs::create_dir(run.join("containers").join(&stranger)).expect("make a run directory");
    fs::write(run.join("netns").join(&stranger), "").expect("make a file");
    let namespace = "cd".repeat(32);
    let path = run.join("netns").join(&namespace);
    fs::write(&path, "").expect("make a file");
    net.host.exec(&format!("mount --bind /proc/self/ns/net {}", path.display()));
    fs::write(run.join("netns/README"), "somebody's").expect("make a file");
    agent.kill();
    agent.start_again();
    fs::remove_file(run.join("netns/README")).expect("what is no sandbox stays");
    agent.assert_clean();
}

/// As if an older netd, whose maps had another layout, ran here before.
fn pretend_other_version(agent: &Agent) {
    let root = agent.root().display();
    agent.host().exec(&format!("mv {} {root}/bpf/v1000000", agent.pins().display()));
}

#[test]
fn another_layout_of_maps_is_refused_or_replaced_as_asked() {
    let net = Topology::new();
    let mut agent = net.agent();
    let before = agent.snapshot_of(&SECTIONS);
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, b"before");
    let pins = agent.snapshot().section("pins").to_owned();
    agent.kill();
    pretend_other_version(&agent);

    let refused = agent.agent_command().output();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("whose maps have another layout"), "{refused}");
    assert!(refused.hint().contains("--replace-datapath"), "{refused}");
    exchange(&mut stream, b"goes on under the old one");

    agent.set_flags(&["--replace-datapath"]);
    agent.start_again();
    assert_eq!(agent.snapshot().section("pins"), pins);
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one");
    assert!(agent.log().contains("took the place of another version"), "{}", agent.log());
    agent.netd("rm -f web").ok();
    agent.snapshot_of(&SECTIONS).assert_same(&before);
}
