//! `netd network …`.

mod connect;
mod create;
mod disconnect;
mod inspect;
mod ls;
mod prune;
mod rm;

use super::{Context, error::Outcome};

/// Make, show and remove networks; connect containers to them
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:
  netd network create blue
  netd network ls
  netd network connect blue web")]
pub(super) enum Command {
    Create(create::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Inspect(inspect::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Prune(prune::Args),
    Connect(connect::Args),
    Disconnect(disconnect::Args),
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => args.run(context).await,
            Self::Ls(args) => args.run(context).await,
            Self::Inspect(args) => args.run(context).await,
            Self::Rm(args) => args.run(context).await,
            Self::Prune(args) => args.run(context).await,
            Self::Connect(args) => args.run(context).await,
            Self::Disconnect(args) => args.run(context).await,
        }
    }
}
