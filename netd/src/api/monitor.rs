//! `GET /v1/monitor`, the one route that does not end: a line of JSON for each
//! event, to everyone who listens. Whoever reads too slowly loses events, and
//! is told how many; nobody waits for him.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// A listener's end. It closes when the agent stops.
pub type Listener = broadcast::Receiver<Arc<MonitorEvent>>;

/// A line of the stream. Other types may come: skip those that you don't know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "nearly all are drops")]
pub enum MonitorEvent {
    Drop(DropEvent),
    Missed(Missed),
}

/// A packet was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DropEvent {
    /// RFC 3339, UTC.
    pub time: String,
    /// As in `netd stats`.
    pub reason: String,
    /// `from_container`, …: the direction.
    pub program: String,
    /// The link that the program runs on.
    pub interface: String,
    /// `tcp`, …, an IP protocol's number, or an ethertype (`arp`, `0x88cc`).
    pub protocol: String,
    pub src: Option<String>,
    pub dst: Option<String>,
    pub src_port: Option<u16>,
    pub dst_port: Option<u16>,
    /// The container that sent it, or that it was meant for.
    pub container: Option<String>,
    pub network: Option<String>,
    /// Bytes of the frame.
    pub length: u32,
}

/// Drops that no line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Missed {
    pub count: u64,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There were more than the datapath tells of in a second.
    Sampled,
    /// This listener reads more slowly than they come.
    SlowReader,
}

/// The lines that `listener` will hear.
pub(super) fn answer(listener: Listener) -> Response {
    let lines = stream::unfold(listener, |mut listener| async {
        let line = match listener.recv().await {
            Ok(event) => line(&event),
            Err(RecvError::Lagged(count)) => {
                line(&MonitorEvent::Missed(Missed { count, why: Why::SlowReader }))
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(line), listener))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(event: &MonitorEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("an event has string keys only");
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn missed(count: u64, why: Why) -> MonitorEvent {
        MonitorEvent::Missed(Missed { count, why })
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_lost_and_the_end_ends_the_stream() {
        let (sender, listener) = broadcast::channel(4);
        for count in 1..=10 {
            sender.send(Arc::new(missed(count, Why::Sampled))).unwrap();
        }
        drop(sender);
        let body = answer(listener).into_body().collect().await.unwrap().to_bytes();
        let events: Vec<MonitorEvent> = body
            .split_inclusive(|b| *b == b'\n')
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let mut expected = vec![missed(6, Why::SlowReader)];
        expected.extend((7..=10).map(|count| missed(count, Why::Sampled)));
        assert_eq!(events, expected);
    }

    #[test]
    fn a_line_names_its_type() {
        let text = String::from_utf8(line(&missed(3, Why::Sampled)).to_vec()).unwrap();
        assert_eq!(text, "{\"Type\":\"missed\",\"Count\":3,\"Why\":\"sampled\"}\n");
    }
}
