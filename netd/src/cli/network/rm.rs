//! `netd network rm`.

use crate::cli::{Context, error::Outcome, output};

/// Remove networks
///
/// A network with endpoints, or the default one, is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network rm blue
  netd network rm blue green")]
pub(in crate::cli) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (_, code) = context
            .for_each(&self.names, async |name| {
                context.client.network_remove(name).await?;
                Ok(output::line(name)?)
            })
            .await?;
        Ok(code)
    }
}
