//! `netd ps`.

use std::process::ExitCode;

use super::{Context, error::Outcome, output};

/// Characters of a command that the table shows.
const COMMAND: usize = 30;

/// List the running containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd ps
  netd ps -a --json | jq -r '.[] | select(.State == \"exited\").Name'")]
pub(super) struct Args {
    /// Those that don't run, too
    #[arg(short, long)]
    all: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let containers = if self.all {
            context.client.containers_all().await?
        } else {
            context.client.containers().await?
        };
        if self.json {
            output::json(&containers)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = containers.into_iter().map(|container| {
            [
                output::short(&container.id),
                container.name,
                container.state,
                output::or_dash(container.pid.map(|pid| pid.to_string())),
                output::ellipsis(&container.command.replace(['\n', '\t'], " "), COMMAND),
                container.networks.join(", "),
                container.ports.join(", "),
            ]
        });
        output::print(&output::table(
            ["CONTAINER ID", "NAME", "STATE", "PID", "COMMAND", "NETWORKS", "PORTS"],
            rows,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
