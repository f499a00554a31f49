//! The plugin's socket: any method is a `POST /Driver.Method` with JSON.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::calls::{self, Driver, Said};
use crate::api::{Handle, Request, ServiceError, limits::Limits, listener::Listener};

/// The largest body, in bytes: a container that publishes every port of TCP
/// and UDP has one of 12 MB.
const BODY_LIMIT: usize = 16 << 20;
/// What Docker asks for (`pkg/plugins/transport`).
pub(crate) const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

impl Listener {
    /// Answers Docker until `shutdown` ends, then finishes the calls in hand.
    pub async fn serve_docker(
        self,
        handle: Handle,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        self.serve_router(router(handle), limits(), shutdown).await;
    }
}

/// Of whoever speaks to Docker.
pub(crate) fn limits() -> Limits {
    Limits { body: BODY_LIMIT, refuse, ..Limits::default() }
}

fn router(handle: Handle) -> Router {
    Router::new().fallback(answer).with_state(handle)
}

/// What never came to be a call.
fn refuse(path: &str, status: StatusCode, why: &str) -> Response {
    reply(status, Driver::of(method(path)).error(why))
}

fn method(path: &str) -> &str {
    path.trim_start_matches('/')
}

async fn answer(State(agent): State<Handle>, uri: Uri, body: Bytes) -> Response {
    let method = method(uri.path());
    let driver = Driver::of(method);
    let refuse = |status, text: &str| reply(status, driver.error(text));
    let said = match calls::read(method, &body) {
        Some(Ok(said)) => said,
        Some(Err(error)) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("invalid request body: {error}"));
        }
        None => return refuse(StatusCode::NOT_FOUND, &format!("netd has no method {method}")),
    };
    match said {
        Said::Constant(value) => reply(StatusCode::OK, value),
        Said::Call(call) => match agent.call(|to| Request::Docker(Box::new(call), to)).await {
            Ok(value) => reply(StatusCode::OK, value),
            // Docker shows the text of an answer, but not that of a failure.
            Err(error) => refuse(StatusCode::OK, &text(&error)),
        },
    }
}

/// One line: Docker has no other place for a hint.
fn text(error: &ServiceError) -> String {
    match &error.hint {
        None => error.message.clone(),
        Some(hint) => format!("{} ({hint})", error.message),
    }
}

fn reply(status: StatusCode, value: Value) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], Json(value)).into_response()
}
