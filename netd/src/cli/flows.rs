//! `netd flows`.

use std::process::ExitCode;

use super::{Context, error::Outcome, output};
use crate::api::types::FlowTuple;

/// Show the flows that the datapath translates
///
/// ORIGINAL is as the client sends, REPLY as the answer comes back: where they
/// differ is what was translated.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd flows
  netd flows --json | jq '[.[] | select(.Nat == \"dnat\")] | length'")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let flows = context.client.flows().await?;
        if self.json {
            output::json(&flows)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = flows.into_iter().map(|flow| {
            [
                flow.protocol,
                flow.state,
                tuple(&flow.original),
                tuple(&flow.reply),
                flow.nat,
                flow.container,
                output::age(flow.age),
                flow.packets.to_string(),
                flow.bytes.to_string(),
            ]
        });
        output::print(&output::table(
            [
                "PROTOCOL",
                "STATE",
                "ORIGINAL",
                "REPLY",
                "NAT",
                "CONTAINER",
                "AGE",
                "PACKETS",
                "BYTES",
            ],
            rows,
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tuple(tuple: &FlowTuple) -> String {
    let end = |address: &str, port| {
        if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    };
    format!("{} > {}", end(&tuple.src, tuple.src_port), end(&tuple.dst, tuple.dst_port))
}
