//! `netd exec`.

use super::{
    Context,
    error::{Failure, Outcome},
};
use crate::runtime::{self, RuntimeError};

/// Run one more command in a running container's network
///
/// It takes netd's place: terminal, signals and exit code are its own. 127
/// when there is no such command, 126 when it can't be executed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd exec web -- ip addr
  netd exec web -- sh")]
pub(super) struct Args {
    /// Name or id
    name: String,

    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let sandbox = context.client.container_sandbox(&self.name).await?;
        match runtime::exec::exec(&sandbox.netns, &self.command) {
            RuntimeError::Namespace { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Err(Failure::new(format!("container {} is not running", sandbox.name)))
            }
            error => Err(error.into()),
        }
    }
}
