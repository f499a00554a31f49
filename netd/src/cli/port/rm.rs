//! `netd port rm`.

use std::process::ExitCode;

use crate::{
    api::types::Ports,
    cli::{Context, error::Outcome, parse},
};

/// Take back published ports of a running container
///
/// Their flows end. All or none: if one is not published, nothing has changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd port rm web 8080:80
  netd port rm web 127.0.0.1:5353:53/udp")]
pub(in crate::cli) struct Args {
    /// Container: name or id
    name: String,

    /// As they were published
    #[arg(required = true, value_name = "SPEC", value_parser = parse::port_spec)]
    specs: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Ports { specs: self.specs };
        context.client.port_remove(&self.name, &body).await?;
        Ok(ExitCode::SUCCESS)
    }
}
