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
  netd network connect --ip 172.18.0.20 --ip6 fd00:db8::20 blue web")]
pub(in crate::cli) struct Args {
    /// Network: name or id
    #[arg(value_name = "NET")]
    network: String,

    /// Container: name or id
    #[arg(value_name = "CTR")]
    container: String,

    /// IPv4 address in the network [default: a free one]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    ip: Option<String>,

    /// IPv6 address in the network [default: a free one]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    ip6: Option<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Connect { container: self.container, ip: self.ip, ip6: self.ip6 };
        context.client.network_connect(&self.network, &body).await?;
        Ok(ExitCode::SUCCESS)
    }
}
