//! `netd network prune`.

use std::process::ExitCode;

use crate::cli::{Context, error::Outcome, output};

/// Remove every network that has no endpoint, and print their names
///
/// The default network stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network prune")]
pub(in crate::cli) struct Args {}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        for name in context.client.network_prune().await?.networks_deleted {
            output::line(&name)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
