//! `netd flows`.

mod follow;

use std::{process::ExitCode, time::Duration};

use super::{Context, error::Outcome, output, watch};
use crate::api::types::{FlowRow, FlowTuple};

/// Show the flows that the datapath translates
///
/// ORIGINAL is as the client sends, REPLY as the answer comes back: where they
/// differ is what was translated. With --follow, those that are there come
/// first; then each that begins (new), changes its state (update) or is
/// forgotten (end), until it is interrupted. A flow that begins and is forgotten
/// between two looks is not seen.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd flows
  netd flows --follow --container web
  netd flows --json | jq '[.[] | select(.Nat == \"dnat\")] | length'
  netd flows --follow --json | jq -r 'select(.Event == \"new\") | .Original.Src'")]
pub(super) struct Args {
    /// Go on, with what changes
    #[arg(short, long)]
    follow: bool,

    /// Only the flows of this container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Between two looks, with --follow
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "1",
        value_parser = watch::seconds,
        requires = "follow"
    )]
    interval: Duration,

    /// Print JSON; with --follow, an object a line
    #[arg(long)]
    json: bool,
}

const HEADERS: [&str; 9] =
    ["PROTOCOL", "STATE", "ORIGINAL", "REPLY", "NAT", "CONTAINER", "AGE", "PACKETS", "BYTES"];

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        if self.follow {
            return follow::run(&self, context).await;
        }
        let flows = self.flows(context).await?;
        if self.json {
            output::json(&flows)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::print(&output::table(HEADERS, flows.into_iter().map(row)))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn flows(&self, context: &Context) -> Result<Vec<FlowRow>, super::error::Failure> {
        let mut flows = context.client.flows().await?;
        if let Some(name) = &self.container {
            flows.retain(|flow| flow.container == *name);
        }
        Ok(flows)
    }
}

fn row(flow: FlowRow) -> [String; 9] {
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
