//! What a run found, as it is kept: raw, one record a measurement. Reports are
//! made of this and of nothing else.

use serde::{Deserialize, Serialize};

use super::{
    contender::Contender,
    paths::{Cpus, Family, Measure, Path},
    stats::{Estimate, estimate},
};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    /// Further rounds, brief ones, of what the goals are about.
    #[serde(default)]
    pub(crate) more: u32,
    /// Seconds that each measurement of a round lasts.
    pub(crate) seconds: f64,
    pub(crate) contenders: Vec<Entrant>,
    pub(crate) records: Vec<Record>,
    /// What a contender can't do.
    pub(crate) missing: Vec<Missing>,
    pub(crate) growth: Vec<Growth>,
    pub(crate) micro: Vec<Micro>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: u64,
    /// As `date -u` has it.
    pub(crate) date: String,
    /// Of the product that is measured.
    pub(crate) commit: String,
    /// CPUs that others kept busy in the second before anything was started.
    pub(crate) load: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entrant {
    pub(crate) contender: Contender,
    pub(crate) version: String,
    /// Why it is not in the run.
    pub(crate) left_out: Option<String>,
}

/// What is measured between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) path: Path,
    pub(crate) family: Family,
    pub(crate) measure: Measure,
    pub(crate) cpus: Cpus,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) round: u32,
    pub(crate) contender: Contender,
    #[serde(flatten)]
    pub(crate) cell: Cell,
    /// In the measure's unit.
    pub(crate) value: f64,
    /// CPU seconds of the whole machine, for a gigabyte or a million
    /// transactions or packets; not of a brief round, where the start of the
    /// client would weigh too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<f64>,
    /// µs, of a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Percentiles>,
    /// µs, of connecting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<Percentiles>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) contender: Contender,
    pub(crate) path: Path,
    pub(crate) family: Family,
    pub(crate) measure: Measure,
    pub(crate) reason: String,
}

/// One figure as something grows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub(crate) contender: Contender,
    pub(crate) what: String,
    pub(crate) unit: String,
    /// How many ports, flows, endpoints.
    pub(crate) at: u64,
    pub(crate) values: Vec<f64>,
}

/// A program on one packet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Micro {
    /// What the packet is.
    pub(crate) path: String,
    /// The least of many runs.
    pub(crate) nanoseconds: f64,
    /// Map operations.
    pub(crate) lookups: u64,
    /// Of all programs that the packet runs through, after the verifier.
    pub(crate) instructions: u64,
}

impl Results {
    pub(crate) fn of(&self, contender: Contender, cell: Cell) -> impl Iterator<Item = &Record> {
        let of = move |r: &&Record| r.contender == contender && r.cell == cell;
        self.records.iter().filter(of)
    }

    pub(crate) fn value(&self, contender: Contender, cell: Cell) -> Option<Estimate> {
        estimate(self.of(contender, cell).map(|record| record.value).collect())
    }

    /// One's figure by another's: of each round its own, then the median.
    pub(crate) fn ratio(&self, one: Contender, other: Contender, cell: Cell) -> Option<Estimate> {
        let ratios = self.of(one, cell).filter_map(|record| {
            let mut others = self.of(other, cell);
            let in_round = others.find(|other| other.round == record.round)?;
            (in_round.value > 0.0).then(|| record.value / in_round.value)
        });
        estimate(ratios.collect())
    }

    pub(crate) fn grown(&self, contender: Contender, what: &str, at: u64) -> Option<Estimate> {
        estimate(self.growth_of(contender, what, at)?.to_vec())
    }

    fn growth_of(&self, contender: Contender, what: &str, at: u64) -> Option<&[f64]> {
        let is = |g: &&Growth| g.contender == contender && g.what == what && g.at == at;
        self.growth.iter().find(is).map(|growth| growth.values.as_slice())
    }

    /// One's figure by another's, where both were measured in turn: of each
    /// round its own, then the median.
    pub(crate) fn grown_ratio(
        &self,
        what: &str,
        one: (Contender, u64),
        other: (Contender, u64),
    ) -> Option<Estimate> {
        let of = |(contender, at)| self.growth_of(contender, what, at);
        let pairs = of(one)?.iter().zip(of(other)?);
        estimate(pairs.filter(|(_, other)| **other > 0.0).map(|(one, other)| one / other).collect())
    }

    /// Those that were measured, in their order.
    pub(crate) fn took_part(&self) -> Vec<Contender> {
        let taken = self.contenders.iter().filter(|entrant| entrant.left_out.is_none());
        taken.map(|entrant| entrant.contender).collect()
    }
}
