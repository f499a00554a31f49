//! What one client may take of a server: connections, bytes, time. What goes
//! beyond is answered with a reason where there is still somebody to answer,
//! and nothing of it reaches the routes.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody as _},
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header::EXPECT},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::types::ApiError;

/// Of a body that is too large, so much is still read (and forgotten), for its
/// sender to come to read the answer.
const DRAINED: u64 = 1 << 30;

/// The limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; a further one is refused with 503.
    pub connections: usize,
    /// Bytes of a request's line and headers; at least 8192.
    pub head: usize,
    /// From the connection's begin to the end of the headers.
    pub head_time: Duration,
    /// Bytes of a request's body.
    pub body: usize,
    /// From the end of the headers to the end of the body.
    pub body_time: Duration,
    /// How long a client may let an answer wait without reading any of it. An
    /// answer without an end ([`Endless`]) waits for ever.
    pub write_time: Duration,
    /// How a refusal is written, of a request to this path.
    pub refuse: fn(&str, StatusCode, &str) -> Response,
}

impl Default for Limits {
    /// Those of the control API. The largest true body, a few thousand `-p`,
    /// is far below its limit.
    fn default() -> Self {
        Self {
            connections: 256,
            head: 16 << 10,
            head_time: Duration::from_secs(10),
            body: 1 << 20,
            body_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            refuse: |_, status, why| {
                (status, Json(ApiError { message: why.to_owned(), hint: None })).into_response()
            },
        }
    }
}

/// Marks an answer that does not end, in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

enum Refused {
    TooLarge,
    Slow,
    Broken(String),
}

/// `router` behind the limits of a body: it sees whole ones only.
pub(super) fn guard(router: Router, limits: Limits) -> Router {
    router.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(limits, read))
}

async fn read(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    // One that has not been sent yet need not be.
    let drained = if parts.headers.contains_key(EXPECT) { 0 } else { DRAINED };
    let body = match timeout(limits.body_time, whole(body, limits.body, drained)).await {
        Ok(body) => body,
        Err(_) => Err(Refused::Slow),
    };
    let (status, why) = match body {
        Ok(body) => return next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(Refused::TooLarge) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("it is larger than {}", size(limits.body)))
        }
        Err(Refused::Slow) => (
            StatusCode::REQUEST_TIMEOUT,
            format!("it has not come within {} s", limits.body_time.as_secs_f32()),
        ),
        Err(Refused::Broken(why)) => (StatusCode::BAD_REQUEST, why),
    };
    (limits.refuse)(&path, status, &format!("invalid request body: {why}"))
}

/// Reads a body of at most `limit` bytes; of one that is longer, as much as is
/// to be drained.
async fn whole(mut body: Body, limit: usize, drained: u64) -> Result<Bytes, Refused> {
    let mut bytes = Vec::new();
    let mut seen = 0_u64;
    let mut fits = body.size_hint().lower() <= limit as u64;
    while (fits || seen < drained)
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| Refused::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        fits &= seen <= limit as u64;
        if fits {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
    }
    if fits { Ok(bytes.into()) } else { Err(Refused::TooLarge) }
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{bytes} B")
    }
}
