//! Programs with deadlines, in a namespace or not: run to their end
//! ([`Output`]) or kept running ([`Process`]).

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{DEADLINE, NetNs, eventually};

/// A program about to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    ns: Option<NetNs>,
    within: Duration,
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Output {
    line: String,
    /// 128 + N: ended by signal N.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A running program; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    line: String,
}

/// `netd` with these arguments, outside any namespace of the tests.
pub fn netd<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Program {
    Program::new(netd_path()).args(args)
}

/// `NETD_BIN`, or the one that was built beside this test.
pub fn netd_path() -> PathBuf {
    if let Some(path) = std::env::var_os("NETD_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let path = folder.join("netd");
    assert!(
        path.exists(),
        "no netd at {}: run `cargo build -p netd`, or name one with NETD_BIN",
        path.display()
    );
    path
}

impl Program {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C")
            .env("COLUMNS", "100")
            .env_remove("NETD_ROOT");
        Self { command, ns: None, within: DEADLINE }
    }

    #[must_use]
    pub fn inside(mut self, ns: &NetNs) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        words.join(" ")
    }

    /// A child starts in the namespace of the thread that makes it.
    fn spawn(&mut self) -> Child {
        let line = self.line();
        let command = &mut self.command;
        let child = match &self.ns {
            Some(ns) => ns.run(|| command.spawn()),
            None => command.spawn(),
        };
        child.unwrap_or_else(|e| panic!("start `{line}`: {e}"))
    }

    /// Runs it to its end, or to the deadline, which fails the test. Output
    /// ends when nobody holds it open any more, so a daemon that the program
    /// leaves behind must have let go of it.
    #[track_caller]
    pub fn output(mut self) -> Output {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = self.line();
        let child = self.spawn();
        let pid = child.id();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(child.wait_with_output()));
        let Ok(output) = receive.recv_timeout(self.within) else {
            signal(pid, Signal::SIGKILL);
            panic!("`{line}` has not ended within {:?}", self.within);
        };
        let output = output.unwrap_or_else(|e| panic!("wait for `{line}`: {e}"));
        Output {
            line,
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it; what it says is appended to the file.
    pub fn start(mut self, log: &Path) -> Process {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().unwrap_or_else(|e| panic!("open {}: {e}", log.display()));
        let same = file.try_clone().expect("share the log");
        self.command.stdout(file).stderr(same);
        let line = self.line();
        Process { child: self.spawn(), line }
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(signal)
}

fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

impl Output {
    /// It must have succeeded; gives stdout without its last line feed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// It must have succeeded and printed JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        assert_eq!(self.code, 0, "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}: {self}"))
    }

    /// It must have failed with this code and exactly this error, and have
    /// printed no data.
    #[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "an assertion")]
    #[track_caller]
    pub fn fails(self, code: i32, error: &str) -> Self {
        assert_eq!(self.error(), error, "{self}");
        assert_eq!(self.code, code, "{self}");
        assert_eq!(self.stdout, "", "{self}");
        self
    }

    /// What stands after `error: ` in stderr's first line.
    #[track_caller]
    pub fn error(&self) -> &str {
        let line = self.stderr.lines().find_map(|line| line.strip_prefix("error: "));
        line.unwrap_or_else(|| panic!("no error: {self}"))
    }

    /// What stands after `hint: `.
    #[track_caller]
    pub fn hint(&self) -> &str {
        let line = self.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
        line.unwrap_or_else(|| panic!("no hint: {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "`{line}` exited with {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("ask for the child").map(code)
    }

    pub fn signal(&self, number: Signal) {
        signal(self.id(), number);
    }

    /// Waits for its end; gives the exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let what = format!("`{}` ends", self.line);
        eventually(DEADLINE, &what, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
