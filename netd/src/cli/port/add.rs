//! `netd port add`.

use std::process::ExitCode;

use crate::{
    api::types::Ports,
    cli::{Context, error::Outcome, output, parse},
};

/// Publish ports of a running container, and show where
///
/// All or none: if one is refused, nothing has changed.
///
/// A port that is published already gets the SPEC's sources instead of its
/// own: connections from those go on, others end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd port add web 8080:80
  netd port add web 127.0.0.1:5353:53/udp 8443:443
  netd port add web 8443:443,from=10.0.0.0/8,from=2001:db8::/32")]
pub(in crate::cli) struct Args {
    /// Container: name or id
    name: String,

    /// As `netd run -p`. With from=, only those sources reach the port, and
    /// nobody of a family that no from= is of; without, everyone does
    #[arg(required = true, value_name = "SPEC", value_parser = parse::port_spec)]
    specs: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Ports { specs: self.specs };
        let ports = context.client.port_add(&self.name, &body).await?;
        if self.json {
            output::json(&ports)?;
        } else {
            output::print(&super::table(ports))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
