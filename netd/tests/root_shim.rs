//! The shim, as `netd run` starts it. Needs root: it enters a namespace.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use netd::{
    model::Process,
    runtime::files::{RunDir, is_running},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const NETD: &str = env!("CARGO_BIN_EXE_netd");

struct Shim {
    dir: TempDir,
    child: Child,
}

fn command(run_dir: &Path, session: &str, script: &[&str]) -> Command {
    let mut command = Command::new(NETD);
    command
        .args(["shim", "--netns", "/proc/self/ns/net", "--session", session])
        .arg("--run-dir")
        .arg(run_dir)
        .arg("--")
        .args(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(script: &[&str]) -> (Output, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), "piped", script).output().unwrap();
    (output, dir)
}

fn start(script: &[&str]) -> Shim {
    let dir = tempfile::tempdir().unwrap();
    let child = command(dir.path(), "piped", script).process_group(0).spawn().unwrap();
    let shim = Shim { dir, child };
    until(|| shim.process().is_some());
    shim
}

impl Shim {
    fn process(&self) -> Option<Process> {
        RunDir(self.dir.path()).read_process()
    }

    fn exit_file(&self) -> Option<i32> {
        RunDir(self.dir.path()).read_exit()
    }

    /// Waits until the command has printed a line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let out = self.child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while out.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // With its shim the command goes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "it took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

#[test]
fn the_exit_code_is_the_command_s() {
    for code in [0, 1, 42, 255] {
        let (output, dir) = run(&["sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(RunDir(dir.path()).read_exit(), Some(code));
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let (output, dir) = run(&["sh", "-c", "kill -SEGV $$"]);
    assert_eq!(output.status.code(), Some(139));
    assert_eq!(RunDir(dir.path()).read_exit(), Some(139));
}

#[test]
fn output_is_passed_through() {
    let (output, _dir) = run(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
}

#[test]
fn sigterm_is_passed_on_and_the_command_may_handle_it() {
    let mut shim =
        start(&["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
    assert_eq!(shim.line(), "ready");
    kill(pid(shim.child.id()), Signal::SIGTERM).unwrap();
    assert_eq!(shim.child.wait().unwrap().code(), Some(7));
    assert_eq!(shim.exit_file(), Some(7));
}

#[test]
fn no_signal_is_blocked_in_the_command() {
    let (output, _dir) = run(&["grep", "SigBlk", "/proc/self/status"]);
    assert_eq!(output.stdout, b"SigBlk:\t0000000000000000\n");
}

#[test]
fn the_pid_file_tells_a_running_shim_from_one_that_has_ended() {
    let mut shim = start(&["sleep", "60"]);
    let process = shim.process().unwrap();
    assert_eq!(process.shim, shim.child.id());
    assert!(is_running(&process));
    assert!(is_alive(process.pid));
    kill(pid(process.pid), Signal::SIGKILL).unwrap();
    assert_eq!(shim.child.wait().unwrap().code(), Some(137));
    assert!(!is_running(&process));
}

#[test]
fn what_the_command_leaves_behind_is_killed() {
    // A child, an orphan, and one in a session of its own.
    let script = "sleep 300 & echo $!; (setsid sh -c 'echo $$; trap \"\" TERM HUP; sleep 300; \
                  sleep 300' & ); sleep 0.3; exit 3";
    let (output, dir) = run(&["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(RunDir(dir.path()).read_exit(), Some(3));
    let left: Vec<u32> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(left.len(), 2);
    for pid in left {
        assert!(!is_alive(pid), "{pid} is left");
    }
}

#[test]
fn a_command_does_not_outlive_a_shim_that_is_killed() {
    let mut shim = start(&["sleep", "300"]);
    let process = shim.process().unwrap();
    shim.child.kill().unwrap();
    shim.child.wait().unwrap();
    until(|| !is_alive(process.pid));
    assert_eq!(shim.exit_file(), None);
}

#[test]
fn a_script_s_kill_0_does_not_meet_the_shim() {
    let (output, _dir) = run(&["sh", "-c", "trap '' TERM; kill 0; exit 5"]);
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn an_unknown_command_is_127_one_that_is_no_program_126() {
    let (output, dir) = run(&["nosuch-command"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: exec: \"nosuch-command\": executable file not found in $PATH\n"
    );
    assert_eq!(RunDir(dir.path()).read_process(), None);
    for (path, code, reason) in [
        ("/nosuch/command", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/tmp", 126, "permission denied"),
    ] {
        let (output, _dir) = run(&[path]);
        assert_eq!(output.status.code(), Some(code), "{path}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("error: exec: \"{path}\": {reason}\n")
        );
    }
}
