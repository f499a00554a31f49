//! Flows: new connections to outside while many others are known.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use super::{Extent, alternate, names};
use crate::bench::{
    contender::{Contender, netd},
    ns::{Daemon, eventually, run},
    paths::Path,
    results::Results,
    site::{Machines, OUTSIDE, Site},
};

/// Room for the most of them, and a half more.
const TABLE: u32 = 1_500_000;

pub(super) fn measure(
    extent: &Extent,
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    let mut sites = Vec::new();
    // The most first: they take the longest to open, and a flow of datagrams is
    // forgotten after two minutes.
    let mut counts = extent.flows.clone();
    counts.sort_unstable();
    for count in counts {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
        let machines = Machines::make(&format!("netd-flows-{count}"))?;
        let mut site = netd::site_with(
            machines,
            &serde_json::json!({"docker-plugin": "off", "flow-table-size": TABLE}),
            0,
        )?;
        open(&mut site, count)?;
        sites.push((Contender::Netd, u64::from(count), site));
    }
    let figures =
        (names::CRR_BY_FLOWS, [names::CONNECT_BY_FLOWS, "first packet's round trip by flows, p99"]);
    alternate(&mut sites, Path::Outbound, figures, extent, results, interrupted)
}

fn open(site: &mut Site, count: u32) -> Result<()> {
    let program = std::env::current_exe()?;
    let machines = &site.machines;
    // Closed ports are no ground for the outside's errors.
    let mut server = machines.outside.command(&program);
    let log = machines.folder.join("flows.log");
    site.daemons.push(Daemon::start(server.args(["load", "flows"]), &log)?);
    let outside = &machines.outside;
    eventually("the outside's ports answer", || {
        let mut ss: Command = outside.command("ss");
        let found = run(ss.args(["-Hlnu", "sport", "=", ":9016"]))?;
        Ok((!found.trim().is_empty()).then_some(()))
    })?;
    site.a.sysctl("net.ipv4.ip_local_port_range", "1024 1025")?;
    let mut client = site.a.command(&program);
    let address = OUTSIDE.v4.to_string();
    let said = run(client.args(["load", "flows", &address, "--count", &count.to_string()]))?;
    let opened: u32 = said.trim().parse().with_context(|| format!("it said `{said}`"))?;
    ensure!(opened >= count, "only {opened} of {count} flows were opened");
    site.a.sysctl("net.ipv4.ip_local_port_range", "32768 60999").map(drop)
}
