//! `netd ipam`.

use std::process::ExitCode;

use super::{Context, error::Outcome, output};

/// Show every address that is taken, by whom, and when it was last used
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd ipam
  netd ipam --json | jq -r '.[] | select(.LastSeen == null).Address'")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let leases = context.client.ipam().await?;
        if self.json {
            output::json(&leases)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = leases.into_iter().map(|lease| {
            [
                lease.network,
                lease.subnet,
                lease.address,
                lease.owner,
                output::or_dash(lease.mac),
                output::or_dash(
                    lease.last_seen.map(|seconds| format!("{} ago", output::age(seconds))),
                ),
            ]
        });
        output::print(&output::table(
            ["NETWORK", "SUBNET", "ADDRESS", "OWNER", "MAC", "LAST SEEN"],
            rows,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
