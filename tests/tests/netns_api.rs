//! Who may speak to the agent, and how long it listens.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::PathBuf,
};

use netd_tests::{Agent, DEADLINE, Program, Topology, eventually};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::Value;

fn socket(agent: &Agent) -> PathBuf {
    agent.root().join("run/netd.sock")
}

#[test]
fn the_socket_is_roots_and_a_stranger_who_can_open_it_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    let socket = socket(&agent);
    let file = fs::metadata(&socket).expect("the socket");
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o600, 0));
    let ask = |user: &str| {
        let url = ["-sS", "-w", " %{http_code}", "http://netd/v1/info", "--unix-socket"];
        let program = Program::new("setpriv").args(["--reuid", user, "--clear-groups", "curl"]);
        program.args(url).arg(&socket).inside(&net.host).output()
    };
    assert_ne!(ask("65534").code, 0, "nobody can't open it");
    // As if somebody had been careless with the whole way to it.
    for path in socket.ancestors().take_while(|path| path.starts_with(agent.dir().path())) {
        let mode = fs::metadata(path).expect("it is there").permissions().mode();
        let open = if path == socket { 0o666 } else { mode | 0o011 };
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(open));
    }
    let expected = r#"{"message":"permission denied: user 65534 is not root"} 403"#;
    assert_eq!(ask("65534").ok(), expected);
    assert!(ask("0").ok().ends_with(" 200"));
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_and_go() {
    let net = Topology::new();
    let agent = net.agent();
    // As many as there may be, and more.
    let mut silent: Vec<_> = (0..260)
        .map_while(|_| {
            let mut stream = UnixStream::connect(socket(&agent)).ok()?;
            stream.write_all(b"GET /v1/in").ok()?;
            stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            Some(stream)
        })
        .collect();
    let mut one_more = UnixStream::connect(socket(&agent)).expect("it listens");
    let request = b"GET /v1/containers HTTP/1.1\r\nHost: netd\r\n\r\n";
    one_more.write_all(request).expect("there is somebody");
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with(r#"{"message":"too many connections"}"#), "{answer}");
    eventually(DEADLINE, "the silent ones are let go", || {
        (agent.netd("ps").code == 0).then_some(())
    });
    for stream in &mut silent {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    let net = Topology::new();
    let mut agent = net.agent_with_flags(&["--log-format", "json"]);
    agent.stop();
    let log = agent.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let ready = lines.iter().find(|line| line["message"] == "ready").expect("it was ready");
    assert_eq!(
        (ready["level"].as_str(), ready["target"].as_str()),
        (Some("INFO"), Some("netd::agent::start"))
    );
    assert!(ready["timestamp"].is_string() && ready["version"].is_string(), "{ready}");
}

#[test]
fn the_agent_may_hold_as_many_ports_as_the_kernel_lets_it() {
    let net = Topology::new();
    let agent = net.agent();
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).expect("read limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let words: Vec<_> = line.split_whitespace().collect();
    let (_, given) = getrlimit(Resource::RLIMIT_NOFILE).expect("read our own limit");
    let most = fs::read_to_string("/proc/sys/fs/nr_open").expect("read the kernel's limit");
    let most = if may_raise_limits() { most.trim().to_owned() } else { given.to_string() };
    assert_eq!(words[3..5], [&most, &most]);
}

/// Whether root has `CAP_SYS_RESOURCE` here.
fn may_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").expect("read our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = u64::from_str_radix(line.expect("capabilities").trim(), 16).expect("hex");
    capabilities >> CAP_SYS_RESOURCE & 1 == 1
}
