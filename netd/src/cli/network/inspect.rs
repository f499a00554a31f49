//! `netd network inspect`.

use crate::cli::{Context, error::Outcome, output};

/// Show networks in full, as JSON in the shape of `docker network inspect`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network inspect bridge
  netd network inspect blue | jq -r '.[0].Containers[].IPv4Address'")]
pub(in crate::cli) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Print JSON, as it does anyway
    #[arg(long, hide = true)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (networks, code) = context
            .for_each(&self.names, async |name| Ok(context.client.network_inspect(name).await?))
            .await?;
        output::json(&networks)?;
        Ok(code)
    }
}
