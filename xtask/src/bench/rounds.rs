//! The measurements between two ends: round after round, and within a round one
//! contender after another at each cell, so that whatever else the machine does
//! hits all of them alike. What the goals are about is measured in many brief
//! rounds more: the less time passes between two contenders' turns, the more
//! alike is the machine that they have.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    contender::Contender,
    goals,
    ns::{first, run},
    paths::{Cpus, Family, Measure, Path},
    results::{Cell, Missing, Percentiles, Record, Results},
    site::Site,
};

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Further rounds, brief ones, of what the goals are about.
    pub(crate) more: u32,
    pub(crate) seconds: f64,
    pub(crate) cells: Vec<Cell>,
}

/// Seconds that a measurement of a brief round lasts.
pub(crate) const BRIEF: f64 = 0.1;

/// MiB that iperf3, which counts in whole seconds, is asked for in a brief round:
/// some 0.2 s.
pub(crate) const BRIEF_MIB: u32 = 256;

impl Plan {
    /// All of it.
    pub(crate) fn full(rounds: u32, more: u32) -> Self {
        let mut cells = Vec::new();
        for family in Family::ALL {
            for path in Path::ALL {
                let mut put = |measure, cpus| {
                    cells.push(Cell { path, family, measure, cpus });
                };
                for measure in Measure::ALL {
                    if family == Family::V4 || measure != Measure::Streams {
                        put(measure, Cpus::One);
                    }
                }
                if family == Family::V4 {
                    for measure in [Measure::TcpRr, Measure::UdpRr, Measure::Crr] {
                        put(measure, Cpus::All);
                    }
                }
            }
        }
        Self { rounds, more, seconds: 0.5, cells }
    }

    /// What tells most, within two minutes.
    pub(crate) fn quick(rounds: u32, more: u32) -> Self {
        let measures = [Measure::TcpRr, Measure::UdpRr, Measure::Crr];
        let of = |path| {
            measures.map(|measure| Cell { path, family: Family::V4, measure, cpus: Cpus::One })
        };
        let stream = Cell {
            path: Path::Published,
            family: Family::V4,
            measure: Measure::Stream,
            cpus: Cpus::One,
        };
        let cells = Path::ALL.into_iter().flat_map(of).chain([stream]).collect();
        Self { rounds, more, seconds: 0.2, cells }
    }

    /// What is measured in a round, and for how long.
    fn of_round(&self, round: u32) -> (Vec<Cell>, f64) {
        if round < self.rounds {
            (self.cells.clone(), self.seconds)
        } else {
            (goals::cells(), BRIEF)
        }
    }
}

/// All contenders that are set up.
pub(crate) type Sites = Vec<(Contender, Site)>;

/// Finds out what works, then measures that.
pub(crate) fn measure(
    plan: &Plan,
    sites: &mut Sites,
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    (results.rounds, results.more, results.seconds) = (plan.rounds, plan.more, plan.seconds);
    probe(plan, sites, results);
    let rounds = plan.rounds + plan.more;
    for round in 0..rounds {
        crate::shell::heading(format_args!("Round {} of {rounds}", round + 1));
        let (cells, seconds) = plan.of_round(round);
        for cpus in [Cpus::One, Cpus::All] {
            let cells: Vec<_> = cells.iter().filter(|cell| cell.cpus == cpus).collect();
            if cells.is_empty() {
                continue;
            }
            for (_, site) in sites.iter() {
                site.pin_servers(&cpus.list())?;
            }
            for (n, cell) in cells.into_iter().enumerate() {
                // Nobody is always the first.
                let first = (n + round as usize) % sites.len();
                for n in 0..sites.len() {
                    ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
                    let (contender, site) = &sites[(first + n) % sites.len()];
                    if is_missing(results, *contender, *cell) {
                        continue;
                    }
                    match once(site, *cell, seconds) {
                        Ok(found) => results.records.push(found.of(round, *contender, *cell)),
                        Err(error) => eprintln!("    {}: {cell:?}: {error:#}", contender.name()),
                    }
                }
            }
        }
        for (contender, site) in sites.iter_mut() {
            site.check().with_context(|| format!("{} came to an end", contender.name()))?;
        }
    }
    Ok(())
}

/// Tries each path once, and remembers what does not work.
fn probe(plan: &Plan, sites: &Sites, results: &mut Results) {
    const PROBE_SECONDS: f64 = 0.02;
    for cell in &plan.cells {
        if cell.cpus != Cpus::One || !matches!(cell.measure, Measure::TcpRr | Measure::UdpRr) {
            continue;
        }
        for (contender, site) in sites {
            // The first packet may find no neighbour, or no flow.
            let tried =
                once(site, *cell, PROBE_SECONDS).or_else(|_| once(site, *cell, PROBE_SECONDS));
            let Err(error) = tried else { continue };
            let Cell { path, family, measure, .. } = *cell;
            let reason = format!("{error:#}").lines().last().unwrap_or_default().to_owned();
            results.missing.push(Missing { contender: *contender, path, family, measure, reason });
        }
    }
}

/// UDP works where datagrams are answered, all else where a byte is.
fn is_missing(results: &Results, contender: Contender, cell: Cell) -> bool {
    let needs = match cell.measure {
        Measure::UdpRr | Measure::UdpPps => Measure::UdpRr,
        _ => Measure::TcpRr,
    };
    results.missing.iter().any(|missing| {
        missing.contender == contender
            && missing.path == cell.path
            && missing.family == cell.family
            && missing.measure == needs
    })
}

/// What one measurement found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) value: f64,
    /// `None`: the measurement was a brief one.
    pub(crate) cpu: Option<f64>,
    pub(crate) latency: Option<Percentiles>,
    pub(crate) connect: Option<Percentiles>,
}

impl Found {
    fn of(self, round: u32, contender: Contender, cell: Cell) -> Record {
        let Self { value, cpu, latency, connect } = self;
        Record { round, contender, cell, value, cpu, latency, connect }
    }
}

/// One measurement, where the servers have the cell's CPUs already.
pub(crate) fn once(site: &Site, cell: Cell, seconds: f64) -> Result<Found> {
    let Some((client, address, shift)) = cell.path.ends(site, cell.family) else {
        bail!("it has no such path");
    };
    let mut command = client.command("timeout");
    let time = format!("{:.0}", seconds + 9.0);
    command.args([&time, "taskset", "--cpu-list", &cell.cpus.list()]);
    let is_brief = seconds <= BRIEF;
    let before = busy()?;
    let Some(mode) = cell.measure.load() else {
        let streams = if cell.measure == Measure::Streams { "8" } else { "1" };
        let port = (5201 + shift).to_string();
        let extent = if is_brief { format!("--bytes={BRIEF_MIB}M") } else { "--time=1".to_owned() };
        command.args(["iperf3", "--json", "--connect-timeout", "1000", "--client"]);
        command.args([&address.to_string(), "--port", &port, "--parallel", streams]);
        command.arg(extent);
        let text = run(&mut first(&command))?;
        let cpu = (!is_brief).then_some(busy()? - before);
        return of_iperf(&serde_json::from_str(&text)?, cpu);
    };
    command.arg(std::env::current_exe()?).args(["load", "client", mode, &address.to_string()]);
    command.args(["--shift", &shift.to_string(), "--seconds", &seconds.to_string()]);
    let text = run(&mut first(&command))?;
    let cpu = (!is_brief).then_some(busy()? - before);
    let found: Value = serde_json::from_str(&text)?;
    let number = |key: &str| found[key].as_f64().with_context(|| format!("no {key}: {text}"));
    let (count, seconds) = (number("transactions")?, number("seconds")?);
    ensure!(count > 0.0, "nothing arrived");
    let percentiles = |key: &str| serde_json::from_value(found[key].clone()).ok();
    Ok(Found {
        value: count / seconds,
        cpu: cpu.map(|cpu| cpu / count * 1e6),
        latency: percentiles("latency"),
        connect: percentiles("connect"),
    })
}

fn of_iperf(report: &Value, cpu: Option<f64>) -> Result<Found> {
    let received = &report["end"]["sum_received"];
    let rate = received["bits_per_second"].as_f64().context("iperf3 tells no rate")?;
    let bytes = received["bytes"].as_f64().context("iperf3 tells no bytes")?;
    ensure!(bytes > 0.0, "nothing arrived");
    let cpu = cpu.map(|cpu| cpu / (bytes / 1e9));
    Ok(Found { value: rate / 1e9, cpu, latency: None, connect: None })
}

/// Seconds that all CPUs together have been busy (`proc_stat(5)`: user, nice,
/// system, irq and softirq, in hundredths).
fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    ensure!(fields.len() >= 7, "/proc/stat has no such fields: {line}");
    Ok([0, 1, 2, 5, 6].iter().map(|field| fields[*field]).sum::<f64>() / 100.0)
}

/// The machine, as reports tell of it.
pub(crate) fn machine() -> Result<super::results::Machine> {
    let cpu_info = fs::read_to_string("/proc/cpuinfo")?;
    let processor = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned());
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .context("/proc/meminfo tells no size")?;
    let before = busy()?;
    std::thread::sleep(Duration::from_secs(1));
    let load = busy()? - before;
    let mut git = Command::new("git");
    git.current_dir(crate::shell::root()).args([
        "-c",
        "safe.directory=*",
        "rev-parse",
        "--short",
        "HEAD",
    ]);
    Ok(super::results::Machine {
        kernel: run(Command::new("uname").arg("-r"))?.trim().to_owned(),
        processor,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: kib.div_ceil(1 << 20),
        date: run(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?.trim().to_owned(),
        commit: run(&mut git).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned()),
        load,
    })
}
