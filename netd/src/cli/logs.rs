//! `netd logs`.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use super::{
    Context,
    error::{Failure, Outcome},
};
use crate::runtime::files::{RunDir, is_running};

/// How soon `-f` sees what was written.
const POLL: Duration = Duration::from_millis(100);

/// Show what a detached container's command has written
///
/// stdout and stderr come as they were written, in one stream.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd logs web
  netd logs -f web")]
pub(super) struct Args {
    /// Stay, and show what comes, until the command ends
    #[arg(short, long)]
    follow: bool,

    /// Name or id
    name: String,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let sandbox = context.client.container_sandbox(&self.name).await?;
        let run_dir = RunDir(&sandbox.run_dir);
        let mut log = File::open(run_dir.log()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(format!("container {} has no log", sandbox.name))
                    .with_hint("only containers that were started with `netd run -d` have one")
            }
            _ => Failure::new(format!("failed to read {}: {error}", run_dir.log().display())),
        })?;
        loop {
            // Asked before reading: what is written until the end is seen.
            let running = run_dir.read_process().is_some_and(|process| is_running(&process));
            copy(&mut log)?;
            if !self.follow || !running {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Copies the rest of the log to stdout.
fn copy(log: &mut File) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = log
            .read(&mut buffer)
            .map_err(|error| Failure::new(format!("failed to read the log: {error}")))?;
        if count == 0 {
            return Ok(out.flush()?);
        }
        out.write_all(&buffer[..count])?;
    }
}
