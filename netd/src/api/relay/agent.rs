//! The way to the agent: a connection for each call, so that an agent that was
//! restarted in between is no special case.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request, Uri, header},
    response::Response,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use crate::api::exchange::exchange;

/// Between two looks for an agent that has gone.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("netd's agent is not running (no answer at {}): `systemctl status netd` says why", .0.display())]
    Away(PathBuf),
    #[error("failed to reach netd's agent: {0}")]
    Unreachable(#[source] io::Error),
    /// What it did of the call is undone, or stays, by its journal.
    #[error("netd's agent ended before it answered; try again")]
    Ended(#[source] hyper::Error),
    #[error("netd's agent gave no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

#[derive(Debug)]
pub(super) struct Agent {
    socket: PathBuf,
    grace: Duration,
    patience: Duration,
    away: Mutex<Option<Away>>,
}

/// The agent is gone.
#[derive(Clone, Copy, Debug)]
struct Away {
    since: Instant,
    /// When somebody last looked. After a while without, it may have been here.
    seen: Instant,
}

impl Agent {
    /// `grace` is how long calls wait for it from when it is first found gone,
    /// all of them together; `patience` how long it may take for a call.
    pub(super) fn new(socket: &Path, grace: Duration, patience: Duration) -> Self {
        Self { socket: socket.to_owned(), grace, patience, away: Mutex::default() }
    }

    /// The agent's own answer. Nothing is asked twice: a call that has been
    /// sent may have been carried out.
    pub(super) async fn ask(
        &self,
        method: Method,
        uri: Uri,
        body: Bytes,
    ) -> Result<Response, AgentError> {
        let stream = self.connect().await?;
        timeout(self.patience, ask(stream, method, uri, body))
            .await
            .map_err(|_| AgentError::Silent(self.patience))?
            .map_err(AgentError::Ended)
    }

    async fn connect(&self) -> Result<UnixStream, AgentError> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    self.found();
                    return Ok(stream);
                }
                Err(error) if is_away(&error) => {
                    if self.missed(Instant::now()) >= self.grace {
                        return Err(AgentError::Away(self.socket.clone()));
                    }
                    sleep(LOOK).await;
                }
                Err(error) => return Err(AgentError::Unreachable(error)),
            }
        }
    }

    fn found(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that it is gone; since how long.
    pub(super) fn missed(&self, now: Instant) -> Duration {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let since = away.filter(|away| now - away.seen < self.grace).map_or(now, |it| it.since);
        *away = Some(Away { since, seen: now });
        now - since
    }
}

/// Nobody listens, or there is no socket.
fn is_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn ask(stream: UnixStream, method: Method, uri: Uri, body: Bytes) -> hyper::Result<Response> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let host = header::HeaderValue::from_static("netd");
    request.headers_mut().insert(header::HOST, host);
    let (answer, _driver) = exchange(stream, request).await?;
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::from(body.collect().await?.to_bytes()));
    *response.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}
