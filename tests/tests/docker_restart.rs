//! dockerd or the agent ends, and comes back: what runs does not notice, and
//! what is done then works.

use std::{net::TcpStream, thread};

use netd_tests::{
    Agent, Container, DEADLINE, Docker, Echo, Topology, eventually, exchange,
    json::{rows, text},
    topology::{HOST, OUTSIDE, at},
};
use serde_json::json;

/// A container that serves and one that is a client, and their connections.
struct Scene {
    web: Container,
    client: Container,
    into: TcpStream,
    out: TcpStream,
    near: TcpStream,
    _servers: [Echo; 2],
    docker: Docker,
    agent: Agent,
    net: Topology,
}

impl Scene {
    fn set() -> Self {
        let net = Topology::new();
        let (docker, agent) = net.docker_and_netd_with(&json!({"live-restore": true}));
        docker.network("mine", "172.18.0.0/24", "");
        let web = docker.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
        let client = docker.container("client", "--network mine");
        let servers = [web.ns.echo_tcp("0.0.0.0:80"), net.outside.echo_tcp("0.0.0.0:7")];
        let into = net.outside.connect(at(HOST, 8080));
        let out = client.ns.connect(at(OUTSIDE, 7));
        let near = client.ns.connect(web.at(80));
        Self { web, client, into, out, near, _servers: servers, docker, agent, net }
    }

    /// Old connections go on and new ones come about.
    #[track_caller]
    fn goes_on(&mut self, when: &str) {
        for kept in [&mut self.into, &mut self.out, &mut self.near] {
            exchange(kept, when.as_bytes());
        }
        exchange(&mut self.net.outside.connect(at(HOST, 8080)), b"a new one in");
        exchange(&mut self.client.ns.connect(at(OUTSIDE, 7)), b"a new one out");
        exchange(&mut self.client.ns.connect(self.web.at(80)), b"a new one within");
    }

    /// Docker and netd do with what there is, and with what is new, as ever.
    #[track_caller]
    fn works_and_ends(self) {
        let Self { web, client, docker, agent, net, .. } = self;
        assert_eq!(docker.find("web").pid, web.pid, "the same container runs");
        drop((web, client));
        docker.docker("stop web").ok();
        assert_eq!(agent.json("port ls"), json!([]), "its port is closed");
        docker.docker("rm web").ok();
        let web = docker.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
        let server = web.ns.echo_tcp("0.0.0.0:80");
        exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
        assert_eq!(server.peers()[0].ip(), OUTSIDE);
        drop((server, web));
        docker.docker("rm -f web client").ok();
        docker.docker("network rm mine").ok();
        docker.wait_for_shims();
        agent.assert_clean();
    }
}

/// One of the two goes away, and comes back.
fn containers_outlive(goes: impl FnOnce(&mut Scene), comes: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::set();
    scene.goes_on("before");
    goes(&mut scene);
    scene.goes_on("while it is away");
    comes(&mut scene);
    scene.goes_on("after");
    scene.works_and_ends();
}

#[test]
fn containers_do_not_notice_that_dockerd_restarts() {
    containers_outlive(|scene| scene.docker.stop(), |scene| scene.docker.start_again());
}

#[test]
fn containers_do_not_notice_that_dockerd_is_killed() {
    containers_outlive(|scene| scene.docker.kill(), |scene| scene.docker.start_again());
}

#[test]
fn containers_do_not_notice_that_the_agent_restarts() {
    containers_outlive(|scene| scene.agent.stop(), |scene| scene.agent.start_again());
}

#[test]
fn containers_do_not_notice_that_the_agent_is_killed() {
    containers_outlive(|scene| scene.agent.kill(), |scene| scene.agent.start_again());
}

#[test]
fn a_run_that_comes_while_the_agent_is_away_waits_for_it() {
    let mut scene = Scene::set();
    scene.agent.kill();
    thread::scope(|scope| {
        let run = scope.spawn(|| scene.docker.container("late", "--network mine -p 8081:81"));
        // dockerd has begun with it, and can't go on.
        eventually(DEADLINE, "dockerd tries to reach its plugin", || {
            scene.docker.log().contains("netd.sock").then_some(())
        });
        scene.agent.start_again();
        let late = run.join().expect("it has come");
        let server = late.ns.echo_tcp("0.0.0.0:81");
        exchange(&mut scene.net.outside.connect(at(HOST, 8081)), b"hello");
        assert_eq!(server.peers()[0].ip(), OUTSIDE);
    });
    scene.docker.docker("rm -f late").ok();
    scene.works_and_ends();
}

#[test]
fn what_ended_while_dockerd_was_away_is_collected() {
    let mut scene = Scene::set();
    scene.docker.kill();
    scene.net.host.exec(&format!("kill -KILL {}", scene.web.pid));
    let Scene { web, into, near, _servers: servers, mut docker, agent, net, .. } = scene;
    drop((web, into, near, servers));
    docker.start_again();
    // dockerd finds that it has ended, and tells its plugins nothing.
    eventually(DEADLINE, "the container is seen to have ended", || {
        (docker.docker("ps -q --filter name=web").ok().is_empty()).then_some(())
    });
    eventually(DEADLINE, "netd has collected it", || {
        let ports = agent.json("port ls");
        let leases = agent.json("ipam");
        let own = |row: &&_| text(row, "/Address") == "172.18.0.10";
        (rows(&ports).is_empty() && rows(&leases).iter().find(own).is_none()).then_some(())
    });
    docker.docker("start web").ok();
    let web = docker.find("web");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
    drop((server, web));
    docker.docker("rm -f web client").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

#[test]
fn without_live_restore_containers_end_with_dockerd_and_start_again_with_it() {
    let net = Topology::new();
    let (mut docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    let options = "--network mine --ip 172.18.0.10 -p 8080:80 --restart always";
    let before = docker.container("web", options);
    docker.stop();
    drop(before);
    docker.start_again();
    let web = eventually(DEADLINE, "it runs again", || {
        let running = docker.docker("ps -q --filter name=web --filter status=running").ok();
        (!running.is_empty()).then(|| docker.find("web"))
    });
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
    drop((server, web));
    docker.docker("rm -f web").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}
