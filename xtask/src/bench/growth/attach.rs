//! Attaching a container with one published port, by what a runtime calls:
//! netd's API, the CNI plugins, netavark; `docker network connect`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{Extent, names, put};
use crate::bench::{
    contender::{Agent, Cni, Contender, Docker, netavark},
    ns::{Daemon, Ns},
    results::Results,
    site::{Dual, Machines},
};

/// How many clients at once.
const CLIENTS: u16 = 32;

/// Who is measured with how many endpoints there already: at a few dozen
/// milliseconds each, a thousand take their time.
fn largest(contender: Contender) -> u16 {
    match contender {
        Contender::Netd => 1000,
        Contender::Netavark | Contender::Cni => 100,
        Contender::Docker => 1,
        _ => 0,
    }
}

pub(super) fn measure(
    extent: &Extent,
    contenders: &[Contender],
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<()> {
    for contender in contenders {
        if largest(*contender) == 0 {
            continue;
        }
        let attacher = Attacher::start(*contender)?;
        let mut there = 0;
        for at in extent.endpoints.iter().copied().filter(|at| *at <= largest(*contender)) {
            while there + 1 < at {
                ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
                attacher.attach(there, Stay::Resident)?;
                there += 1;
            }
            for n in 0..extent.attached {
                let took = attacher.attach(there + n, Stay::Measured)?;
                put(results, *contender, (names::ATTACH, "ms"), at, millis(took));
            }
            there += extent.attached;
            if *contender == Contender::Docker {
                continue;
            }
            for took in attacher.at_once(there)? {
                put(results, *contender, (names::ATTACH_AT_ONCE, "ms"), at, millis(took));
            }
            there += CLIENTS;
        }
        if *contender == Contender::Netd {
            for n in 0..extent.attached {
                let took = attacher.attach(there + n, Stay::Resident)?;
                put(results, *contender, (names::RUN, "ms"), 1_u64, millis(took));
            }
        }
        attacher.remove_all()?;
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// It has to be there, by whichever way.
    Resident,
    /// By the call that is measured.
    Measured,
}

/// A contender to attach to. Its machines are the last to go.
struct Attacher {
    how: How,
    _daemons: Vec<Daemon>,
    machines: Machines,
}

enum How {
    Netd(Agent),
    Netavark,
    Cni(Cni),
    Docker(Docker),
}

impl Attacher {
    fn start(contender: Contender) -> Result<Self> {
        let machines = Machines::make(&format!("{}-attach", contender.name()))?;
        machines.forward()?;
        let (how, daemons) = match contender {
            Contender::Netd => {
                let (agent, daemon) =
                    Agent::start(&machines, &serde_json::json!({"docker-plugin": "off"}))?;
                agent.make_network()?;
                (How::Netd(agent), vec![daemon])
            }
            Contender::Netavark => (How::Netavark, Vec::new()),
            Contender::Cni => (How::Cni(Cni::new(&machines)), Vec::new()),
            _ => {
                let (docker, daemon) = Docker::start(&machines, &[], None)?;
                docker.import_image()?;
                docker.docker(&["network", "create", "second"])?;
                (How::Docker(docker), vec![daemon])
            }
        };
        Ok(Self { how, _daemons: daemons, machines })
    }

    /// Attaches the nth, and says how long it took. What it is attached to is
    /// made before.
    fn attach(&self, n: u16, stay: Stay) -> Result<Duration> {
        let (name, port) = (format!("n{n}"), 10_000 + n);
        match &self.how {
            How::Netd(agent) if stay == Stay::Measured => agent.create(&name, port),
            How::Netd(agent) => {
                let start = Instant::now();
                agent.run(&name, &["-p", &format!("{port}:7000")])?;
                Ok(start.elapsed())
            }
            How::Netavark => {
                let ns = self.ns(&name)?;
                let [.., high, low] =
                    (u32::from(Ipv4Addr::new(172, 30, 1, 0)) + u32::from(n)).to_be_bytes();
                let v6 = Ipv6Addr::new(0xfd00, 0xbe, 0, 0, 0, 0, 1, n);
                let address = Dual { v4: Ipv4Addr::new(172, 30, high, low), v6: Some(v6) };
                let start = Instant::now();
                netavark::setup_container(
                    &self.machines,
                    &name,
                    &ns,
                    address,
                    &[(port, 7000, "tcp")],
                )?;
                Ok(start.elapsed())
            }
            How::Cni(cni) => {
                let ns = self.ns(&name)?;
                let start = Instant::now();
                cni.add(&name, &ns, &[(port, 7000, "tcp")])?;
                Ok(start.elapsed())
            }
            How::Docker(docker) => {
                docker.run(&name, "bridge", &[format!("{port}:7000")], &[])?;
                let start = Instant::now();
                docker.docker(&["network", "connect", "second", &name])?;
                let took = start.elapsed();
                docker.remove(&[&name])?;
                Ok(took)
            }
        }
    }

    fn remove_all(&self) -> Result<()> {
        match &self.how {
            How::Netd(agent) => agent.remove_all(),
            // Their namespaces are the benchmark's to remove, dockerd is empty.
            How::Netavark | How::Cni(_) | How::Docker(_) => Ok(()),
        }
    }

    fn ns(&self, name: &str) -> Result<Ns> {
        self.machines.container(name)
    }

    /// As many clients at once; what each waited.
    fn at_once(&self, first: u16) -> Result<Vec<Duration>> {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| scope.spawn(move || self.attach(first + n, Stay::Measured)))
                .collect();
            let ended = clients.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|client| client.map_err(|_| anyhow!("a client panicked"))?).collect()
        })
    }
}
