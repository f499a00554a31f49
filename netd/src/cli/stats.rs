//! `netd stats`.

use std::process::ExitCode;

use super::{Context, error::Outcome, output};

/// Show what each program did with its packets: verdicts, and drops by reason
///
/// Outcomes that never came are left out; --json has them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd stats
  netd stats --all
  netd stats --json | jq '[.[] | select(.Drop)]'")]
pub(super) struct Args {
    /// Show the outcomes that never came, too
    #[arg(short, long)]
    all: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let stats = context.client.stats().await?;
        if self.json {
            output::json(&stats)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = stats.into_iter().filter(|stat| self.all || stat.packets > 0).map(|stat| {
            let outcome = if stat.drop { format!("drop: {}", stat.outcome) } else { stat.outcome };
            [stat.program, outcome, stat.packets.to_string(), stat.bytes.to_string()]
        });
        output::print(&output::table(["PROGRAM", "OUTCOME", "PACKETS", "BYTES"], rows))?;
        Ok(ExitCode::SUCCESS)
    }
}
