//! The agent: one actor that owns the state and all that carries it out.
//!
//! Requests, the host's own changes, the ends of containers' processes and the
//! clock come in as messages; each is dealt with before the next. A request
//! becomes a plan (`controller`), the plan is journalled (`store`), run step by
//! step (`executor`), committed, and only then answered.

mod docker;
mod exhaustion;
mod faults;
mod flows;
mod host;
mod journal;
mod life;
mod lifecycle;
mod metrics;
mod monitor;
mod over;
mod reaper;
mod reconcile;
mod requests;
mod servers;
mod start;
mod work;

use std::{collections::HashMap, sync::Arc, time::Duration};

use netd_common::abi::Event;
use netd_common::verdict::DropReason;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    api::{
        Handle, Request,
        docker::engine::{EngineError, View},
    },
    controller::State,
    kernel::{self, sysctl::LocalPorts, watch},
    model::{Config, Id, config::AddressPool},
    paths::Paths,
    store::Store,
    systemd,
};

pub use start::run;

/// How often counters are looked at.
const SWEEP: Duration = Duration::from_secs(10);
/// Between two looks at the host's routes: the datapath's route generation
/// has 16 bits and must not come round while a flow may still idle.
const REFRESH: Duration = Duration::from_millis(125);
/// A look takes the longer the more endpoints there are, and requests wait for
/// it: the pause after one is so many times as long as it took,
const REST: u32 = 9;
/// but no longer than this.
const REST_AT_MOST: Duration = Duration::from_millis(800);

/// When the host may be looked at again, after a look from `start` to `end`.
fn next_look(start: Instant, end: Instant) -> Instant {
    let rest = (end.duration_since(start) * REST).min(REST_AT_MOST);
    (start + REFRESH).max(end + rest)
}

/// What the actor hears from its own tasks.
#[derive(Debug)]
enum Notice {
    /// The shim of a container has ended, or never came.
    Ended(Id),
    /// Programs have told of what they dropped.
    Drops(Vec<Event>),
    /// What dockerd says of its own.
    Docker(Result<View, EngineError>),
}

#[derive(Debug)]
struct Agent {
    config: Config,
    paths: Paths,
    state: State,
    store: Store,
    /// Where IPv6 subnets are cut from by default.
    ula: AddressPool,
    work: work::Work,
    local_ports: LocalPorts,
    /// What the datapath was last told of the host.
    host: host::Told,
    /// Requests that wait for a container's end.
    waiting: HashMap<Id, Vec<lifecycle::Waiting>>,
    notices: mpsc::Sender<Notice>,
    /// Where tasks run that must not wait for the actor, nor it for them.
    beside: runtime::Handle,
    monitor: monitor::Monitor,
    exhaustion: exhaustion::Exhaustion,
    docker: docker::Docker,
    reconcile: reconcile::Reconcile,
    swept: Arc<metrics::Swept>,
}

impl Agent {
    /// Runs until SIGTERM or SIGINT.
    async fn serve(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut notices: mpsc::Receiver<Notice>,
    ) -> anyhow::Result<()> {
        let mut changes = self.watch()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(monitor::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = systemd::Watchdog::new();
        let mut programs = interval(reconcile::LOOK);
        programs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh: Option<Instant> = None;
        let mut may_look = Instant::now();
        loop {
            let some_day = Instant::now() + Duration::from_secs(3600);
            let due = refresh.unwrap_or(some_day);
            let settling = self.work.settling_due();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => {
                        self.work.is_asked();
                        self.answer(request).await;
                    }
                    None => break,
                },
                Some(notice) = notices.recv() => match notice {
                    Notice::Ended(id) => self.ended(&id).await,
                    Notice::Drops(drops) => self.tell_drops(&drops),
                    Notice::Docker(seen) => self.docker_seen(seen).await,
                },
                event = changes.recv() => {
                    if let Some(event) = event {
                        self.reconcile.hear(event);
                    } else {
                        tracing::warn!("the watch on links and routes ended; starting it again");
                        changes = self.watch()?;
                        self.reconcile.hear(watch::Event::Resync);
                    }
                    refresh.get_or_insert(may_look.max(Instant::now()));
                }
                () = tokio::time::sleep_until(due), if refresh.is_some() => {
                    let start = Instant::now();
                    if let Err(error) = self.follow().await {
                        tracing::error!("failed to follow the host's links: {error:#}");
                    }
                    (refresh, may_look) = (None, next_look(start, Instant::now()));
                }
                () = tokio::time::sleep_until(settling.unwrap_or(some_day)), if settling.is_some() => {
                    self.work.settle();
                }
                () = tokio::time::sleep_until(self.docker.due()) => self.docker_due().await,
                _ = sweep.tick() => {
                    self.sweep();
                    self.look_after_links().await;
                }
                _ = programs.tick() => self.look_after_programs().await,
                _ = look.tick(), if self.monitor.is_on() => self.look_after_listeners(),
                () = watchdog.due() => watchdog.feed(&self.summary()),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        systemd::stopping();
        self.finish().await
    }

    fn watch(&self) -> Result<mpsc::Receiver<watch::Event>, kernel::Error> {
        let _entered = self.beside.enter();
        watch::watch()
    }

    /// In a line, for `systemctl status`.
    fn summary(&self) -> String {
        let count = |count, one, many| format!("{count} {}", if count == 1 { one } else { many });
        let networks = count(self.state.networks.len(), "network", "networks");
        let containers = count(self.state.containers.len(), "container", "containers");
        format!("{networks}, {containers}")
    }

    /// What is looked at from time to time.
    fn sweep(&mut self) {
        match self.work.datapath.tables.dropped(DropReason::PortsExhausted) {
            Ok(count) => {
                let due = self.exhaustion.due(count, std::time::Instant::now());
                due.into_iter().for_each(exhaustion::warn);
            }
            Err(error) => tracing::error!("failed to read the counters: {error}"),
        }
    }

    /// Leaves everything as it is while containers or networks of the user's
    /// live: traffic flows on. With none, nothing of netd's stays.
    async fn finish(mut self) -> anyhow::Result<()> {
        let idle = self.state.networks.len() <= 1
            && self.state.containers.values().all(|container| container.endpoints.is_empty());
        if !idle {
            tracing::info!("stopping; containers and networks live on");
            return Ok(());
        }
        let ops = crate::controller::desired_ops(&self.state);
        for op in ops.iter().rev() {
            use crate::executor::Effects as _;
            if let Err(error) = self.work.revert(op).await {
                tracing::error!("failed to clean up: {error}");
            }
        }
        self.work.kernel.netlink.close().await;
        self.work.datapath.destroy()?;
        tracing::info!("stopped; nothing is left");
        Ok(())
    }
}

/// A way to the actor, and the actor's ends of it.
fn channels() -> (Handle, mpsc::Receiver<Request>, mpsc::Sender<Notice>, mpsc::Receiver<Notice>) {
    let (handle, requests) = Handle::channel(64);
    let (notify, notices) = mpsc::channel(1024);
    (handle, requests, notify, notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_the_host_leave_time_for_requests() {
        let start = Instant::now();
        let after = |took: u64| {
            let end = start + Duration::from_millis(took);
            next_look(start, end).duration_since(start).as_millis()
        };
        assert_eq!(after(2), 125);
        assert_eq!(after(30), 300);
        assert_eq!(after(1000), 1800);
    }
}
