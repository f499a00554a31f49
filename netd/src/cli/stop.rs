//! `netd stop`.

use super::{Context, error::Outcome, output};
use crate::api::types::Stop;

/// Stop containers: SIGTERM, and SIGKILL if that takes too long
///
/// A stopped container has released its address and ports. It and its log stay
/// until `netd rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd stop web
  netd stop -t 1 web client")]
pub(super) struct Args {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, alias = "time")]
    timeout: u32,

    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let body = Stop { timeout: self.timeout };
        let (_, code) = context
            .for_each(&self.names, async |name| {
                context.client.container_stop(name, &body).await?;
                Ok(output::line(name)?)
            })
            .await?;
        Ok(code)
    }
}
