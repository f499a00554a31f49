//! `netd docker-relay`: the arguments, and the sockets that it is started with.

use std::{path::PathBuf, process::ExitCode};

use super::{
    block_on,
    error::{Failure, Outcome},
};
use crate::{api::relay, paths::Paths, systemd};

/// Answer Docker in the agent's place while no agent runs
///
/// It has Docker's plugin socket and hands each call to the agent, started with
/// `--docker-relay`. While no agent runs, it waits for one a moment, as long as
/// a restart takes, and then says so: dockerd itself would try for half a
/// minute, or wait for ever. It has no state, and takes its socket from systemd
/// where that gives it one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd docker-relay
  netd --root /tmp/lab docker-relay")]
pub(super) struct Args {
    /// Docker's plugin socket [default: /run/docker/plugins/netd.sock]
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,

    /// The agent's socket behind it [default: /run/netd/plugin.sock]
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let inherited = systemd::Sockets::inherited()
            .map_err(|error| Failure::new(format!("failed to take over sockets: {error}")))?
            .take(systemd::PLUGIN);
        let listen = self.listen.as_ref().unwrap_or(&paths.plugin_socket);
        let agent = self.agent.as_ref().unwrap_or(&paths.relayed_socket);
        block_on(async {
            relay::run(inherited, listen, agent)
                .await
                .map_err(|error| Failure::new(format!("{error:#}")))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
