//! What the relay says by itself.

use axum::{
    Json,
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use crate::api::docker::{
    calls::{self, Driver, Said},
    server::CONTENT_TYPE,
};

/// The answers that never change. dockerd asks for the capabilities once, at
/// the first use of the driver, and gives the driver up until its own restart
/// when that fails (moby, `daemon/libnetwork/drivers/remote/driver.go`).
pub(super) fn constant(method: &str) -> Option<Response> {
    match calls::read(method, b"") {
        Some(Ok(Said::Constant(value))) => Some(reply(&value)),
        _ => None,
    }
}

/// Docker shows the text of an answer under its driver's own key, and not that
/// of a failed request: so it is 200.
pub(super) fn error(method: &str, text: &str) -> Response {
    reply(&Driver::of(method).error(text))
}

fn reply(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], Json(value)).into_response()
}
