//! What becomes of each contender as ports, flows and endpoints grow in
//! number. Each phase makes machines of its own and removes them.

mod agent;
mod attach;
mod flows;
mod ports;

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};

use super::{
    contender::Contender,
    paths::{Cpus, Family, Measure, Path},
    results::{Cell, Growth, Results},
    rounds,
    site::Site,
};
use crate::shell;

/// How far it goes.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) rounds: u32,
    /// Further rounds, brief ones, where a round takes little.
    pub(crate) more: u32,
    pub(crate) seconds: f64,
    pub(crate) ports: Vec<u16>,
    pub(crate) flows: Vec<u32>,
    /// How many are there already when others are attached.
    pub(crate) endpoints: Vec<u16>,
    /// How many are attached, one after another.
    pub(crate) attached: u16,
}

impl Extent {
    pub(crate) fn full(rounds: u32, more: u32) -> Self {
        Self {
            rounds,
            more,
            seconds: 1.0,
            ports: vec![1, 100, 1000, 10_000],
            flows: vec![100, 10_000, 1_000_000],
            endpoints: vec![1, 100, 1000],
            attached: 32,
        }
    }

    pub(crate) fn quick(rounds: u32, more: u32) -> Self {
        Self {
            rounds,
            more,
            seconds: 0.2,
            ports: vec![1, 1000],
            flows: vec![],
            endpoints: vec![1],
            attached: 10,
        }
    }
}

/// The phases, in the order of the report.
pub(crate) fn measure(
    extent: &Extent,
    contenders: &[Contender],
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    shell::heading("Growth: published ports");
    ports::measure(extent, contenders, results, interrupted)?;
    if !extent.flows.is_empty() {
        shell::heading("Growth: flows");
        flows::measure(extent, results, interrupted)?;
    }
    shell::heading("Growth: endpoints");
    attach::measure(extent, contenders, results, interrupted)?;
    shell::heading("Growth: the agent");
    agent::measure(extent, results, interrupted)
}

/// Names of figures, as tables look them up.
pub(crate) mod names {
    pub(crate) const CRR_BY_PORTS: &str = "CRR by published ports";
    pub(crate) const CONNECT_BY_PORTS: &str = "first packet's round trip by published ports, p50";
    pub(crate) const CONNECT99_BY_PORTS: &str = "first packet's round trip by published ports, p99";
    pub(crate) const SET_UP_BY_PORTS: &str = "set-up of a container by published ports";
    pub(crate) const CRR_BY_FLOWS: &str = "CRR by flows";
    pub(crate) const CONNECT_BY_FLOWS: &str = "first packet's round trip by flows, p50";
    pub(crate) const ATTACH: &str = "attach with one port, one after another";
    pub(crate) const RUN: &str = "whole `run` command with one port";
    pub(crate) const ATTACH_AT_ONCE: &str = "attach with one port, 32 at once";
    pub(crate) const PUBLISH: &str = "publish a range of ports";
    pub(crate) const WITHDRAW: &str = "withdraw a range of ports";
    pub(crate) const MEMORY: &str = "agent's memory by endpoints";
    pub(crate) const MEMORY_BY_PORTS: &str = "agent's memory by published ports";
    pub(crate) const RESTART: &str = "agent's restart by endpoints";
}

fn put(
    results: &mut Results,
    contender: Contender,
    (what, unit): (&str, &str),
    at: impl Into<u64>,
    value: f64,
) {
    let at = at.into();
    let same = |g: &&mut Growth| g.contender == contender && g.what == what && g.at == at;
    if let Some(growth) = results.growth.iter_mut().find(same) {
        growth.values.push(value);
        return;
    }
    let (what, unit) = (what.to_owned(), unit.to_owned());
    results.growth.push(Growth { contender, what, unit, at, values: vec![value] });
}

/// Sites that differ in size, each measured once a round, in turn.
fn alternate(
    sites: &mut [(Contender, u64, Site)],
    path: Path,
    (rate, connect): (&str, [&str; 2]),
    extent: &Extent,
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    let cell = Cell { path, family: Family::V4, measure: Measure::Crr, cpus: Cpus::One };
    for (_, _, site) in sites.iter() {
        site.pin_servers(&cell.cpus.list())?;
    }
    for round in 0..extent.rounds + extent.more {
        let seconds = if round < extent.rounds { extent.seconds } else { rounds::BRIEF };
        for n in 0..sites.len() {
            ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
            let (contender, at, site) = &sites[(round as usize + n) % sites.len()];
            let found = rounds::once(site, cell, seconds)?;
            put(results, *contender, (rate, "transactions/s"), *at, found.value);
            let Some(times) = found.connect else { continue };
            for (what, time) in connect.into_iter().zip([times.p50, times.p99]) {
                put(results, *contender, (what, "µs"), *at, time);
            }
        }
    }
    sites.iter_mut().try_for_each(|(_, _, site)| site.check())
}
