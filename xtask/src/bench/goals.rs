//! What netd is to reach beside the others, and whether it does.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    contender::Contender,
    growth::names,
    paths::{Cpus, Family, Measure, Path},
    results::{Cell, Results},
    stats::Estimate,
};

/// A goal with what was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) goal: Bound,
    pub(crate) measured: Option<Estimate>,
    /// What `direct` has in netd's place: no network can be much better.
    pub(crate) limit: Option<Estimate>,
    pub(crate) unit: String,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// The whole interval reaches it.
    Met,
    /// It is in the interval: the run can't tell.
    WithinNoise,
    /// The whole interval misses it.
    Short,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::WithinNoise => "within noise",
            Self::Short => "short",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A goal; kept as people read it, `≥ 1.3`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn judge(self, measured: Option<Estimate>) -> Verdict {
        let Some(Estimate { low, high, .. }) = measured else {
            return Verdict::NotMeasured;
        };
        let (met, may_be) = match self {
            Self::AtLeast(goal) => (low >= goal, high >= goal),
            Self::AtMost(goal) => (high <= goal, low <= goal),
        };
        match (met, may_be) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::WithinNoise,
            (false, false) => Verdict::Short,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::AtMost(goal) => format!("≤ {goal}"),
        })
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

impl TryFrom<String> for Bound {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let figure = |figure: &str| figure.parse().ok();
        let least = text.strip_prefix("≥ ").and_then(figure).map(Self::AtLeast);
        let most = || text.strip_prefix("≤ ").and_then(figure).map(Self::AtMost);
        least.or_else(most).ok_or_else(|| format!("`{text}` is no goal: `≥ 1.3` or `≤ 5` is"))
    }
}

/// By path: the measures, and the least ratio to docker, netavark and direct.
type OfPath = (Path, [(Measure, f64, f64, f64); 3]);

const PATHS: [OfPath; 6] = {
    use Measure::{Crr, TcpRr, UdpRr};
    [
        (
            Path::Neighbour,
            [(TcpRr, 1.3, 1.15, 0.92), (UdpRr, 1.35, 1.15, 0.92), (Crr, 1.4, 1.15, 0.92)],
        ),
        (
            Path::Outbound,
            [(TcpRr, 1.3, 1.2, 0.87), (UdpRr, 1.4, 1.2, 0.87), (Crr, 1.5, 1.15, 0.87)],
        ),
        (Path::Published, [(TcpRr, 1.3, 1.2, 0.9), (UdpRr, 1.4, 1.15, 0.9), (Crr, 1.6, 1.15, 0.9)]),
        (Path::Host, [(TcpRr, 1.2, 1.1, 0.9), (UdpRr, 1.2, 1.1, 0.9), (Crr, 1.2, 1.1, 0.9)]),
        (Path::Loopback, [(TcpRr, 6.0, 1.1, 0.9), (UdpRr, 6.0, 1.1, 0.9), (Crr, 6.0, 1.1, 0.9)]),
        (
            Path::Hairpin,
            [(TcpRr, 6.0, 1.25, 0.85), (UdpRr, 6.0, 1.25, 0.85), (Crr, 3.0, 1.25, 0.85)],
        ),
    ]
};

/// Of a bulk stream on every path.
const STREAM: (Measure, f64, f64, f64) = (Measure::Stream, 1.1, 1.05, 0.95);

/// Each cell that has goals, and the least ratios to docker, netavark and
/// direct.
fn judged() -> impl Iterator<Item = (Cell, [(Contender, f64); 3])> {
    PATHS.into_iter().flat_map(|(path, measures)| {
        measures.into_iter().chain([STREAM]).map(move |(measure, docker, netavark, direct)| {
            let cell = Cell { path, family: Family::V4, measure, cpus: Cpus::One };
            let least = [
                (Contender::Docker, docker),
                (Contender::Netavark, netavark),
                (Contender::Direct, direct),
            ];
            (cell, least)
        })
    })
}

/// What the goals of the paths are about.
pub(crate) fn cells() -> Vec<Cell> {
    judged().map(|(cell, _)| cell).collect()
}

/// Every goal, in the order of the paths, then those of growth.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    for (cell, goals) in judged() {
        for (other, least) in goals {
            let measured = results.ratio(Contender::Netd, other, cell);
            let Cell { path, measure, .. } = cell;
            let what = format!("{}, {}: netd ÷ {}", path.title(), measure.title(), other.name());
            let limit = (other != Contender::Direct)
                .then(|| results.ratio(Contender::Direct, other, cell))
                .flatten();
            rows.push(Row { limit, ..row(what, Bound::AtLeast(least), measured, "×") });
        }
    }
    rows.extend(of_growth(results));
    rows
}

fn row(what: String, goal: Bound, measured: Option<Estimate>, unit: &str) -> Row {
    let verdict = goal.judge(measured);
    Row { what, goal, measured, limit: None, unit: unit.to_owned(), verdict }
}

fn of_growth(results: &Results) -> Vec<Row> {
    let netd = Contender::Netd;
    let grown = |contender, what, at| results.grown(contender, what, at);
    let quotient = |one: Option<Estimate>, other: Option<Estimate>| divide(one?, other?);
    let by_ports = |one, other| results.grown_ratio(names::CRR_BY_PORTS, one, other);
    let ports = by_ports((netd, 10_000), (netd, 1));
    let beside = by_ports((netd, 10_000), (Contender::Netavark, 10_000));
    let flows = results.grown_ratio(names::CRR_BY_FLOWS, (netd, 1_000_000), (netd, 100));
    let attach = grown(netd, names::ATTACH, 1);
    let beside_netavark = quotient(attach, grown(Contender::Netavark, names::ATTACH, 1));
    let publish = grown(netd, names::PUBLISH, 10_000);
    let withdraw = grown(netd, names::WITHDRAW, 10_000);
    vec![
        row("CRR at 10,000 published ports ÷ at 1".to_owned(), Bound::AtLeast(0.97), ports, "×"),
        row(
            "CRR at 10,000 published ports: netd ÷ netavark".to_owned(),
            Bound::AtLeast(10.0),
            beside,
            "×",
        ),
        row("CRR at 1,000,000 flows ÷ at 100".to_owned(), Bound::AtLeast(0.85), flows, "×"),
        row("attach with one port, p50".to_owned(), Bound::AtMost(5.0), attach, "ms"),
        row(
            "attach with one port: netd ÷ netavark".to_owned(),
            Bound::AtMost(0.143),
            beside_netavark,
            "×",
        ),
        row("publish a range of 10,000 ports".to_owned(), Bound::AtMost(0.5), publish, "s"),
        row("withdraw a range of 10,000 ports".to_owned(), Bound::AtMost(0.5), withdraw, "s"),
    ]
}

/// Of figures that have no rounds in common: the interval is the widest.
fn divide(one: Estimate, other: Estimate) -> Option<Estimate> {
    (other.low > 0.0).then(|| Estimate {
        median: one.median / other.median,
        low: one.low / other.high,
        high: one.high / other.low,
        count: one.count.min(other.count),
    })
}

#[cfg(test)]
mod tests {
    use super::{Bound, Estimate, Verdict};

    #[test]
    fn a_goal_is_met_or_missed_only_by_the_whole_interval() {
        let measured = |low, median, high| Some(Estimate { median, low, high, count: 5 });
        let goal = Bound::AtLeast(1.3);
        assert_eq!(goal.judge(measured(1.3, 1.31, 1.4)), Verdict::Met);
        assert_eq!(goal.judge(measured(1.2, 1.31, 1.4)), Verdict::WithinNoise);
        assert_eq!(goal.judge(measured(1.2, 1.25, 1.3)), Verdict::WithinNoise);
        assert_eq!(goal.judge(measured(1.0, 1.1, 1.2)), Verdict::Short);
        let goal = Bound::AtMost(5.0);
        assert_eq!(goal.judge(measured(3.0, 4.0, 5.0)), Verdict::Met);
        assert_eq!(goal.judge(measured(4.0, 5.5, 7.0)), Verdict::WithinNoise);
        assert_eq!(goal.judge(measured(5.1, 5.5, 7.0)), Verdict::Short);
        assert_eq!(goal.judge(None), Verdict::NotMeasured);
    }

    #[test]
    fn a_goal_is_kept_as_it_is_read() {
        for (goal, text) in [(Bound::AtLeast(1.3), "≥ 1.3"), (Bound::AtMost(5.0), "≤ 5")] {
            assert_eq!(goal.to_string(), text);
            assert_eq!(Bound::try_from(text.to_owned()), Ok(goal));
        }
        for text in ["", "5", "> 5", "≥ five"] {
            assert!(Bound::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
