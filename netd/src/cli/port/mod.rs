//! `netd port …`.

mod add;
mod ls;
mod rm;

use super::{Context, error::Outcome, output};
use crate::api::types::PortRow;

/// Show and change published ports, on running containers too
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:
  netd port ls
  netd port add web 8443:443
  netd port rm web 8443:443")]
pub(super) enum Command {
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Add(add::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(args) => args.run(context).await,
            Self::Add(args) => args.run(context).await,
            Self::Rm(args) => args.run(context).await,
        }
    }
}

fn table(ports: Vec<PortRow>) -> String {
    let rows = ports.into_iter().map(|port| {
        let host = if port.host_ip.contains(':') {
            format!("[{}]:{}", port.host_ip, port.host_port)
        } else {
            format!("{}:{}", port.host_ip, port.host_port)
        };
        let from = if port.from.is_empty() { "any".to_owned() } else { port.from.join(", ") };
        [
            port.container,
            port.network,
            host,
            format!("{}/{}", port.container_port, port.protocol),
            from,
        ]
    });
    output::table(["CONTAINER", "NETWORK", "HOST", "PORT", "FROM"], rows)
}
