//! Many `docker run` at once.

use std::{collections::BTreeSet, thread, time::Duration};

use netd_tests::{
    Docker, Topology, exchange,
    json::{number, rows},
    topology::{HOST, at},
};

const CONTAINERS: u16 = 50;
/// For one `docker run` of fifty, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn fifty_containers_come_and_go_at_once_and_nothing_is_left() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.network("mine", "172.18.0.0/24", "");
    at_once(&docker, |n| format!("run -d --name c{n} --network mine -p {}:80 box", 8000 + n));

    let ports = agent.json("port ls");
    let ports: BTreeSet<_> = rows(&ports).iter().map(|row| number(row, "/HostPort")).collect();
    assert_eq!(ports.len(), usize::from(CONTAINERS));
    let mut addresses = BTreeSet::new();
    for n in 0..CONTAINERS {
        let container = docker.find(&format!("c{n}"));
        let server = container.ns.echo_tcp("0.0.0.0:80");
        exchange(&mut net.outside.connect(at(HOST, 8000 + n)), b"hello");
        assert_eq!(server.peers().len(), 1, "port {} leads to c{n}", 8000 + n);
        addresses.insert(container.ip);
    }
    assert_eq!(addresses.len(), usize::from(CONTAINERS));

    at_once(&docker, |n| format!("rm -f c{n}"));
    docker.docker("network rm mine").ok();
    docker.wait_for_shims();
    agent.assert_clean();
}

/// Each of these must succeed.
fn at_once(docker: &Docker, line: impl Fn(u16) -> String + Sync) {
    thread::scope(|scope| {
        for n in 0..CONTAINERS {
            let line = &line;
            scope.spawn(move || {
                let line = line(n);
                docker.command(line.split_whitespace()).within(PATIENCE).output().ok();
            });
        }
    });
}
