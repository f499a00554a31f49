//! The shim: starts a container's command, passes signals on, reaps what is
//! orphaned, and when the command ends, ends all that it left behind. It is
//! one thread, asks nobody, and keeps no file open but the namespace's.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::RawFd,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid},
};
use serde::{Deserialize, Serialize};

use super::{
    RuntimeError, enter,
    files::RunDir,
    signals::{Event, Grouping, Signals},
    sys,
};
use crate::{
    kernel::{process::start_time, stat::Stat},
    model::Process,
};

/// What a shim is to run. `netd shim`'s arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    pub netns: PathBuf,
    pub run_dir: PathBuf,
    pub session: Session,
    /// Descriptor to report on. `None`: nobody waits for it.
    pub report: Option<RawFd>,
    /// Not empty.
    pub command: Vec<String>,
}

/// Where the shim and its command stand to whoever started them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Session {
    /// A session of their own (`run -d`).
    Detached,
    /// The same terminal and its process group, so that the keyboard's signals
    /// and input reach the command as if it had been started there.
    Terminal,
    /// The same session, process groups of their own: no terminal.
    Piped,
}

/// What a shim tells the one that started it, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    Started(Process),
    Exec { command: String, reason: String, code: u8 },
    Failed(String),
}

impl Session {
    /// As `netd shim --session` takes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Detached => "detached",
            Self::Terminal => "terminal",
            Self::Piped => "piped",
        }
    }
}

impl Shim {
    /// Runs the command to its end. The result is its exit code, 128 + N if
    /// signal N ended it. An error has been reported to the starter already.
    pub fn run(self) -> Result<u8, RuntimeError> {
        let mut report = match self.report {
            Some(fd) => Some(File::from(sys::inherited(fd).map_err(RuntimeError::Shim)?)),
            None => None,
        };
        let started = self.start();
        if let Some(report) = &mut report {
            let text = serde_json::to_vec(&Report::of(&started)).unwrap_or_default();
            // A starter that has gone is none that needs to know.
            let _ = report.write_all(&text);
        }
        drop(report);
        let (signals, pid) = started?;
        let code = self.supervise(&signals, pid)?;
        kill_descendants();
        RunDir(&self.run_dir).write_exit(code)?;
        Ok(code)
    }

    fn start(&self) -> Result<(Signals, Process), RuntimeError> {
        let signals = Signals::block()?;
        if self.session == Session::Detached {
            setsid().map_err(|errno| RuntimeError::Shim(errno.into()))?;
        }
        prctl::set_child_subreaper(true).map_err(|errno| RuntimeError::Shim(errno.into()))?;
        enter(&self.netns)?;

        let shim = std::process::id();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        if self.session != Session::Terminal {
            // So that a script's `kill 0` meets its own group only.
            command.process_group(0);
        }
        sys::tie_to_parent(&mut command);
        let child = command
            .spawn()
            .map_err(|error| RuntimeError::exec(self.command[0].as_ref(), &error))?;
        let process = Process {
            shim,
            pid: child.id(),
            start_time: start_time(shim).ok().flatten().unwrap_or_default(),
        };
        let written = RunDir(&self.run_dir).write_process(process);
        if let Err(error) = written {
            kill_descendants();
            return Err(error);
        }
        let_go();
        Ok((signals, process))
    }

    fn supervise(&self, signals: &Signals, process: Process) -> Result<u8, RuntimeError> {
        let command = pid(process.pid);
        let grouping = match self.session {
            Session::Terminal => Grouping::Shared,
            Session::Detached | Session::Piped => Grouping::Apart,
        };
        loop {
            if let Some(code) = reap(command) {
                return Ok(code);
            }
            match signals.next(grouping)? {
                // Not reaped yet, so the pid is still the command's.
                Event::Forward(signal) => drop(kill(command, signal)),
                Event::Child | Event::Delivered => {}
            }
        }
    }
}

impl Report {
    fn of<T>(started: &Result<(T, Process), RuntimeError>) -> Self {
        match started {
            Ok((_, process)) => Self::Started(*process),
            Err(RuntimeError::Exec { command, reason, code }) => {
                Self::Exec { command: command.clone(), reason: reason.clone(), code: *code }
            }
            Err(error) => Self::Failed(format!("{:#}", Chain(error))),
        }
    }
}

/// An error with its causes, `a: b: c`.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Lets go of the caller's terminal, pipes and directory: a pipe's reader
/// waits for the command's end, not for the shim's, and a file system can be
/// unmounted.
fn let_go() {
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
    let _ = env::set_current_dir("/");
}

/// Reaps every child that has ended; the exit code of `command` if it is one
/// of them.
fn reap(command: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid() == Some(command) => code = exit_code(status).or(code),
            Ok(WaitStatus::StillAlive) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return code,
        }
    }
}

/// The exit code as shells give it. `None`: it has not ended.
pub(super) fn exit_code(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => u8::try_from(code & 0xff).ok(),
        WaitStatus::Signaled(_, signal, _) => u8::try_from(128 + signal as i32).ok(),
        _ => None,
    }
}

/// Kills all that descends from this process. Orphans come to the shim as it
/// is their subreaper, so when it has no child, nothing is left.
fn kill_descendants() {
    loop {
        for descendant in descendants(std::process::id()) {
            let _ = kill(pid(descendant), Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        processes().filter_map(|pid| Some((pid, Stat::read(pid).ok()??.parent))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry: io::Result<_>| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The kernel's pids are below 2^22.
pub(super) fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
