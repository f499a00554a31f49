//! `netd port ls`.

use std::process::ExitCode;

use crate::cli::{Context, error::Outcome, output};

/// List the published ports
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd port ls
  netd port ls web --json | jq '.[].HostPort'")]
pub(in crate::cli) struct Args {
    /// Of this container only
    name: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let ports = context.client.ports(self.name.as_deref()).await?;
        if self.json {
            output::json(&ports)?;
        } else {
            output::print(&super::table(ports))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
