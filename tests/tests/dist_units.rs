//! netd's units under a real systemd: what starts when, what comes back by
//! itself, and that the sandboxes leave netd all that it needs.

use std::io::{Read as _, Write as _};

use netd_tests::{DEADLINE, Machine, NetNs, Program, eventually};

/// A system call that the filter lacks ends the program: it might not mind an
/// error, and nobody would know.
const STRICT: &str = "[Service]\nSystemCallErrorNumber=kill";

const GET: &str = "curl -sS --max-time 60 --retry 5 --retry-connrefused";

struct Host {
    machine: Machine,
    outside: NetNs,
}

impl Host {
    fn boot() -> Self {
        let host = Self::around(Machine::boot());
        host.machine.drop_in("netd.service", STRICT);
        host.machine.drop_in("netd-docker.service", STRICT);
        host
    }

    fn around(machine: Machine) -> Self {
        let outside = NetNs::new(machine.dir(), "outside");
        let host = machine.netns();
        outside.veth("eth0", &host, "uplink");
        outside.ip("address add 192.0.2.7/24 dev eth0");
        outside.ip("link set eth0 up");
        host.ip("address add 192.0.2.1/24 dev uplink");
        host.ip("link set uplink up");
        host.ip("route add default via 192.0.2.7");
        Self { machine, outside }
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.machine.run(line).ok()
    }

    #[track_caller]
    fn expect(&self, unit: &str, property: &str, value: &str) {
        let what = format!("{unit} has {property}={value}");
        eventually(DEADLINE * 6, &what, || {
            (self.machine.property(unit, property) == value).then_some(())
        });
    }

    /// Containers `web` and `client`, and what `web` serves at port 80.
    #[track_caller]
    fn start_containers(&self) {
        self.machine.shell("mkdir -p /srv/www && echo hello > /srv/www/index.html").ok();
        // A privileged port; a server of another user's.
        let server = "setpriv --reuid 65534 busybox httpd -f -p 8080 -h /srv/www";
        self.ok(&format!("netd run -d --name web --network blue -p 80:8080 -- {server}"));
        self.ok("netd run -d --name client --network blue -- sleep infinity");
    }

    /// A call of Docker's to its plugin.
    #[track_caller]
    fn docker(&self, method: &str) -> serde_json::Value {
        self.docker_with(method, "{}")
    }

    /// One with arguments: JSON without spaces.
    #[track_caller]
    fn docker_with(&self, method: &str, arguments: &str) -> serde_json::Value {
        let line = format!(
            "curl -sS --max-time 25 --unix-socket /run/docker/plugins/netd.sock -d {arguments} http://plugin/{method}"
        );
        self.machine.run(&line).json()
    }
}

#[test]
fn a_container_s_whole_life_passes_within_the_sandbox() {
    let host = Host::boot();
    // The first command starts the agent.
    host.ok("systemctl start netd.socket");
    assert_eq!(host.machine.property("netd.service", "ActiveState"), "inactive");
    host.ok("netd network create --subnet 172.30.0.0/24 blue");
    host.expect("netd.service", "ActiveState", "active");
    let pid = host.machine.property("netd.service", "MainPID");
    let status = host.ok(&format!("cat /proc/{pid}/status"));
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");

    host.start_containers();
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");
    assert_eq!(host.ok(&format!("{GET} http://127.0.0.1/")), "hello");
    assert_eq!(host.ok(&format!("netd exec client -- {GET} http://192.0.2.1/")), "hello");
    host.ok("netd exec client -- ping -c 1 -W 5 192.0.2.7");

    // Ports by all protocols, and one that is taken: by whom is told.
    host.ok("netd port add web 8080:8080 8080:8080/udp 9000:9000/sctp 8443:8080,from=192.0.2.0/24");
    host.ok("netd port rm web 8443:8080");
    host.ok("setpriv --reuid 65534 busybox httpd -p 9999 -h /srv/www");
    let refused = host.machine.run("netd port add web 9999:8080");
    refused.fails(1, "failed to bind host port 0.0.0.0:9999/tcp: address already in use");
    let refused = host.machine.run("netd port add web 9999:8080");
    assert!(refused.hint().contains("busybox"), "{refused}");

    // Other networks, and the tables.
    host.ok(
        "netd network create --ipv6 -o com.docker.network.bridge.gateway_mode_ipv4=routed green",
    );
    host.ok("netd network connect green client");
    for reader in ["ps", "port ls", "ipam", "flows", "stats", "network ls", "inspect web"] {
        host.ok(&format!("netd {reader}"));
    }

    // Restarted, and killed: it comes back, and the network was never away.
    host.ok("systemctl restart netd.service");
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");
    host.expect("netd.service", "StatusText", "3 networks, 2 containers");
    host.ok("systemctl kill --signal KILL netd.service");
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");
    host.expect("netd.service", "NRestarts", "1");
    // It waits for the new agent in the socket.
    host.ok("netd ps");

    host.ok("netd network disconnect green client");
    host.ok("netd stop web");
    host.ok("netd rm -f web client");
    host.ok("netd network rm blue green");
    host.ok("systemctl stop netd.socket netd.service");
    assert_eq!(host.machine.property("netd.service", "Result"), "success");
    host.ok("test ! -e /sys/fs/bpf/netd");
    assert_eq!(host.ok("ls -A /run/netd/netns"), "");
    let log = host.machine.journal("netd.service");
    let refused = |line: &&str| {
        let line = line.to_lowercase();
        ["not permitted", "permission denied", "not supported"].iter().any(|it| line.contains(it))
    };
    assert_eq!(log.lines().find(refused), None, "{log}");
    // A line has its level, and no time of its own.
    let levels = host.ok("journalctl --no-pager --output json --unit netd.service");
    let ready = levels.lines().find(|line| line.contains("netd::agent::start: ready")).expect(&log);
    assert!(ready.contains(r#""PRIORITY":"6""#), "{ready}");
    assert!(ready.contains(r#""MESSAGE":"netd::agent::start: ready"#), "{ready}");
}

#[test]
fn docker_starts_after_the_agent_and_never_waits_for_one_that_is_away() {
    let host = Host::boot();
    let docker = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true";
    // In one transaction, as at boot.
    let boot = "[Unit]\nWants=docker.service netd.service netd.socket netd-docker.socket";
    for (unit, text) in [("docker.service", docker), ("boot.target", boot)] {
        host.machine.shell(&format!("printf '{text}\n' > /etc/systemd/system/{unit}")).ok();
    }
    host.ok("systemctl daemon-reload");
    host.ok("systemctl start boot.target");
    host.expect("docker.service", "ActiveState", "active");
    let when = |unit: &str, property: &str| -> u64 {
        host.machine.property(unit, property).parse().expect("microseconds")
    };
    let ready = when("netd.service", "ActiveEnterTimestampMonotonic");
    let socket = when("netd-docker.socket", "ActiveEnterTimestampMonotonic");
    let docker = when("docker.service", "ExecMainStartTimestampMonotonic");
    assert!(ready < docker && socket < docker, "{ready} {socket} {docker}");

    // The relay starts with the first call.
    assert_eq!(host.machine.property("netd-docker.service", "ActiveState"), "inactive");
    assert_eq!(host.docker("Plugin.Activate")["Implements"][0], "NetworkDriver");
    host.expect("netd-docker.service", "ActiveState", "active");

    // What is not always the same is the agent's to say.
    let pool = r#"{"AddressSpace":"netd-local","Pool":"172.31.0.0/24"}"#;
    let pool = host.docker_with("IpamDriver.RequestPool", pool);
    assert_eq!(pool["Pool"], "172.31.0.0/24", "{pool}");

    host.ok("systemctl stop netd.socket netd.service");
    for (method, key) in
        [("NetworkDriver.CreateNetwork", "Err"), ("IpamDriver.RequestPool", "Error")]
    {
        let answer = host.docker(method);
        let text = answer[key].as_str().unwrap_or_default();
        assert!(text.starts_with("netd's agent is not running"), "{method}: {answer}");
    }
    assert_eq!(host.docker("NetworkDriver.GetCapabilities")["Scope"], "local");
    // Whoever restarts the relay loses no call: systemd has the socket.
    host.ok("systemctl restart netd-docker.service");
    assert_eq!(host.docker("Plugin.Activate")["Implements"][1], "IpamDriver");
    assert_eq!(host.machine.property("netd-docker.service", "NRestarts"), "0");
}

#[test]
fn an_agent_that_is_stuck_is_killed_and_comes_back() {
    let host = Host::boot();
    host.machine.drop_in("netd.service", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1");
    host.ok("systemctl start netd.socket netd.service");
    let pid = host.machine.property("netd.service", "MainPID");
    host.ok(&format!("kill -STOP {pid}"));
    host.expect("netd.service", "NRestarts", "1");
    host.ok("netd ps");
    assert_ne!(host.machine.property("netd.service", "MainPID"), pid);
}

/// Where `cargo xtask dist` has put the package.
fn make_package() -> String {
    let cargo = std::env::var("CARGO").expect("cargo runs the tests");
    let made = Program::new(cargo).args(["xtask", "dist"]).within(DEADLINE * 120).output();
    let package = made.stderr.lines().filter_map(|line| line.rsplit_once(" and ")).next_back();
    let package = package.unwrap_or_else(|| panic!("no package is named: {made}")).1.to_owned();
    made.ok();
    package
}

#[test]
#[ignore = "soak: cargo xtask test --soak"]
fn soak_the_package_installs_upgrades_and_goes_without_a_cut() {
    let package = std::env::var("NETD_DEB").unwrap_or_else(|_| make_package());
    let host = Host::around(Machine::boot_bare());
    let dpkg = "dpkg --force-confold --no-triggers";

    host.ok(&format!("{dpkg} --install {package}"));
    assert_eq!(host.docker("Plugin.Activate")["Implements"][0], "NetworkDriver");
    for unit in ["netd.service", "netd-docker.service", "netd.socket", "netd-docker.socket"] {
        host.expect(unit, "ActiveState", "active");
    }
    host.ok("systemctl is-enabled netd.service netd.socket netd-docker.socket");
    host.ok("netd network create --subnet 172.30.0.0/24 blue");
    host.start_containers();
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");

    // A connection from before the upgrade is used after it, and the
    // configuration stays the administrator's.
    let to = "192.0.2.1:80".parse().expect("an address");
    let mut connection = host.outside.connect(to);
    let pids = || ["netd", "netd-docker"].map(|unit| host.machine.property(unit, "MainPID"));
    let before = pids();
    host.machine.shell("echo '{\"icc\": true}' > /etc/netd/netd.json").ok();
    host.ok(&format!("{dpkg} --install {package}"));
    host.expect("netd.service", "ActiveState", "active");
    let after = pids();
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(host.ok("cat /etc/netd/netd.json"), "{\"icc\": true}");
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("send a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("receive the answer");
    assert!(answer.ends_with("hello\n"), "{answer}");

    // The network goes on without the package, and is tidied up with its last
    // container only.
    host.ok(&format!("{dpkg} --remove netd"));
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");
    let purged = host.machine.run(&format!("{dpkg} --purge netd"));
    assert!(purged.stderr.contains("containers of netd's still run"), "{purged}");
    purged.ok();
    assert_eq!(host.outside.exec(&format!("{GET} http://192.0.2.1/")), "hello");
    host.ok("test ! -e /var/lib/netd -a ! -e /etc/netd/netd.json");
}
