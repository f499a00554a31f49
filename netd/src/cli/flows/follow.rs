//! `netd flows --follow`: what is different from one look to the next.

use std::{collections::BTreeMap, process::ExitCode};

use jiff::{Timestamp, Zoned};
use serde::Serialize;

use super::{Args, tuple};
use crate::{
    api::types::FlowRow,
    cli::{Context, error::Outcome, output, watch::Watch},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    /// It was there at the first look.
    Exists,
    New,
    /// Its state is another.
    Update,
    /// It is there no more; its counters are those that were last seen.
    End,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::New => "new",
            Self::Update => "update",
            Self::End => "end",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    event: Event,
    #[serde(flatten)]
    flow: &'a FlowRow,
}

/// A flow is known by its protocol and its opener's tuple.
type Key = (String, String);

#[derive(Default)]
struct Known {
    flows: BTreeMap<Key, FlowRow>,
    looked: bool,
}

impl Known {
    /// What `now` has that was not there, what is not there any more, and what
    /// has changed.
    fn look(&mut self, now: Vec<FlowRow>) -> Vec<(Event, FlowRow)> {
        let come = if self.looked { Event::New } else { Event::Exists };
        self.looked = true;
        let mut before = std::mem::take(&mut self.flows);
        let mut events = vec![];
        for flow in now {
            let key = (flow.protocol.clone(), tuple(&flow.original));
            match before.remove(&key) {
                None => events.push((come, flow.clone())),
                // Another one, with the same tuple: a flow's counters only grow.
                Some(old) if old.packets > flow.packets || old.reply != flow.reply => {
                    events.extend([(Event::End, old), (Event::New, flow.clone())]);
                }
                Some(old) if old.state != flow.state => events.push((Event::Update, flow.clone())),
                Some(_) => {}
            }
            self.flows.insert(key, flow);
        }
        let ended = before.into_values().map(|flow| (Event::End, flow));
        ended.chain(events).collect()
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Outcome {
    let mut watch = Watch::new(args.interval)?;
    let mut known = Known::default();
    if !args.json {
        output::line(&columns([
            "TIME",
            "EVENT",
            "PROTOCOL",
            "STATE",
            "ORIGINAL",
            "REPLY",
            "NAT",
            "CONTAINER",
            "PACKETS",
            "BYTES",
        ]))?;
    }
    while watch.next().await {
        let flows = args.flows(context).await?;
        let (now, utc) = (Zoned::now(), Timestamp::now());
        for (event, flow) in known.look(flows) {
            if args.json {
                let time = utc.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
                let line = serde_json::to_string(&Line { time, event, flow: &flow });
                output::line(&line.expect("a flow is JSON"))?;
            } else {
                output::line(&text(&now.strftime("%H:%M:%S%.3f").to_string(), event, &flow))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(time: &str, event: Event, flow: &FlowRow) -> String {
    columns([
        time,
        event.name(),
        &flow.protocol,
        &flow.state,
        &tuple(&flow.original),
        &tuple(&flow.reply),
        &flow.nat,
        &flow.container,
        &flow.packets.to_string(),
        &flow.bytes.to_string(),
    ])
}

/// Of fixed widths: the next line is not known yet.
fn columns(
    [time, event, protocol, state, original, reply, nat, container, packets, bytes]: [&str; 10],
) -> String {
    let line = format!(
        "{time:<12}   {event:<6}   {protocol:<8}   {state:<11}   {original:<37}   {reply:<37}   \
         {nat:<7}   {container:<15}   {packets:<7}   {bytes}"
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::FlowTuple;

    fn flow(port: u16, state: &str, packets: u64) -> FlowRow {
        let end = |src: &str, src_port, dst: &str, dst_port| FlowTuple {
            src: src.into(),
            dst: dst.into(),
            src_port,
            dst_port,
        };
        FlowRow {
            protocol: "tcp".into(),
            state: state.into(),
            original: end("192.0.2.7", port, "192.0.2.1", 8080),
            reply: end("172.18.0.2", 80, "192.0.2.7", port),
            nat: "dnat".into(),
            container: "web".into(),
            age: 0,
            packets,
            bytes: packets * 100,
        }
    }

    fn seen(known: &mut Known, now: &[FlowRow]) -> Vec<String> {
        let events = known.look(now.to_vec()).into_iter();
        events
            .map(|(event, it)| format!("{} {} {}", event.name(), it.original.src_port, it.packets))
            .collect()
    }

    #[test]
    fn a_flow_begins_changes_and_ends() {
        let mut known = Known::default();
        let (one, two) = (flow(1, "ESTABLISHED", 5), flow(2, "SYN_SENT", 1));
        assert_eq!(seen(&mut known, std::slice::from_ref(&one)), ["exists 1 5"]);
        assert_eq!(seen(&mut known, &[one.clone(), two]), ["new 2 1"]);
        let two = flow(2, "ESTABLISHED", 4);
        assert_eq!(seen(&mut known, &[one, two.clone()]), ["update 2 4"]);
        assert_eq!(seen(&mut known, std::slice::from_ref(&two)), ["end 1 5"]);
        assert_eq!(seen(&mut known, &[two]), [""; 0]);
    }

    #[test]
    fn another_flow_with_the_same_tuple_is_told_from_the_first() {
        let mut known = Known::default();
        seen(&mut known, &[flow(1, "CLOSING", 9)]);
        assert_eq!(seen(&mut known, &[flow(1, "SYN_SENT", 1)]), ["end 1 9", "new 1 1"]);
    }

    #[test]
    fn a_line_has_all_of_it() {
        assert_eq!(
            text("now", Event::New, &flow(40000, "SYN_SENT", 1)),
            "now            new      tcp        SYN_SENT      192.0.2.7:40000 > 192.0.2.1:8080        \
             172.18.0.2:80 > 192.0.2.7:40000         dnat      web               1         100"
        );
    }
}
