//! The Docker fixture holds what it promises, shown with Docker's own bridge.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use netd_tests::{
    DEADLINE, Docker, Topology,
    dir::mounts_below,
    eventually, exchange,
    json::one,
    topology::{HOST, OUTSIDE, at, links},
};
use serde_json::json;

#[test]
fn a_published_port_is_reached_and_docker_guards_it_with_its_own_means() {
    let net = Topology::new();
    let docker = net.docker();
    let web = docker.container("web", "-p 8080:80");
    let server = web.ns.echo_tcp("0.0.0.0:80");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!(server.peers()[0].ip(), OUTSIDE);
    assert!(links(&net.host).contains(&"docker0".to_owned()));
    assert!(net.host.exec("iptables-save").contains("--dport 8080"));
    assert_eq!(docker.processes("docker-proxy").len(), 2, "one a family");
    docker.docker("rm -f web").ok();
    assert!(!net.host.exec("iptables-save").contains("--dport 8080"));
}

#[test]
fn containers_find_each_other_by_name_and_speak() {
    let net = Topology::new();
    let docker = net.docker();
    docker.docker("network create mine").ok();
    let web = docker.container("web", "--network mine");
    docker.container("client", "--network mine");
    docker.docker("exec -d web httpd -f -h /www").ok();
    docker.command(["exec", "web", "sh", "-c", "echo hello > /www/index.html"]).output().ok();
    let said = docker.exec("client", "nslookup web 127.0.0.11").ok();
    assert!(said.contains(&web.ip.to_string()), "{said}");
    let page =
        || (docker.exec("client", "wget -qO- http://web/").stdout == "hello\n").then_some(());
    eventually(DEADLINE, "the page comes", page);
    docker.exec("client", "ping -c 1 web").ok();
}

#[test]
fn containers_outlive_dockerd() {
    let net = Topology::new();
    let mut docker = net.docker_with(&json!({"live-restore": true}));
    let web = docker.container("web", "");
    for end in [Docker::stop, Docker::kill] {
        end(&mut docker);
        assert!(Path::new(&format!("/proc/{}", web.pid)).exists());
        docker.start_again();
        assert_eq!(docker.find("web").pid, web.pid);
    }
    docker.docker("rm -f web").ok();
}

#[test]
fn compose_brings_services_up_and_takes_them_down() {
    let net = Topology::new();
    let docker = net.docker();
    let file = "version: '2.4'\nservices:\n  web: {image: box}\n";
    docker.compose("shop", file, "up -d --scale web=2").ok();
    let shown = docker.docker("ps --format {{.Names}}").ok();
    let mut names: Vec<_> = shown.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["shop_web_1", "shop_web_2"]);
    docker.compose("shop", file, "down").ok();
    assert_eq!(docker.docker("ps -aq").ok(), "");
}

#[test]
fn two_run_side_by_side() {
    let (one_net, two_net) = (Topology::new(), Topology::new());
    let (first, second) = (one_net.docker(), two_net.docker());
    let a = first.container("web", "-p 8080:80");
    let b = second.container("web", "-p 8080:80");
    let (in_a, in_b) = (a.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_tcp("0.0.0.0:80"));
    exchange(&mut one_net.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!((in_a.peers().len(), in_b.peers().len()), (1, 0));
    drop(first);
    exchange(&mut two_net.outside.connect(at(HOST, 8080)), b"hello");
    let list = second.json("network inspect bridge");
    let containers = one(&list)["Containers"].as_object().expect("an object");
    assert_eq!(containers.len(), 1);
}

#[test]
fn nothing_is_left_of_docker() {
    let net = Topology::new();
    let docker = net.docker();
    let left = Left::of(&net, &docker);
    drop(docker);
    drop(net);
    left.assert_gone();
}

#[test]
fn a_test_that_fails_leaves_nothing_of_docker_either() {
    static LEFT: Mutex<Option<Left>> = Mutex::new(None);
    let failing = std::thread::spawn(|| {
        let net = Topology::new();
        let docker = net.docker();
        *LEFT.lock().unwrap() = Some(Left::of(&net, &docker));
        panic!("on purpose");
    });
    assert!(failing.join().is_err());
    LEFT.lock().unwrap().take().expect("the test came so far").assert_gone();
}

/// What there is of a dockerd that runs a container.
struct Left {
    dir: PathBuf,
    groups: Vec<PathBuf>,
    processes: Vec<PathBuf>,
}

impl Left {
    fn of(net: &Topology, docker: &Docker) -> Self {
        let web = docker.container("web", "-p 8080:80");
        let processes = net.dir().processes();
        let processes: Vec<_> =
            processes.iter().map(|pid| PathBuf::from(format!("/proc/{pid}/exe"))).collect();
        assert!(processes.contains(&PathBuf::from(format!("/proc/{}/exe", web.pid))));
        // containerd, dockerd, two proxies, a shim, and the container's two.
        assert!(processes.len() >= 6, "{processes:?}");
        let groups = groups(&net.dir().control_group());
        assert!(!groups.is_empty());
        let dir = net.dir().path().to_owned();
        Self { dir, groups, processes }
    }

    #[track_caller]
    fn assert_gone(self) {
        let Self { dir, groups, processes } = self;
        assert!(!dir.exists());
        assert!(mounts_below(&dir).is_empty());
        for path in groups.iter().chain(&processes) {
            // A process that was killed stays until it is reaped, without a program.
            assert!(fs::read_link(path).is_err() && !path.is_dir(), "{} is left", path.display());
        }
    }
}

/// Where a control group of this name is.
fn groups(name: &Path) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let name = name.strip_prefix("/").expect("an absolute path");
    let hierarchies = fs::read_dir(top).expect("control groups are mounted").flatten();
    let hierarchies = hierarchies.map(|entry| entry.path()).chain([top.to_owned()]);
    hierarchies.map(|path| path.join(name)).filter(|path| path.exists()).collect()
}
