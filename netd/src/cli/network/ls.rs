//! `netd network ls`.

use std::process::ExitCode;

use crate::cli::{Context, error::Outcome, output};

/// List the networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network ls
  netd network ls --json | jq -r '.[].Subnets[]'")]
pub(in crate::cli) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let networks = context.client.networks().await?;
        if self.json {
            output::json(&networks)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = networks.into_iter().map(|network| {
            [
                output::short(&network.id),
                network.name,
                network.driver,
                network.scope,
                network.subnets.join(", "),
            ]
        });
        output::print(&output::table(["NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS"], rows))?;
        Ok(ExitCode::SUCCESS)
    }
}
