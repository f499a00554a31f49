//! The plugin's socket: any method is a `POST /Driver.Method` with JSON.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request as HttpRequest, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::time::timeout;

use super::calls::{self, Driver, Said};
use crate::api::{
    Handle, Request, ServiceError,
    listener::{Listener, ServerError},
};

/// The largest body, in bytes: a container that publishes every port of TCP
/// and UDP has one of 12 MB.
pub(crate) const BODY_LIMIT: usize = 16 << 20;
/// A body is a few bytes over a local socket.
const BODY_TIME: Duration = Duration::from_secs(10);
/// What Docker asks for (`pkg/plugins/transport`).
pub(crate) const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

impl Listener {
    /// Answers Docker until `shutdown` ends, then finishes the calls in hand.
    pub async fn serve_docker(
        self,
        handle: Handle,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        self.serve_router(router(handle), shutdown).await
    }
}

fn router(handle: Handle) -> Router {
    Router::new().fallback(answer).with_state(handle)
}

async fn answer(State(agent): State<Handle>, request: HttpRequest) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let driver = Driver::of(&method);
    let refuse = |status, text: &str| reply(status, driver.error(text));
    let body = match timeout(BODY_TIME, read_body(request.into_body())).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, text))) => return refuse(status, &text),
        Err(_) => {
            let text = format!("the request's body did not come within {BODY_TIME:?}");
            return refuse(StatusCode::REQUEST_TIMEOUT, &text);
        }
    };
    let said = match calls::read(&method, &body) {
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

async fn read_body(body: Body) -> Result<Bytes, (StatusCode, String)> {
    axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if too_large {
            let text = "invalid request body: it is larger than 16 MiB".to_owned();
            (StatusCode::PAYLOAD_TOO_LARGE, text)
        } else {
            (StatusCode::BAD_REQUEST, format!("invalid request body: {error}"))
        }
    })
}

fn reply(status: StatusCode, value: Value) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], Json(value)).into_response()
}
