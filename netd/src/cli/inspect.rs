//! `netd inspect`.

use super::{Context, error::Outcome, output};

/// Show containers in full, as JSON in the shape of `docker inspect`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd inspect web
  netd inspect web | jq -r '.[0].NetworkSettings.Networks[].IPAddress'")]
pub(super) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Print JSON, as it does anyway
    #[arg(long, hide = true)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let (containers, code) = context
            .for_each(&self.names, async |name| Ok(context.client.container_inspect(name).await?))
            .await?;
        output::json(&containers)?;
        Ok(code)
    }
}
