//! `GET /v1/monitor`, the one route that does not end: a line of JSON for each
//! event, to everyone who listens for such. Whoever reads too slowly loses
//! events, and is told how many; nobody waits for him.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use netd_common::verdict::DropReason;

use super::{ServiceError, limits::Endless};
use crate::model::config::nearest;

/// A listener's end. It closes when the agent stops.
#[derive(Debug)]
pub struct Listener {
    events: broadcast::Receiver<Arc<MonitorEvent>>,
    filter: Filter,
    /// Tells, while it is there, that somebody listens for drops.
    _drops: Option<Arc<()>>,
}

impl Listener {
    pub fn new(
        events: broadcast::Receiver<Arc<MonitorEvent>>,
        filter: Filter,
        drops: Option<Arc<()>>,
    ) -> Self {
        Self { events, filter, _drops: drops }
    }

    /// The next line. `None`: there are no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.events.recv().await {
                Ok(event) if self.filter.shows(&event) => return Some(line(&event)),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    let missed = Missed { count, why: Why::SlowReader };
                    return Some(line(&MonitorEvent::Missed(missed)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The types of events, by their names.
pub const TYPES: [&str; 6] = ["drop", "container", "network", "port", "uplink", "repair"];

/// What a listener wants to see: of each key that is not empty one of its
/// words. In the query, the words of a key have commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of [`TYPES`].
    #[serde(deserialize_with = "words", rename = "type")]
    pub types: Vec<String>,
    /// Names.
    #[serde(deserialize_with = "words", rename = "container")]
    pub containers: Vec<String>,
    /// Names.
    #[serde(deserialize_with = "words", rename = "network")]
    pub networks: Vec<String>,
    /// Drop reasons; other events have none.
    #[serde(deserialize_with = "words", rename = "reason")]
    pub reasons: Vec<String>,
}

fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

impl Filter {
    /// That every type and reason is known.
    pub fn check(&self) -> Result<(), ServiceError> {
        if let Some(kind) = self.types.iter().find(|it| !TYPES.contains(&it.as_str())) {
            let known = TYPES.join(", ");
            let message = format!("unknown event type `{kind}`: one of {known} is expected");
            return Err(ServiceError::bad_request(message));
        }
        let known: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        match self.reasons.iter().find(|it| !known.contains(&it.as_str())) {
            None => Ok(()),
            Some(reason) => Err(ServiceError::bad_request(format!(
                "unknown drop reason `{reason}`: did you mean `{}`?",
                nearest(reason, &known)
            ))),
        }
    }

    /// The keys of the query, and their words.
    pub(super) fn keys(&self) -> [(&'static str, &[String]); 4] {
        [
            ("type", &self.types),
            ("container", &self.containers),
            ("network", &self.networks),
            ("reason", &self.reasons),
        ]
    }

    pub fn wants_drops(&self) -> bool {
        has(&self.types, "drop")
    }

    fn shows(&self, event: &MonitorEvent) -> bool {
        let (container, network, reason) = match event {
            // Which ones were missed is not known.
            MonitorEvent::Missed(_) => return self.wants_drops(),
            MonitorEvent::Drop(drop) => {
                (drop.container.as_deref(), drop.network.as_deref(), Some(&*drop.reason))
            }
            _ => event.life().map_or((None, None, None), |it| {
                (it.container.as_deref(), it.network.as_deref(), None)
            }),
        };
        has(&self.types, event.kind())
            && has_some(&self.containers, container)
            && has_some(&self.networks, network)
            && has_some(&self.reasons, reason)
    }
}

/// An empty list is of everything.
fn has(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|it| it == word)
}

fn has_some(list: &[String], word: Option<&str>) -> bool {
    word.map_or(list.is_empty(), |word| has(list, word))
}

/// A line of the stream. Other types may come: skip those that you don't know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum MonitorEvent {
    Drop(DropEvent),
    Missed(Missed),
    /// `create`, `start`, `exit`, `remove`.
    Container(LifeEvent),
    /// `create`, `update`, `remove`; of a container: `connect`, `disconnect`.
    Network(LifeEvent),
    /// `publish`, `unpublish`.
    Port(LifeEvent),
    /// `add`, `change`, `remove`.
    Uplink(LifeEvent),
    /// Something that was netd's was gone or changed, and is as it was.
    Repair(LifeEvent),
}

impl MonitorEvent {
    /// Of [`TYPES`], but for [`MonitorEvent::Missed`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Drop(_) => "drop",
            Self::Missed(_) => "missed",
            Self::Container(_) => "container",
            Self::Network(_) => "network",
            Self::Port(_) => "port",
            Self::Uplink(_) => "uplink",
            Self::Repair(_) => "repair",
        }
    }

    pub fn life(&self) -> Option<&LifeEvent> {
        match self {
            Self::Drop(_) | Self::Missed(_) => None,
            Self::Container(it)
            | Self::Network(it)
            | Self::Port(it)
            | Self::Uplink(it)
            | Self::Repair(it) => Some(it),
        }
    }
}

/// Something became of a thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LifeEvent {
    /// RFC 3339, UTC.
    pub time: String,
    pub action: String,
    pub container: Option<String>,
    pub network: Option<String>,
    /// An uplink's name.
    pub interface: Option<String>,
    /// What else there is to say: addresses, a port mapping, an exit code.
    pub detail: String,
}

impl LifeEvent {
    /// Of now, and of nobody yet.
    pub fn new(action: &str, detail: String) -> Self {
        Self {
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            action: action.to_owned(),
            container: None,
            network: None,
            interface: None,
            detail,
        }
    }
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
        let line = listener.next().await?;
        Some((Ok::<_, Infallible>(line), listener))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    (kind, Extension(Endless), Body::from_stream(lines)).into_response()
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
        let listener = Listener::new(listener, Filter::default(), None);
        let body = answer(listener).into_body().collect().await.unwrap().to_bytes();
        let events: Vec<MonitorEvent> = body
            .split_inclusive(|b| *b == b'\n')
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let mut expected = vec![missed(6, Why::SlowReader)];
        expected.extend((7..=10).map(|count| missed(count, Why::Sampled)));
        assert_eq!(events, expected);
    }

    fn dropped(reason: &str, container: Option<&str>, network: Option<&str>) -> MonitorEvent {
        MonitorEvent::Drop(DropEvent {
            time: String::new(),
            reason: reason.into(),
            program: "from_container".into(),
            interface: "eth0".into(),
            protocol: "tcp".into(),
            src: None,
            dst: None,
            src_port: None,
            dst_port: None,
            container: container.map(str::to_owned),
            network: network.map(str::to_owned),
            length: 60,
        })
    }

    fn filter(query: &str) -> Filter {
        let uri = format!("/v1/monitor?{query}").parse().unwrap();
        axum::extract::Query::<Filter>::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn a_filter_takes_one_word_of_each_key() {
        let web =
            LifeEvent { container: Some("web".into()), ..LifeEvent::new("start", String::new()) };
        let events = [
            dropped("isolated", Some("web"), Some("blue")),
            dropped("malformed", Some("api"), Some("blue")),
            dropped("malformed", None, None),
            MonitorEvent::Container(web),
            missed(1, Why::Sampled),
        ];
        for (query, shown) in [
            ("", "11111"),
            ("type=drop", "11101"),
            ("type=container,port", "00010"),
            ("container=web", "10011"),
            ("container=web,api&type=drop", "11001"),
            ("network=blue", "11001"),
            ("network=red", "00001"),
            ("reason=malformed,internal_network", "01101"),
            ("reason=malformed&container=web", "00001"),
        ] {
            let filter = filter(query);
            filter.check().unwrap();
            let seen = events.iter().map(|event| if filter.shows(event) { '1' } else { '0' });
            assert_eq!(seen.collect::<String>(), shown, "{query}");
        }
    }

    #[test]
    fn what_no_event_has_is_refused() {
        let error = |query| filter(query).check().unwrap_err().to_string();
        assert_eq!(
            error("type=drop,prot"),
            "unknown event type `prot`: one of drop, container, network, port, uplink, repair is \
             expected"
        );
        assert_eq!(
            error("reason=isolate"),
            "unknown drop reason `isolate`: did you mean `isolated`?"
        );
    }

    #[test]
    fn a_line_names_its_type() {
        let text = String::from_utf8(line(&missed(3, Why::Sampled)).to_vec()).unwrap();
        assert_eq!(text, "{\"Type\":\"missed\",\"Count\":3,\"Why\":\"sampled\"}\n");
    }
}
