//! Published ports: connections to the one that was published last, where
//! others are published before it.

use std::{sync::atomic::AtomicBool, time::Instant};

use anyhow::Result;

use super::{Extent, alternate, names, put};
use crate::bench::{contender::Contender, paths::Path, results::Results};

/// Who is measured with how many ports: docker-proxy would be a process for
/// each, and the CNI plugins run iptables for each, which takes minutes.
fn largest(contender: Contender) -> u16 {
    match contender {
        Contender::Netd | Contender::Netavark | Contender::DockerNoProxy => 10_000,
        Contender::Cni => 100,
        _ => 0,
    }
}

pub(super) fn measure(
    extent: &Extent,
    contenders: &[Contender],
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    let mut sites = Vec::new();
    for contender in contenders {
        for ports in extent.ports.iter().copied().filter(|ports| *ports <= largest(*contender)) {
            let start = Instant::now();
            // The ports of a site are five already; the rest comes before them.
            let name = format!("{}-{ports}", contender.name());
            let site = contender.start_as(&name, ports - 1)?;
            let took = start.elapsed().as_secs_f64();
            put(results, *contender, (names::SET_UP_BY_PORTS, "s"), ports, took);
            sites.push((*contender, u64::from(ports), site));
        }
    }
    let figures = (names::CRR_BY_PORTS, [names::CONNECT_BY_PORTS, names::CONNECT99_BY_PORTS]);
    alternate(&mut sites, Path::Published, figures, extent, results, interrupted)
}
