//! `netd network connect`.

use std::process::ExitCode;

use crate::{
    api::types::Connect,
    cli::{Context, error::Outcome, parse},
};

/// Connect a running container to one more network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd network connect blue web
  netd network connect --ip 172.18.0.20 blue web")]
pub(in crate::cli) struct Args {
    /// Network: name or id
    #[arg(value_name = "NET")]
    network: String,

    /// Container: name or id
    #[arg(value_name = "CTR")]
    container: String,

    /// Address in the network [default: a free one]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    ip: Option<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Connect { container: self.container, ip: self.ip };
        context.client.network_connect(&self.network, &body).await?;
        Ok(ExitCode::SUCCESS)
    }
}
