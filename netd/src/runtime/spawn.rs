//! The starter's side of a shim.

use std::{
    fs::File,
    io::Read as _,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::pipe2,
};

use super::{
    RuntimeError,
    files::RunDir,
    shim::{Report, Session, exit_code, pid},
    signals::{Event, Grouping, Signals},
};
use crate::model::Process;

/// This program, whatever has become of its file since it was started.
pub const SELF: &str = "/proc/self/exe";

/// A command to be started in a container.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The program that has the `shim` command: [`SELF`].
    pub program: &'a Path,
    pub netns: &'a Path,
    pub run_dir: &'a Path,
    /// Not empty.
    pub command: &'a [String],
}

/// A started command that the caller stays with.
#[derive(Debug)]
pub struct Attached {
    pub process: Process,
    grouping: Grouping,
    signals: Signals,
}

/// Starts the command with its output in the log, and leaves it.
pub fn detached(start: Start) -> Result<Process, RuntimeError> {
    let log = RunDir(start.run_dir).create_log()?;
    let copy = log.try_clone().map_err(RuntimeError::Shim)?;
    let signals = Signals::block()?;
    let mut shim = Command::new(start.program);
    shim.stdin(Stdio::null()).stdout(log).stderr(copy);
    let process = launch(shim, start, Session::Detached);
    signals.unblock()?;
    process
}

/// Starts the command on the caller's own stdin, stdout and stderr. From here
/// on this thread's signals are kept for [`Attached::wait`] to pass on.
pub fn attached(start: Start) -> Result<Attached, RuntimeError> {
    let signals = Signals::block()?;
    let mut shim = Command::new(start.program);
    let (session, grouping) = if has_terminal() {
        (Session::Terminal, Grouping::Shared)
    } else {
        shim.process_group(0);
        (Session::Piped, Grouping::Apart)
    };
    Ok(Attached { process: launch(shim, start, session)?, grouping, signals })
}

impl Attached {
    /// Waits for the command's end, and passes on the signals that it doesn't
    /// get from the terminal itself. The result is its exit code.
    pub fn wait(self) -> Result<u8, RuntimeError> {
        let shim = pid(self.process.shim);
        loop {
            match waitpid(shim, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => {
                    if let Some(code) = exit_code(status) {
                        return Ok(code);
                    }
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(RuntimeError::Shim(errno.into())),
            }
            match self.signals.next(self.grouping)? {
                Event::Forward(signal) => drop(kill(shim, signal)),
                Event::Child | Event::Delivered => {}
            }
        }
    }
}

/// Ends a command that must not stay, and all that it started. Returns once
/// its shim has ended.
pub fn abort(process: &Process) {
    let _ = kill(pid(process.pid), Signal::SIGKILL);
    while waitpid(pid(process.shim), None) == Err(Errno::EINTR) {}
}

/// Whether a terminal sends this process signals.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Starts the shim and waits for its report. The signals that the caller has
/// blocked stay so in the shim: none can end it before it is ready for them.
fn launch(mut shim: Command, start: Start, session: Session) -> Result<Process, RuntimeError> {
    let (reader, writer) =
        pipe2(OFlag::O_CLOEXEC).map_err(|errno| RuntimeError::Shim(errno.into()))?;
    fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty()))
        .map_err(|errno| RuntimeError::Shim(errno.into()))?;
    let child = shim
        .arg0("netd")
        .arg("shim")
        .arg("--netns")
        .arg(start.netns)
        .arg("--run-dir")
        .arg(start.run_dir)
        .args(["--session", session.as_str()])
        .args(["--report", &writer.as_raw_fd().to_string()])
        .arg("--")
        .args(start.command)
        .spawn()
        .map_err(RuntimeError::Shim)?;
    drop(writer);
    let mut text = Vec::new();
    let read = File::from(reader).read_to_end(&mut text);
    let failure = match serde_json::from_slice(&text) {
        _ if read.is_err() => RuntimeError::ShimEnded,
        Ok(Report::Started(process)) => return Ok(process),
        Ok(Report::Exec { command, reason, code }) => RuntimeError::Exec { command, reason, code },
        Ok(Report::Failed(text)) => RuntimeError::InShim(text),
        Err(_) => RuntimeError::ShimEnded,
    };
    while waitpid(pid(child.id()), None) == Err(Errno::EINTR) {}
    Err(failure)
}
