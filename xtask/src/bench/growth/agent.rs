//! netd's agent itself: ranges of ports, memory, restarts.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::{Extent, names, put};
use crate::bench::{
    contender::{Agent, Contender},
    results::Results,
    site::Machines,
};

const NETD: Contender = Contender::Netd;

pub(super) fn measure(
    extent: &Extent,
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    let machines = Machines::make("netd-agent")?;
    let (agent, mut daemon) =
        Agent::start(&machines, &serde_json::json!({"docker-plugin": "off"}))?;
    agent.make_network()?;
    agent.run("c0", &[])?;
    let ports = extent.ports.iter().copied().max().unwrap_or(1);
    let spec = format!("0.0.0.0:20000-{0}:20000-{0}", 20_000 - 1 + ports);
    put(results, NETD, (names::MEMORY_BY_PORTS, "MiB"), 0_u64, memory(daemon.id())?);
    for round in 0..extent.rounds {
        let start = Instant::now();
        agent.netd(&["port", "add", "c0", &spec])?;
        put(results, NETD, (names::PUBLISH, "s"), ports, start.elapsed().as_secs_f64());
        if round == 0 {
            put(results, NETD, (names::MEMORY_BY_PORTS, "MiB"), ports, memory(daemon.id())?);
        }
        let start = Instant::now();
        agent.netd(&["port", "rm", "c0", &spec])?;
        put(results, NETD, (names::WITHDRAW, "s"), ports, start.elapsed().as_secs_f64());
    }
    let mut there = 1;
    for at in &extent.endpoints {
        while there < *at {
            ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
            agent.run(&format!("c{there}"), &["-p", &format!("{}:7000", 10_000 + there)])?;
            there += 1;
        }
        put(results, NETD, (names::MEMORY, "MiB"), *at, memory(daemon.id())?);
        for _ in 0..extent.rounds {
            drop(daemon);
            let start = Instant::now();
            daemon = agent.start_again()?;
            put(results, NETD, (names::RESTART, "ms"), *at, start.elapsed().as_secs_f64() * 1e3);
        }
    }
    agent.remove_all()
}

/// MiB that are resident (`proc_pid_status(5)`).
fn memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("no VmRSS")? / 1024.0)
}
