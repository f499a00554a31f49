//! `netd rm`.

use super::{Context, error::Outcome, output};

/// Remove containers, and their logs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd rm web
  netd rm -f web client")]
pub(super) struct Args {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,

    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (_, code) = context
            .for_each(&self.names, async |name| {
                if self.force {
                    context.client.container_remove_force(name).await?;
                } else {
                    context.client.container_remove(name).await?;
                }
                Ok(output::line(name)?)
            })
            .await?;
        Ok(code)
    }
}
