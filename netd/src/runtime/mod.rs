//! Processes in a container's namespace. A container's command runs under a
//! shim, `netd shim`, which outlives the command line and needs no agent:
//!
//! ```text
//! netd run ── spawn ──▶ netd shim ── spawn ──▶ CMD
//!      ◀── report (pipe): its pid, or why not ──┘
//! ```
//!
//! It owns the files of a container's run directory ([`files`]). It must not
//! know the API, networks or the agent: it is given a namespace, a directory
//! and a command.

pub mod exec;
pub mod files;
pub mod shim;
mod signals;
pub mod spawn;
mod sys;

use std::{ffi::OsStr, fs::File, io, path::Path, path::PathBuf};

use nix::sched::{CloneFlags, setns};

/// The exit code of a command that wasn't found, as shells and Docker say it.
pub const NOT_FOUND: u8 = 127;
/// The exit code of a command that can't be executed.
pub const NOT_EXECUTABLE: u8 = 126;

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("exec: \"{command}\": {reason}")]
    Exec {
        command: String,
        reason: String,
        /// [`NOT_FOUND`] or [`NOT_EXECUTABLE`].
        code: u8,
    },
    #[error("failed to enter the network namespace {}", path.display())]
    Namespace { path: PathBuf, source: io::Error },
    #[error("failed to write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("failed to start the container's shim")]
    Shim(#[source] io::Error),
    /// Text of an error in the shim, which is another process.
    #[error("{0}")]
    InShim(String),
    #[error("the container's shim ended before it started the command")]
    ShimEnded,
    #[error("failed to set up signals")]
    Signals(#[source] io::Error),
}

impl RuntimeError {
    /// What the command line exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { code, .. } => *code,
            _ => 1,
        }
    }

    /// Names what `execvp` refused in Docker's and the shells' words.
    fn exec(command: &OsStr, error: &io::Error) -> Self {
        let (reason, code) = match error.raw_os_error() {
            Some(libc::ENOENT) if !command.as_encoded_bytes().contains(&b'/') => {
                ("executable file not found in $PATH".to_owned(), NOT_FOUND)
            }
            Some(libc::ENOENT) => ("no such file or directory".to_owned(), NOT_FOUND),
            Some(libc::EACCES) => ("permission denied".to_owned(), NOT_EXECUTABLE),
            Some(libc::ENOEXEC) => ("exec format error".to_owned(), NOT_EXECUTABLE),
            _ => (error.to_string(), NOT_EXECUTABLE),
        };
        Self::Exec { command: command.to_string_lossy().into_owned(), reason, code }
    }
}

/// Moves this thread, and what it starts from now on, into the network
/// namespace of the file `path`.
fn enter(path: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::Namespace { path: path.to_owned(), source };
    let namespace = File::open(path).map_err(failed)?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}
