//! `netd docker-relay` between dockerd and an agent that comes and goes.

use netd_tests::{DEADLINE, Program, Topology, eventually, netd_path};
use serde_json::json;

const CREATE: &str = "network create -d netd --ipam-driver netd --subnet 172.18.0.0/24 mine";
const AWAY: &str = "netd's agent is not running";

#[test]
fn dockerd_hears_that_no_agent_runs_and_finds_the_next_one() {
    let net = Topology::new();
    let behind = net.dir().path().join("behind.sock");
    let log = net.dir().path().join("relay.log");
    let relay = Program::new(netd_path()).args(["docker-relay", "--listen"]);
    let relay = relay.arg(net.plugin_socket()).arg("--agent").arg(&behind).start(&log);
    eventually(DEADLINE, "the relay listens", || net.plugin_socket().exists().then_some(()));
    let docker = net.docker();

    // dockerd's first use of the driver: what it learns now holds until its end.
    let refused = docker.refuses(CREATE);
    assert!(refused.contains(AWAY), "{refused}");

    let sockets = json!({
        "docker-plugin": &behind,
        "docker-socket": docker.socket(),
        "bip": "10.88.0.1/16",
    });
    let mut agent = net.agent_with(&sockets);
    docker.docker(CREATE).ok();
    let web = docker.container("web", "--network mine --ip 172.18.0.10");

    // Away again: told at once, and the container is none the wiser.
    agent.stop();
    let refused = docker.refuses("run --rm --network mine box true");
    assert!(refused.contains(AWAY), "{refused}");
    agent.start_again();
    docker.exec("web", "ping -c 1 -W 5 172.18.0.1").ok();
    drop(web);
    docker.docker("rm -f web").ok();
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
    drop(relay);
}
