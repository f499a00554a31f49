//! `netd monitor`.

use std::{io, process::ExitCode};

use jiff::{Timestamp, tz::TimeZone};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Context,
    error::{Failure, Outcome},
    output,
    style::{self, Style},
};
use crate::api::monitor::{DropEvent, Filter, LifeEvent, Missed, MonitorEvent, TYPES, Why};

/// Show what happens, as it happens, until it is interrupted: packets that are
/// dropped, and what becomes of containers, networks, ports and uplinks
///
/// A drop's EVENT is its reason; that and WHERE are as in `netd stats`. Under
/// load, not every drop is shown; a line then says how many were not. Flags of
/// one kind widen what is shown, of different kinds narrow it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd monitor
  netd monitor --type drop --container web
  netd monitor --reason source_not_allowed,syn_rate_exceeded
  netd monitor --json | jq -r 'select(.Type == \"drop\") | .Reason + \" \" + .Src'")]
pub(super) struct Args {
    /// Only events of these types
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = TYPES)]
    types: Vec<String>,

    /// Only events of these containers, by name or id
    #[arg(short, long = "container", value_name = "NAME", value_delimiter = ',')]
    containers: Vec<String>,

    /// Only events of these networks, by name or id
    #[arg(short, long = "network", value_name = "NAME", value_delimiter = ',')]
    networks: Vec<String>,

    /// Only drops for these reasons, as `netd stats --all` names them
    #[arg(short, long = "reason", value_name = "REASON", value_delimiter = ',')]
    reasons: Vec<String>,

    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let filter = Filter {
            types: self.types,
            containers: self.containers,
            networks: self.networks,
            reasons: self.reasons,
        };
        let failed = |error: io::Error| Failure::new(format!("failed to watch signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut lines = context.client.monitor(&filter).await?;
        let style = Style::of(&io::stdout());
        if !self.json {
            output::line(&columns([
                "TIME",
                "EVENT",
                "WHERE",
                "PROTOCOL",
                "SOURCE > DESTINATION, OR DETAIL",
                "CONTAINER",
                "NETWORK",
            ]))?;
        }
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
                _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            };
            let Some(line) = line else {
                return Err(Failure::new("the agent has ended")
                    .with_hint("the datapath goes on; start the agent and this command again"));
            };
            if self.json {
                output::line(&line)?;
                continue;
            }
            // What this version doesn't know is for later ones.
            if let Ok(event) = serde_json::from_str(&line) {
                output::line(&style.paint(colour(&event), &text(&event)))?;
            }
        }
    }
}

fn colour(event: &MonitorEvent) -> &'static str {
    match event {
        MonitorEvent::Drop(_) | MonitorEvent::Missed(_) => style::PLAIN,
        MonitorEvent::Repair(_) => style::YELLOW,
        _ => style::CYAN,
    }
}

fn text(event: &MonitorEvent) -> String {
    match event {
        MonitorEvent::Drop(drop) => columns([
            &clock(&drop.time),
            &drop.reason,
            &drop.program,
            &drop.protocol,
            &journey(drop),
            drop.container.as_deref().unwrap_or("-"),
            drop.network.as_deref().unwrap_or("-"),
        ]),
        MonitorEvent::Missed(Missed { count, why: Why::Sampled }) => {
            format!("… and {count} more (sampled)")
        }
        MonitorEvent::Missed(Missed { count, why: Why::SlowReader }) => {
            format!("… and {count} more (not read in time)")
        }
        other => other.life().map_or_else(String::new, |it| life(other.kind(), it)),
    }
}

fn life(kind: &str, event: &LifeEvent) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    columns([
        &clock(&event.time),
        &format!("{kind} {}", event.action),
        &or_dash(&event.interface),
        "-",
        if event.detail.is_empty() { "-" } else { &event.detail },
        &or_dash(&event.container),
        &or_dash(&event.network),
    ])
}

/// Of fixed widths, which all but the longest names keep to: the next line is
/// not known yet.
fn columns([time, event, program, protocol, journey, container, network]: [&str; 7]) -> String {
    format!(
        "{time:<12}   {event:<20}   {program:<14}   {protocol:<8}   {journey:<37}   \
         {container:<15}   {network}"
    )
}

/// The time of day, here.
fn clock(time: &str) -> String {
    time.parse::<Timestamp>().map_or_else(
        |_| time.to_owned(),
        |time| time.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
    )
}

fn journey(drop: &DropEvent) -> String {
    let end = |address: &Option<String>, port: Option<u16>| match (address, port) {
        (None, _) => "-".to_owned(),
        (Some(address), None) => address.clone(),
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
    };
    format!("{} > {}", end(&drop.src, drop.src_port), end(&drop.dst, drop.dst_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> DropEvent {
        DropEvent {
            time: "not a time".into(),
            reason: "source_not_allowed".into(),
            program: "from_uplink".into(),
            interface: "eth0".into(),
            protocol: "tcp".into(),
            src: Some("192.0.2.7".into()),
            dst: Some("192.0.2.1".into()),
            src_port: Some(38848),
            dst_port: Some(8080),
            container: Some("web".into()),
            network: Some("blue".into()),
            length: 74,
        }
    }

    #[test]
    fn a_drop_is_a_line() {
        assert_eq!(
            text(&MonitorEvent::Drop(refused())),
            "not a time     source_not_allowed     from_uplink      tcp        \
             192.0.2.7:38848 > 192.0.2.1:8080        web               blue"
        );
    }

    #[test]
    fn a_life_is_told_in_the_same_columns() {
        let event = LifeEvent {
            time: "now".into(),
            container: Some("web".into()),
            network: Some("blue".into()),
            ..LifeEvent::new("publish", "0.0.0.0:8080->80/tcp".into())
        };
        assert_eq!(
            text(&MonitorEvent::Port(event)),
            "now            port publish           -                -          \
             0.0.0.0:8080->80/tcp                    web               blue"
        );
        let event = LifeEvent {
            time: "now".into(),
            interface: Some("eth0".into()),
            ..LifeEvent::new("remove", String::new())
        };
        assert_eq!(
            text(&MonitorEvent::Uplink(event)),
            "now            uplink remove          eth0             -          \
             -                                       -                 -"
        );
    }

    #[test]
    fn ends_have_a_port_where_there_is_one() {
        let with = |src: Option<&str>, port| {
            journey(&DropEvent { src: src.map(str::to_owned), src_port: port, ..refused() })
        };
        assert_eq!(with(None, None), "- > 192.0.2.1:8080");
        assert_eq!(with(Some("10.0.0.1"), None), "10.0.0.1 > 192.0.2.1:8080");
        assert_eq!(with(Some("2001:db8::1"), Some(5)), "[2001:db8::1]:5 > 192.0.2.1:8080");
    }

    #[test]
    fn what_was_left_out_is_said() {
        let missed = Missed { count: 7, why: Why::Sampled };
        assert_eq!(text(&MonitorEvent::Missed(missed)), "… and 7 more (sampled)");
    }
}
