//! `netd shim`: what `netd run` starts. Not for people.

use std::{os::fd::RawFd, path::PathBuf, process::ExitCode};

use crate::runtime::shim::{Session, Shim};

/// Supervise a container's command (started by `netd run`)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd shim --netns /proc/self/ns/net --run-dir /tmp/x --session piped -- true")]
pub(super) struct Args {
    /// Network namespace to enter
    #[arg(long, value_name = "FILE")]
    netns: PathBuf,

    /// Where `pid` and `exit` are written
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,

    #[arg(long)]
    session: Session,

    /// Descriptor to report on
    #[arg(long, value_name = "FD")]
    report: Option<RawFd>,

    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let reports = self.report.is_some();
        let shim = Shim {
            netns: self.netns,
            run_dir: self.run_dir,
            session: self.session,
            report: self.report,
            command: self.command,
        };
        match shim.run() {
            Ok(code) => ExitCode::from(code),
            // The starter has it from the report, and prints it.
            Err(error) if reports => ExitCode::from(error.exit_code()),
            Err(error) => super::Failure::from(error).report(None),
        }
    }
}
