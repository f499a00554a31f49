//! Rates: two looks at the counters, and the time between them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::api::types::StatRow;

/// What came in a second, of one program's one outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Rate {
    pub(super) program: String,
    pub(super) outcome: String,
    pub(super) drop: bool,
    #[serde(rename = "PacketsPerSecond")]
    pub(super) packets: f64,
    #[serde(rename = "BitsPerSecond")]
    pub(super) bits: f64,
    /// Ever.
    #[serde(rename = "Packets")]
    pub(super) total: u64,
}

impl Rate {
    /// As tables name it.
    pub(super) fn name(&self) -> String {
        if self.drop { format!("drop: {}", self.outcome) } else { self.outcome.clone() }
    }
}

/// All rates of one interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) length: Duration,
    pub(super) rows: Vec<Rate>,
}

impl Interval {
    /// Packets a second that were let through, and that were dropped. One that
    /// passes two programs counts twice.
    pub(super) fn sums(&self) -> (f64, f64) {
        let sum = |drop| {
            let rows = self.rows.iter().filter(|row| row.drop == drop);
            rows.map(|row| row.packets).sum()
        };
        (sum(false), sum(true))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Line<'a> {
    /// RFC 3339, UTC: the interval's end.
    time: String,
    seconds: f64,
    rates: &'a [Rate],
}

impl<'a> Line<'a> {
    pub(super) fn new(interval: &'a Interval) -> Self {
        Self {
            time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            seconds: interval.length.as_secs_f64(),
            rates: &interval.rows,
        }
    }
}

/// The counters as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(Instant, Vec<StatRow>)>,
}

impl Rates {
    /// The rates since the last look, in the order of `stats`; `None`: this is
    /// the first.
    pub(super) fn look(&mut self, stats: Vec<StatRow>, now: Instant) -> Option<Interval> {
        let last = self.last.take();
        let interval = last.map(|(then, before)| interval(&before, &stats, now - then));
        self.last = Some((now, stats));
        interval
    }
}

fn interval(before: &[StatRow], stats: &[StatRow], length: Duration) -> Interval {
    let before: HashMap<_, _> = before
        .iter()
        .map(|row| ((&*row.program, &*row.outcome), (row.packets, row.bytes)))
        .collect();
    let rows = stats.iter().map(|row| {
        let known = before.get(&(&*row.program, &*row.outcome)).copied().unwrap_or_default();
        Rate {
            program: row.program.clone(),
            outcome: row.outcome.clone(),
            drop: row.drop,
            packets: rate(known.0, row.packets, length),
            bits: rate(known.1, row.bytes, length) * 8.0,
            total: row.packets,
        }
    });
    Interval { length, rows: rows.collect() }
}

/// A counter that is less than it was has begun anew.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(before: u64, now: u64, length: Duration) -> f64 {
    let more = now.checked_sub(before).unwrap_or(now);
    more as f64 / length.as_secs_f64().max(0.001)
}

/// `1.23M`: three digits and the thousands' letter.
pub(super) fn human(number: f64) -> String {
    const LETTERS: [&str; 5] = ["", "k", "M", "G", "T"];
    let (mut rest, mut letter) = (number, 0);
    while rest >= 999.5 && letter + 1 < LETTERS.len() {
        (rest, letter) = (rest / 1000.0, letter + 1);
    }
    let digits = match rest {
        0.0..9.995 if letter > 0 => 2,
        0.0..99.95 if rest.fract() > 0.0 => 1,
        _ => 0,
    };
    format!("{rest:.digits$}{}", LETTERS[letter])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: &str, drop: bool, packets: u64) -> StatRow {
        StatRow {
            program: "from_uplink".into(),
            outcome: outcome.into(),
            drop,
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "halves are exact")]
    fn a_rate_is_what_came_since_the_last_look() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rates.look(vec![row("pass", false, 10)], start), None);
        let second = vec![row("pass", false, 30), row("malformed", true, 1)];
        let seen = rates.look(second, after(2)).unwrap();
        let shown: Vec<_> = seen.rows.iter().map(|it| (it.packets, it.bits, it.total)).collect();
        assert_eq!(shown, [(10.0, 8000.0, 30), (0.5, 400.0, 1)]);
        assert_eq!(seen.sums(), (10.0, 0.5));
        let restarted = rates.look(vec![row("pass", false, 4)], after(3)).unwrap();
        assert_eq!(restarted.rows[0].packets, 4.0);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (45_600.0, "45.6k"),
            (1_234_567.0, "1.23M"),
            (9.4e9, "9.40G"),
            (2e15, "2000T"),
        ] {
            assert_eq!(human(number), text, "{number}");
        }
    }
}
