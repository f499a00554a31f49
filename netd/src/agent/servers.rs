//! The agent's ways in: its control socket, Docker's plugin socket, and the
//! address of its metrics.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    api::{Handle, metrics, server::Listener},
    cli::agent::Options,
    model::Config,
    systemd,
};

/// How long requests in hand may take when the agent ends.
const FINISH: Duration = Duration::from_secs(2);

/// Listening; whoever connects waits until they serve.
pub(super) struct Bound {
    control: Listener,
    plugin: Option<Listener>,
    metrics: Option<metrics::Server>,
}

/// Serving, until dropped or ended.
pub(super) struct Serving {
    stop: watch::Sender<()>,
    servers: JoinSet<()>,
}

impl Bound {
    /// The control socket first, so that a second agent finds the first one
    /// before it takes anything. Call it within the runtime that is to serve.
    pub(super) fn new(
        options: &Options,
        config: &Config,
        mut inherited: systemd::Sockets,
    ) -> anyhow::Result<Self> {
        let mut listen = |name, path: &Path| -> anyhow::Result<_> {
            Ok(match inherited.take(name) {
                Some(socket) => Listener::inherit(socket)?,
                None => Listener::bind(path)?,
            })
        };
        let control = listen(systemd::CONTROL, &options.paths.socket)?;
        let metrics = config.metrics_address.map(|address| {
            let server = metrics::Server::bind(address);
            server.with_context(|| format!("failed to listen on {address} for metrics"))
        });
        let metrics = metrics.transpose()?;
        let plugin = config.docker_plugin.resolve(&options.paths.plugin_socket);
        let plugin = plugin.map(|path| listen(systemd::PLUGIN, &path)).transpose()?;
        Ok(Self { control, plugin, metrics })
    }

    pub(super) fn serve(self, handle: Handle, on: &Runtime) -> Serving {
        let (stop, stopped) = watch::channel(());
        let stopped = || until_closed(stopped.clone());
        let mut servers = JoinSet::new();
        let on = on.handle();
        if let Some(metrics) = self.metrics {
            servers.spawn_on(metrics.serve(handle.clone(), stopped()), on);
        }
        if let Some(plugin) = self.plugin {
            servers.spawn_on(plugin.serve_docker(handle.clone(), stopped()), on);
        }
        servers.spawn_on(self.control.serve(handle, stopped()), on);
        Serving { stop, servers }
    }
}

impl Serving {
    /// Answers what was asked, and no more.
    pub(super) async fn finish(self) {
        drop(self.stop);
        let _ = tokio::time::timeout(FINISH, self.servers.join_all()).await;
    }
}

/// The other end was dropped.
async fn until_closed(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}
