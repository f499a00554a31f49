//! `netd run`, `exec` and `logs` against an agent that only answers. Needs
//! root: commands enter a namespace.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use netd::{
    api::{
        Handle, Request, ServiceError,
        server::Listener,
        types::{ContainerSummary, Sandbox, Started},
    },
    paths::Paths,
    runtime::files::{RunDir, is_running},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const NETD: &str = env!("CARGO_BIN_EXE_netd");
const ID: &str = "00000000000000000000000000000000000000000000000000000000000000ab";

/// What the agent was asked, in order.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Create(Vec<String>),
    Started,
    Remove,
}

struct Agent {
    root: TempDir,
    run_dir: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
    started: Arc<Mutex<Option<Started>>>,
    _runtime: tokio::runtime::Runtime,
    /// Its namespace is the containers'.
    namespace: Child,
}

/// What the agent says of `started`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnStarted {
    Accept,
    Refuse,
}

impl Agent {
    fn start(on_started: OnStarted) -> Self {
        let root = tempfile::tempdir().unwrap();
        let run_dir = root.path().join("container");
        fs::create_dir(&run_dir).unwrap();
        let namespace = Command::new("unshare")
            .args(["--net", "--kill-child", "sleep", "600"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let netns = PathBuf::from(format!("/proc/{}/ns/net", namespace.id()));
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        while fs::read_link(&netns).is_ok_and(|namespace| namespace == own) {
            std::thread::yield_now();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::new(Mutex::new(None));
        let (handle, mut requests) = Handle::channel(8);
        let sandbox =
            Sandbox { id: ID.into(), name: "web".into(), netns, run_dir: run_dir.clone() };
        let (log, seen) = (Arc::clone(&asked), Arc::clone(&started));
        runtime.spawn(async move {
            while let Some(request) = requests.recv().await {
                let note = |asked| log.lock().unwrap().push(asked);
                match request {
                    Request::ContainerCreate(body, reply) => {
                        note(Asked::Create(body.command));
                        let _ = reply.send(Ok(sandbox.clone()));
                    }
                    Request::ContainerSandbox(_, reply) => {
                        let _ = reply.send(Ok(sandbox.clone()));
                    }
                    Request::ContainerStarted(name, body, reply) => {
                        assert_eq!(name, ID);
                        note(Asked::Started);
                        *seen.lock().unwrap() = Some(body);
                        let _ = reply.send(match on_started {
                            OnStarted::Accept => Ok(()),
                            OnStarted::Refuse => Err(ServiceError::conflict("not now")),
                        });
                    }
                    Request::ContainerRemove(_, _, reply) => {
                        note(Asked::Remove);
                        let _ = reply.send(Ok(()));
                    }
                    Request::ContainerList(_, reply) => {
                        let _ = reply.send(Ok(Vec::<ContainerSummary>::new()));
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        });
        let listener = {
            let _in_runtime = runtime.enter();
            Listener::bind(&Paths::new(Some(root.path())).socket).unwrap()
        };
        runtime.spawn(listener.serve(handle, std::future::pending()));
        Self { root, run_dir, asked, started, _runtime: runtime, namespace }
    }

    fn netd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(NETD);
        command
            .arg("--root")
            .arg(self.root.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.netd(arguments).output().unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(process) = RunDir(&self.run_dir).read_process()
            && is_running(&process)
        {
            let _ = kill(pid(process.shim), Signal::SIGKILL);
        }
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn create(command: &[&str]) -> Asked {
    Asked::Create(command.iter().map(ToString::to_string).collect())
}

fn namespace(path: &Path) -> String {
    fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn the_command_runs_in_the_namespace_with_our_directory_and_environment() {
    let agent = Agent::start(OnStarted::Accept);
    let script = "readlink /proc/self/ns/net; pwd; echo $COLOUR; cat; exit 9";
    let mut netd = agent.netd(&["run", "--", "sh", "-c", script]);
    netd.env("COLOUR", "blue")
        .current_dir("/usr")
        .stdin(fs::File::open("/proc/sys/kernel/ostype").unwrap());
    let output = netd.output().unwrap();
    assert_eq!(text(&output.stderr), "");
    let inside = namespace(Path::new(&format!("/proc/{}/ns/net", agent.namespace.id())));
    assert_ne!(inside, namespace(Path::new("/proc/self/ns/net")));
    assert_eq!(text(&output.stdout), format!("{inside}\n/usr\nblue\nLinux\n"));
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(agent.asked(), [create(&["sh", "-c", script]), Asked::Started]);
    let process = RunDir(&agent.run_dir).read_process().unwrap();
    let started = agent.started.lock().unwrap().clone().unwrap();
    assert_eq!((started.shim, started.pid), (process.shim, process.pid));
}

#[test]
fn no_descriptor_of_ours_is_left_to_the_command() {
    let agent = Agent::start(OnStarted::Accept);
    let list = ["sh", "-c", "ls /proc/self/fd"];
    let expected = Command::new(list[0]).args(&list[1..]).output().unwrap();
    let output = agent.output(&[&["run", "--"], &list[..]].concat());
    assert_eq!(text(&output.stdout), text(&expected.stdout));
}

#[test]
fn signals_reach_the_command_through_netd_once() {
    let agent = Agent::start(OnStarted::Accept);
    let script =
        "trap 'echo term' TERM; trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = agent.netd(&["run", "--", "sh", "-c", script]).spawn().unwrap();
    let mut lines = {
        use std::io::BufRead as _;
        std::io::BufReader::new(child.stdout.take().unwrap()).lines()
    };
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(pid(child.id()), Signal::SIGTERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "term");
    kill(pid(child.id()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(lines.next().is_none());
}

#[test]
fn a_command_that_is_not_there_is_said_so_and_leaves_no_container() {
    let agent = Agent::start(OnStarted::Accept);
    for detach in [&[][..], &["-d"]] {
        let arguments = [&["run"], detach, &["--", "nosuch"]].concat();
        let output = agent.output(&arguments);
        assert_eq!(output.status.code(), Some(127));
        assert_eq!(
            text(&output.stderr),
            "error: exec: \"nosuch\": executable file not found in $PATH\n"
        );
        assert_eq!(text(&output.stdout), "");
        assert_eq!(agent.asked(), [create(&["nosuch"]), Asked::Remove]);
    }
}

#[test]
fn a_command_that_the_agent_refuses_is_ended() {
    let agent = Agent::start(OnStarted::Refuse);
    let output = agent.output(&["run", "-d", "--", "sleep", "300"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "error: not now\n");
    assert_eq!(agent.asked(), [create(&["sleep", "300"]), Asked::Started, Asked::Remove]);
    let process = RunDir(&agent.run_dir).read_process().unwrap();
    assert!(!is_running(&process));
    assert!(!Path::new(&format!("/proc/{}", process.pid)).exists());
}

#[test]
fn a_detached_command_runs_on_and_its_output_is_in_the_log() {
    let agent = Agent::start(OnStarted::Accept);
    let script =
        "echo out; echo err >&2; cat; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    let output = agent.output(&["run", "-d", "--", "sh", "-c", script]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), format!("{ID}\n"));
    assert_eq!(output.status.code(), Some(0));
    let process = RunDir(&agent.run_dir).read_process().unwrap();
    assert!(is_running(&process));
    let session = nix::unistd::getsid(Some(pid(process.shim))).unwrap();
    assert_eq!(session, pid(process.shim));

    let follow = agent.netd(&["logs", "-f", "web"]).spawn().unwrap();
    while !text(&agent.output(&["logs", "web"]).stdout).contains("err\n") {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(pid(process.shim), Signal::SIGTERM).unwrap();
    let followed = follow.wait_with_output().unwrap();
    assert_eq!(text(&followed.stdout), "out\nerr\nbye\n");
    assert_eq!(RunDir(&agent.run_dir).read_exit(), Some(3));
}

#[test]
fn exec_takes_netd_s_place_in_the_namespace() {
    let agent = Agent::start(OnStarted::Accept);
    let output =
        agent.output(&["exec", "web", "--", "sh", "-c", "readlink /proc/self/ns/net; exit 6"]);
    let inside = PathBuf::from(format!("/proc/{}/ns/net", agent.namespace.id()));
    assert_eq!(
        text(&output.stdout),
        format!("{}\n", namespace(&inside)),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(6));
    let output = agent.output(&["exec", "web", "--", "nosuch"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        text(&output.stderr),
        "error: exec: \"nosuch\": executable file not found in $PATH\n"
    );
}

#[test]
fn an_attached_container_has_no_log() {
    let agent = Agent::start(OnStarted::Accept);
    let output = agent.output(&["logs", "web"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: container web has no log\nhint: only containers that were started with `netd run \
         -d` have one\n"
    );
}
