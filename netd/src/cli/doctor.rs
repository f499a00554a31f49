//! `netd doctor`.
use super::{Context, error::Outcome};
/// Check
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
impl Args {
    pub(super) async fn run(self, _context: &Context) -> Outcome {
        Ok(std::process::ExitCode::SUCCESS)
    }
}
