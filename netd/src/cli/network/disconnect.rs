//! `netd network disconnect`.

use std::process::ExitCode;

use crate::{
    api::types::Connect,
    cli::{Context, error::Outcome},
};

/// Disconnect a container from a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network disconnect blue web")]
pub(in crate::cli) struct Args {
    /// Network: name or id
    #[arg(value_name = "NET")]
    network: String,

    /// Container: name or id
    #[arg(value_name = "CTR")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Connect { container: self.container, ..Connect::default() };
        context.client.network_disconnect(&self.network, &body).await?;
        Ok(ExitCode::SUCCESS)
    }
}
