//! The programs on the cgroups: taken over, alone or beside others, and gone.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use netd::datapath::{Datapath, Options, Others};
use netd_common::abi::{ABI_VERSION, names::SOCKET_PROGRAMS};
use netd_tests::{
    Agent, DEADLINE, Family, NetNs, Program, Topology, eventually, exchange, netd_path,
    topology::at,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::scene::{LOCALHOST, Scene, WAYS, Way, connected, each};

/// The kernel's ids of the links that an agent has pinned.
fn links(agent: &Agent) -> Vec<u64> {
    SOCKET_PROGRAMS.map(|name| link_id(&pins(agent).join(name))).to_vec()
}

fn pins(agent: &Agent) -> PathBuf {
    agent.root().join(format!("bpf/v{ABI_VERSION}/cgroup"))
}

fn link_id(pin: &Path) -> u64 {
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
fn a_link_that_somebody_took_off_is_made_anew() {
    let mut scene = Scene::new(Family::V4);
    scene.agent.kill();
    let detach = Program::new("bpftool").args(["link", "detach", "pinned"]);
    detach.arg(pins(&scene.agent).join("sock_connect4")).output().ok();
    let refused = Way::Tcp.ask(scene.host(), scene.local()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    scene.agent.start_again();
    Way::Tcp.ask(scene.host(), scene.local()).expect("an answer");
}

#[test]
fn nothing_is_left_on_the_cgroups_but_what_others_put_there() {
    let pins = PathBuf::from(format!("/sys/fs/bpf/netd-others-{}", std::process::id()));
    let options = Options { flow_table_size: 1024, attach: None, others: Others::Refuse };
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
