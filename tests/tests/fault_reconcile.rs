//! What somebody takes away of netd's comes back, and the log says what. What
//! can go on meanwhile does so: connections outlive all of it.

use std::{fmt::Write as _, net::TcpStream, time::Instant};

use netd_tests::{
    Agent, Container, DEADLINE, Echo, NetNs, Topology, eventually, exchange,
    json::rows,
    topology::{HOST, OUTSIDE, at},
};
use serde_json::{Value, json};

/// A published container and a client, each with a connection that is open.
struct Scene {
    net: Topology,
    agent: Agent,
    web: Container,
    client: Container,
    into: TcpStream,
    out: TcpStream,
    _servers: [Echo; 2],
}

impl Scene {
    fn new(config: &Value, flags: &[&'static str]) -> Self {
        let net = Topology::new();
        let mut agent = net.agent_with(config);
        if !flags.is_empty() {
            agent.stop();
            agent.set_flags(flags);
            agent.start_again();
        }
        let web = agent.container("web", "-p 8080:80");
        let client = agent.container("client", "");
        let servers = [web.ns.echo_tcp("0.0.0.0:80"), net.outside.echo_tcp("0.0.0.0:7")];
        let into = net.outside.connect(at(HOST, 8080));
        let out = client.ns.connect(at(OUTSIDE, 7));
        let mut scene = Self { net, agent, web, client, into, out, _servers: servers };
        scene.goes_on();
        scene
    }

    fn host(&self) -> &NetNs {
        &self.net.host
    }

    /// The connections that were open, and new ones on every path.
    #[track_caller]
    fn goes_on(&mut self) {
        exchange(&mut self.into, b"goes on");
        exchange(&mut self.out, b"goes on");
        exchange(&mut self.net.outside.connect(at(HOST, 8080)), b"new, in");
        exchange(&mut self.client.ns.connect(at(OUTSIDE, 7)), b"new, out");
        exchange(&mut self.client.ns.connect(self.web.at(80)), b"a neighbour");
        exchange(&mut self.client.ns.connect(at(HOST, 8080)), b"hairpin");
        exchange(&mut self.host().connect(self.web.at(80)), b"the host");
        exchange(&mut self.host().connect(at(HOST, 8080)), b"the host, published");
    }

    /// Links, addresses and routes of the host and the containers, in netd's
    /// share of them.
    fn shape(&self) -> String {
        let mut shape = String::new();
        for ns in [self.host(), &self.web.ns, &self.client.ns] {
            let links: Value = serde_json::from_str(&ns.ip("-j link")).expect("JSON");
            for link in rows(&links) {
                let field = |key: &str| link.get(key).map(ToString::to_string).unwrap_or_default();
                // A container's end of a new pair has a new number.
                let number = if ns.name() == "host" { "ifindex" } else { "" };
                let keys = [number, "ifname", "mtu", "master", "address", "ifalias"];
                let fields: Vec<_> = keys.iter().map(|key| field(key)).collect();
                let up = field("flags").contains("\"UP\"");
                let _ = writeln!(shape, "{} {} up: {up}", ns.name(), fields.join(" "));
            }
            let addresses = ns.ip("-o -4 addr");
            let unnumbered = addresses.lines().filter_map(|line| line.split_once(": "));
            for (_, rest) in unnumbered {
                let _ = writeln!(shape, "{rest}");
            }
            shape += &ns.ip("-4 route").replace(" linkdown", "");
        }
        let forwarding = "/proc/sys/net/ipv4/conf/netd0/forwarding";
        // It has another name for a moment.
        shape + &self.host().run(|| std::fs::read_to_string(forwarding).unwrap_or_default())
    }

    /// `act` changes the host, and then all is as it was before.
    #[track_caller]
    fn survives(&mut self, line: &str, told: &str) {
        let before = self.shape();
        let mut words = line.split_whitespace();
        let program = words.next().expect("a program");
        self.host().command(program).args(words).output().ok();
        let what = format!("`{line}` is put right");
        let mut after = String::new();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            put_right(&what, || {
                after = self.shape();
                after == before
            });
        }));
        assert!(done.is_ok(), "after `{line}`:\n{after}\nbefore:\n{before}\n{}", self.agent.log());
        self.agent.expect_log(told);
        self.goes_on();
    }
}

#[test]
fn links_addresses_and_routes_come_back_and_connections_go_on() {
    let mut scene = Scene::new(&Value::Null, &[]);
    let veth = scene.agent.host_side(&scene.web);
    let deleted = format!("veth `{veth}` of container web was deleted");
    scene.host().set_sysctl("net/ipv4/ip_forward", "1");
    let taken_out = format!("`{veth}` was taken out of `netd0`");
    for (line, told) in [
        ("ip addr flush dev netd0", "of `netd0` was removed"),
        ("ip route del 172.17.0.0/16 dev netd0", "the route to 172.17.0.0/16 over `netd0`"),
        ("ip link set netd0 down", "link `netd0` was set down"),
        ("ip link set netd0 mtu 1400", "the MTU of `netd0` was set to 1400"),
        ("ip link set netd0 address 02:00:00:00:00:01", "the hardware address of `netd0`"),
        ("sysctl -w net.ipv4.conf.netd0.forwarding=0", "forwarding of `netd0` was switched off"),
        ("sysctl -w net.ipv4.ip_forward=0", "forwarding of `netd0` was switched off"),
        ("ip link set netd0 name netd9", "link `netd0` was renamed to `netd9`"),
        ("ip link del netd0", "bridge `netd0` was deleted"),
        (&format!("ip link set {veth} nomaster"), &taken_out),
        (&format!("ip link set {veth} down"), &format!("link `{veth}` was set down")),
        (&format!("ip link set {veth} name mine"), &format!("link `{veth}` was renamed")),
        (&format!("ip link del {veth}"), &deleted),
    ] {
        scene.survives(line, told);
    }
    scene.web.ns.ip("link del eth0");
    eventually(DEADLINE, "the log tells of it", || {
        (scene.agent.log().matches(&deleted).count() == 2).then_some(())
    });
    scene.goes_on();

    scene.agent.netd("rm -f web client").ok();
    scene.agent.assert_clean();
}

#[test]
fn what_was_taken_away_while_no_agent_ran_comes_back_with_it() {
    let mut scene = Scene::new(&Value::Null, &[]);
    let veth = scene.agent.host_side(&scene.client);
    let before = scene.shape();
    scene.agent.kill();
    scene.host().ip("link del netd0");
    scene.host().ip(&format!("link del {veth}"));
    scene.agent.start_again();
    assert_eq!(scene.shape(), before);
    scene.goes_on();
}

/// As [`eventually`]; says how long it took.
#[track_caller]
fn put_right(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    eventually(DEADLINE, what, || check().then_some(()));
    println!("{what}, and seen to be, after {:.0?}", start.elapsed());
}

/// The pins below a folder of the agent's, `links/…` and so on.
fn pins(agent: &Agent) -> Vec<String> {
    let listed = agent.host().exec(&format!("find {}/bpf -type f", agent.root().display()));
    // The kernel's own views of programs and maps are in every bpffs.
    let ours = listed.lines().filter(|pin| !pin.contains(".debug"));
    let mut pins: Vec<_> = ours.map(str::to_owned).collect();
    pins.sort();
    pins
}

#[track_caller]
fn wait_for_pins(agent: &Agent, wanted: &[String]) {
    put_right("every pin is back", || pins(agent) == wanted);
}

#[test]
fn programs_and_pins_come_back_and_connections_go_on() {
    let mut scene = Scene::new(&json!({ "xdp": "generic" }), &[]);
    scene.agent.wait_until_settled();
    let wanted = pins(&scene.agent);
    assert!(wanted.iter().any(|pin| pin.contains("xdp")), "{wanted:?}");
    let links: Vec<_> =
        wanted.iter().filter(|pin| pin.contains("/links/") || pin.contains("/cgroup/")).collect();
    let attached = |scene: &Scene| {
        let shown = links.iter().map(|pin| {
            let line = ["-j", "link", "show", "pinned", pin];
            let shown = scene.host().command("bpftool").args(line).output().stdout;
            let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
            let keys = ["ifindex", "devname", "attach_type"];
            let on: Vec<_> = keys.iter().map(|key| shown[key].to_string()).collect();
            // Gone for the moment, or attached to nothing.
            let off = shown["error"].is_string() || shown["cgroup_id"] == 0;
            format!("{} {off}", on.join(" "))
        });
        shown.collect::<Vec<_>>()
    };
    let before = attached(&scene);

    // A pin that goes takes nothing with it while the agent runs.
    for pin in &wanted {
        scene.host().exec(&format!("rm {pin}"));
    }
    scene.goes_on();
    wait_for_pins(&scene.agent, &wanted);
    scene.agent.expect_log("the pin of `from_container` on");
    scene.agent.expect_log("the pin of the map FLOWS");

    scene.host().exec(&format!("umount -l {}/bpf", scene.agent.root().display()));
    wait_for_pins(&scene.agent, &wanted);
    scene.goes_on();

    for pin in &links {
        scene.host().exec(&format!("bpftool link detach pinned {pin}"));
    }
    put_right("every program runs again", || {
        pins(&scene.agent) == wanted && attached(&scene) == before
    });
    for program in [
        "`to_container` on `nd",
        "`from_host` on `netd0`",
        "`from_uplink` on `up0`",
        "`sock_connect4`",
    ] {
        scene.agent.expect_log(program);
    }
    scene.goes_on();

    // And they are pinned for the agent after this one.
    scene.agent.kill();
    scene.goes_on();
    scene.agent.start_again();
    scene.goes_on();
    wait_for_pins(&scene.agent, &wanted);
}

#[test]
fn clsact_filters_come_back_and_those_of_others_stay() {
    let mut scene = Scene::new(&Value::Null, &["--clsact"]);
    let veth = scene.agent.host_side(&scene.web);
    let other = "protocol ip prio 7 u32 match ip dst 10.9.9.9/32 flowid 1:1";
    scene.host().exec(&format!("tc filter add dev up0 ingress {other}"));
    let filters = |scene: &Scene| {
        let mut shown = String::new();
        for link in ["up0", &veth] {
            for hook in ["ingress", "egress"] {
                let filters = scene.host().exec(&format!("tc filter show dev {link} {hook}"));
                let ours = filters.matches("pref 28260").count();
                let others = filters.contains("pref 7 ");
                let _ = writeln!(shown, "{link} {hook} {ours} {others}");
            }
        }
        shown
    };
    let before = filters(&scene);
    for line in [
        format!("tc qdisc del dev {veth} clsact"),
        format!("tc filter del dev {veth} ingress"),
        "tc filter del dev up0 egress".to_owned(),
        "tc filter del dev up0 ingress prio 28260".to_owned(),
    ] {
        scene.host().exec(&line);
        put_right(&format!("`{line}` is put right"), || filters(&scene) == before);
        scene.goes_on();
    }
    scene.agent.expect_log(&format!("the filter `from_container` on `{veth}`"));
}

#[test]
fn rules_of_a_firewall_and_of_qdiscs_concern_nobody() {
    let mut scene = Scene::new(&Value::Null, &[]);
    for line in [
        "nft flush ruleset",
        "iptables -F",
        "iptables -t nat -F",
        "iptables -P FORWARD DROP",
        "tc qdisc add dev netd0 clsact",
        "tc qdisc del dev netd0 clsact",
    ] {
        scene.host().exec(line);
        scene.goes_on();
    }
    let log = scene.agent.log();
    assert!(!log.contains("again") && !log.contains("it is back"), "{log}");
}

#[test]
fn an_uplink_goes_down_and_up_and_gets_another_name_and_connections_go_on() {
    let mut scene = Scene::new(&Value::Null, &[]);
    scene.host().ip("link set up0 down");
    scene.host().ip("link set up0 up");
    scene.host().ip(&format!("route add default via {OUTSIDE}"));
    scene.goes_on();

    scene.host().ip("link set up0 down");
    scene.host().ip("link set up0 name wan");
    scene.host().ip("link set wan up");
    scene.host().ip(&format!("route add default via {OUTSIDE}"));
    scene.agent.expect_log("uplinks=\"wan\"");
    scene.goes_on();
}

#[test]
fn an_uplink_that_changes_its_address_ends_what_went_out_with_the_old_one() {
    let scene = Scene::new(&Value::Null, &[]);
    let server = scene.net.outside.echo_udp("0.0.0.0:9");
    let socket = scene.client.ns.udp_to(at(OUTSIDE, 9));
    let speak = |word: &[u8]| {
        let done = socket.send(word).and_then(|_| socket.recv(&mut [0; 64]));
        done.is_ok().then(|| server.heard().last().expect("it was heard").peer.ip())
    };
    assert_eq!(speak(b"before"), Some(HOST.into()));

    // For a moment there is none, and then the same: it goes on.
    let local = socket.local_addr().expect("it is bound");
    scene.host().ip("addr del 192.0.2.1/24 dev up0");
    scene.host().ip("addr add 192.0.2.1/24 dev up0");
    scene.host().ip(&format!("route add default via {OUTSIDE}"));
    assert_eq!(speak(b"the same"), Some(HOST.into()));

    scene.host().ip("addr add 192.0.2.77/24 dev up0");
    scene.host().ip("addr del 192.0.2.1/24 dev up0");
    scene.host().ip("addr flush dev up0 scope global");
    scene.host().ip("addr add 192.0.2.77/24 dev up0");
    scene.host().ip(&format!("route add default via {OUTSIDE}"));
    let other: std::net::IpAddr = [192, 0, 2, 77].into();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("set a deadline");
    eventually(DEADLINE, "the same socket speaks by the new address", || {
        (speak(b"another") == Some(other)).then_some(())
    });
    assert_eq!(socket.local_addr().expect("it is bound"), local);
}
