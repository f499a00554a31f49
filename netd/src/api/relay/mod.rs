//! Docker's plugin socket while the agent comes and goes. A call is handed to
//! the agent as it is; what never changes, and the news that no agent runs, are
//! told here. So dockerd, which has no time limit of its own and tries a closed
//! socket for 30 s (moby, `pkg/plugins/client.go`), is never kept waiting.

mod agent;
mod answer;

use std::{os::unix::net::UnixListener, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, Uri},
    response::Response,
};
use tokio::signal::unix::{SignalKind, signal};

use self::agent::Agent;
use super::{docker::server, server::Listener};
use crate::systemd;

/// How long calls wait for an agent that has gone: a restart takes less than
/// two seconds.
const GRACE: Duration = Duration::from_secs(3);
/// How long the agent may take for a call.
const PATIENCE: Duration = Duration::from_secs(120);

/// Relays from `inherited`, or else from a socket at `listen`, to the agent's
/// at `agent`, until SIGTERM or SIGINT.
pub async fn run(
    inherited: Option<UnixListener>,
    listen: &Path,
    agent: &Path,
) -> anyhow::Result<()> {
    let listener = match inherited {
        Some(socket) => Listener::inherit(socket).context("failed to take over a socket")?,
        None => Listener::bind(listen)?,
    };
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    systemd::ready(&format!("relays to {}", agent.display()));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        systemd::stopping();
    };
    let router = router(Agent::new(agent, GRACE, PATIENCE));
    listener.serve_router(router, server::limits(), stop).await;
    Ok(())
}

fn router(agent: Agent) -> Router {
    Router::new().fallback(relay).with_state(Arc::new(agent))
}

async fn relay(State(agent): State<Arc<Agent>>, verb: Method, uri: Uri, body: Bytes) -> Response {
    let method = uri.path().trim_start_matches('/').to_owned();
    if let Some(constant) = answer::constant(&method) {
        return constant;
    }
    match agent.ask(verb, uri, body).await {
        Ok(answer) => answer,
        Err(error) => answer::error(&method, &error.to_string()),
    }
}

#[cfg(test)]
mod tests;
