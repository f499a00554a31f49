//! From start to end: nothing is left behind, and nothing is lost while the
//! agent is away.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use netd_tests::{
    Agent, DEADLINE, Topology, eventually, exchange,
    json::{rows, text},
    topology::{HOST, OUTSIDE, at},
};

fn state(agent: &Agent, name: &str) -> Option<String> {
    let list = agent.json("ps -a");
    let row = rows(&list).iter().find(|row| text(row, "/Name") == name)?;
    Some(text(row, "/State").to_owned())
}

#[track_caller]
fn wait_for_state(agent: &Agent, name: &str, wanted: Option<&str>) {
    let what = format!("{name} is {wanted:?}");
    eventually(DEADLINE, &what, || (state(agent, name).as_deref() == wanted).then_some(()));
}

#[test]
fn stop_and_rm_leave_nothing() {
    let net = Topology::new();
    let agent = net.agent();
    let web = agent.container("web", "-p 8080:80 -p 9000-9003:90-93/udp");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_udp("0.0.0.0:7");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a flow in");
    assert!(web.ns.udp_echoes(at(OUTSIDE, 7), DEADLINE), "a flow out");

    agent.netd("stop web").ok();
    assert_eq!(state(&agent, "web").as_deref(), Some("exited"));
    assert_eq!(agent.json("port ls"), serde_json::json!([]));
    assert!(!agent.dir().processes().iter().any(|pid| pid.as_raw().cast_unsigned() == web.pid));
    agent.netd("rm web").ok();
    agent.assert_clean();
}

#[test]
fn stop_already_gives_back_links_addresses_ports_and_flows() {
    let net = Topology::new();
    let agent = net.agent();
    let before = agent.snapshot();
    agent.container("web", "-p 8080:80");
    agent.netd("stop web").ok();
    let given_back = [
        "links",
        "routes",
        "processes",
        "map ENDPOINTS",
        "map PORTS",
        "map FLOWS",
        "map EMBRYONIC",
        "port ls",
        "ipam",
    ];
    let after = agent.snapshot();
    after.only(&given_back).assert_same(&before.only(&given_back));
    net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into()).unwrap();
}

#[test]
fn network_rm_leaves_nothing() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("mine", "172.18.0.0/16", "-o com.docker.network.bridge.name=docker1");
    agent.network("other", "172.19.0.0/16", "--internal");
    agent.container("web", "--network mine -p 8080:80");
    agent.netd("rm -f web").ok();
    agent.netd("network rm mine other").ok();
    agent.assert_clean();
}

#[test]
fn prune_removes_the_networks_that_nobody_uses() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("used", "172.18.0.0/16", "");
    agent.network("unused", "172.19.0.0/16", "");
    agent.container("web", "--network used");
    agent.netd("network prune").ok();
    let list = agent.json("network ls");
    let names: Vec<_> = rows(&list).iter().map(|row| text(row, "/Name")).collect();
    assert!(names.contains(&"bridge") && names.contains(&"used"), "{names:?}");
    assert!(!names.contains(&"unused"), "{names:?}");
}

#[test]
fn a_command_that_ends_gives_everything_back() {
    let net = Topology::new();
    let agent = net.agent();
    agent.netd("run -d --rm --name brief -p 8080:80 -- true").ok();
    wait_for_state(&agent, "brief", None);
    agent.assert_clean();
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let net = Topology::new();
    let agent = net.agent();
    let script = "setsid sleep 600 & exit 0";
    let args = ["run", "-d", "--rm", "--name", "parent", "--", "sh", "-c", script];
    agent.command(args).output().ok();
    wait_for_state(&agent, "parent", None);
    agent.assert_clean();
}

#[test]
fn run_passes_on_output_and_exit_code() {
    let net = Topology::new();
    let agent = net.agent();
    let run = |script| agent.command(["run", "--rm", "--", "sh", "-c", script]).output();
    let output = run("echo data; echo words >&2; exit 7");
    assert_eq!((output.code, output.stdout.as_str()), (7, "data\n"), "{output}");
    assert!(output.stderr.contains("words"), "{output}");
    assert_eq!(run("kill -TERM $$").code, 128 + 15);
    let missing = agent.netd("run --rm -- /no/such/program");
    assert_eq!(missing.code, 127, "{missing}");
    assert!(missing.error().contains("/no/such/program"), "{missing}");
    wait_until_empty(&agent);
    agent.assert_clean();
}

#[track_caller]
fn wait_until_empty(agent: &Agent) {
    eventually(DEADLINE, "no container is left", || {
        rows(&agent.json("ps -a")).is_empty().then_some(())
    });
}

#[test]
fn exec_runs_inside_and_logs_show_what_was_said() {
    let net = Topology::new();
    let agent = net.agent();
    let args = ["run", "-d", "--name", "web", "--", "sh", "-c", "echo hello; sleep 600"];
    agent.command(args).output().ok();
    let fails = agent.command(["exec", "web", "--", "sh", "-c", "exit 9"]).output();
    assert_eq!(fails.code, 9);
    assert!(agent.exec("web", "ip -o link").ok().contains("eth0"));
    eventually(DEADLINE, "the log has the words", || {
        (agent.netd("logs web").ok() == "hello").then_some(())
    });
    agent.netd("stop web").ok();
    assert_eq!(agent.netd("logs web").ok(), "hello", "logs outlive the process");
}

#[test]
fn a_running_container_is_removed_only_by_force() {
    let net = Topology::new();
    let agent = net.agent();
    agent.container("web", "");
    let refused = agent.netd("rm web");
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("web"), "{refused}");
    assert_eq!(state(&agent, "web").as_deref(), Some("running"));
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}

/// Ends the agent by `end`, and looks at connections while it is away and
/// after it has come back.
fn connections_outlive_the_agent(end: fn(&mut Agent), flags: &[&'static str]) {
    let net = Topology::new();
    let mut agent = net.agent_with_flags(flags);
    agent.network("mine", "172.18.0.0/16", "--label team=a");
    let web = agent.container("web", "--network mine --ip 172.18.0.10 -p 8080:80");
    let client = agent.container("client", "");
    agent.container("alone", "--network none");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let _outside = net.outside.echo_tcp("0.0.0.0:7");
    let mut into = net.outside.connect(at(HOST, 8080));
    let mut out = client.ns.connect(at(OUTSIDE, 7));
    let mut both = |data: &[u8]| {
        exchange(&mut into, data);
        exchange(&mut out, data);
    };
    both(b"before");
    let before = agent.snapshot();

    end(&mut agent);
    both(b"while no agent runs");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one meanwhile");
    exchange(&mut client.ns.connect(at(OUTSIDE, 7)), b"a new one meanwhile");

    agent.start_again();
    both(b"after");
    exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one after");
    let after = agent.snapshot();
    after.without_flows().assert_same(&before.without_flows());
    let taken = net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into());
    assert!(taken.is_err(), "the port is held again");

    agent.netd("rm -f web client alone").ok();
    agent.netd("network rm mine").ok();
    agent.assert_clean();
}

#[test]
fn after_sigterm_all_is_found_as_it_was_and_connections_go_on() {
    connections_outlive_the_agent(Agent::stop, &[]);
}

/// As before Linux 6.6: classic filters in place of TCX links.
#[test]
fn with_clsact_connections_outlive_the_agent_too() {
    connections_outlive_the_agent(Agent::kill, &["--clsact"]);
}

#[test]
fn after_sigkill_all_is_found_as_it_was_and_connections_go_on() {
    connections_outlive_the_agent(Agent::kill, &[]);
}

#[test]
fn a_container_that_ended_while_no_agent_ran_is_found_exited() {
    let net = Topology::new();
    let mut agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    agent.stop();
    // `sleep` itself; its shim ends with it.
    net.host.exec(&format!("kill -TERM {}", web.pid));
    agent.start_again();
    wait_for_state(&agent, "web", Some("exited"));
    net.host.can_bind_tcp(([0, 0, 0, 0], 8080).into()).unwrap();
    agent.netd("rm web").ok();
    agent.assert_clean();
}

#[test]
fn the_agents_own_namespace_is_the_hosts_at_every_moment() {
    let net = Topology::new();
    let agent = net.agent();
    let path = format!("/proc/{}/ns/net", agent.pid());
    let look = || fs::read_link(&path).expect("the agent lives");
    let before = look();
    let over = AtomicBool::new(false);
    let seen: BTreeSet<_> = thread::scope(|scope| {
        let seen = scope.spawn(|| {
            std::iter::repeat_with(look).take_while(|_| !over.load(Ordering::Relaxed)).collect()
        });
        for n in 0..5 {
            agent.container(&format!("c{n}"), "");
        }
        over.store(true, Ordering::Relaxed);
        seen.join().expect("looked until the end")
    });
    assert_eq!(Vec::from_iter(seen), [before]);
}

#[test]
fn two_agents_run_side_by_side() {
    let (one, two) = (Topology::new(), Topology::new());
    let (first, second) = (one.agent(), two.agent());
    let a = first.container("web", "-p 8080:80");
    let b = second.container("web", "-p 8080:80");
    let (in_a, in_b) = (a.ns.echo_tcp("0.0.0.0:80"), b.ns.echo_tcp("0.0.0.0:80"));
    exchange(&mut one.outside.connect(at(HOST, 8080)), b"hello");
    assert_eq!((in_a.peers().len(), in_b.peers().len()), (1, 0));
    drop(first);
    exchange(&mut two.outside.connect(at(HOST, 8080)), b"hello");
}
