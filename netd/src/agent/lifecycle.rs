//! Containers' processes: started by the command line, watched from here,
//! stopped from here. When one ends, its endpoint, ports and sandbox go.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{sync::mpsc, time::timeout};

use super::{Agent, Notice};
use crate::{
    api::{
        Reply, ServiceError,
        service::Removal,
        types::{Started, Stop},
    },
    controller::{self, Force},
    kernel::process::{self, Watched},
    model::{ContainerState, Id, Owner, Process},
    runtime::files::RunDir,
};

/// A container without a process is given up after this long.
pub(super) const START: Duration = Duration::from_secs(30);
/// As [`START`], after a restart: who waited for the sandbox has heard nothing
/// of it, or is about to start the process.
pub(super) const START_AGAIN: Duration = Duration::from_secs(5);
/// Between SIGKILL of the command and of a shim that does not notice.
const GRACE: Duration = Duration::from_secs(5);

/// A request that is answered when its container has ended.
#[derive(Debug)]
pub(super) enum Waiting {
    Stop(Reply<()>),
    Remove(Reply<()>),
}

impl Agent {
    pub(super) async fn container_started(
        &mut self,
        name: &str,
        started: &Started,
    ) -> Result<(), ServiceError> {
        let gone = || ServiceError::bad_request(format!("there is no process {}", started.shim));
        let start_time = process::start_time(started.shim).ok().flatten().ok_or_else(gone)?;
        let process = Process { shim: started.shim, pid: started.pid, start_time };
        let plan = controller::plan_started(&self.state, name, process)?;
        self.carry_out(&plan).await?;
        let id = controller::find_container(&self.state, name)?.id.clone();
        self.watch_process(id, process);
        Ok(())
    }

    /// Tells the actor when the shim ends; at once if it is gone already.
    pub(super) fn watch_process(&self, id: Id, process: Process) {
        let notices = self.notices.clone();
        tokio::spawn(async move {
            match Watched::open(process.shim, process.start_time) {
                Ok(Some(watched)) => {
                    if let Err(error) = watched.ended().await {
                        tracing::error!(container = id.short(), "lost sight of a process: {error}");
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(container = id.short(), "failed to watch a process: {error}");
                    return;
                }
            }
            let _ = notices.send(Notice::Ended(id)).await;
        });
    }

    /// Releases a container that never gets a process.
    pub(super) fn expect_start(&self, id: Id, within: Duration) {
        let notices = self.notices.clone();
        tokio::spawn(async move {
            tokio::time::sleep(within).await;
            let _ = notices.send(Notice::Ended(id)).await;
        });
    }

    /// The shim has ended, or never came.
    pub(super) async fn ended(&mut self, id: &Id) {
        let own = self.state.containers.get(id).filter(|it| it.owner == Owner::Netd);
        let Some(container) = own else { return };
        let alive = match &container.state {
            ContainerState::Running(process) => process::is_alive(process.shim, process.start_time),
            ContainerState::Created => false,
            ContainerState::Joined | ContainerState::Exited { .. } => return,
        };
        if alive {
            // The notice was for a start that came in time after all.
            return;
        }
        self.over(id).await;
    }

    /// Nobody runs a container any more: what it held goes back.
    pub(super) async fn over(&mut self, id: &Id) {
        let Some(container) = self.state.containers.get(id) else { return };
        let code = RunDir(&self.paths.containers_dir().join(id.as_str())).read_exit();
        tracing::info!(container = %container.name, code, "container ended");
        if let Err(error) = self.release(id, code).await {
            tracing::error!(container = id.short(), "failed to release a container: {error}");
        }
        for waiting in self.waiting.remove(id).unwrap_or_default() {
            match waiting {
                Waiting::Stop(reply) => {
                    self.reply_late(reply, Ok(()));
                }
                Waiting::Remove(reply) => {
                    let forgotten = self.forget(id, Force::Yes).await;
                    self.reply_late(reply, forgotten);
                }
            }
        }
    }

    async fn release(&mut self, id: &Id, code: Option<i32>) -> Result<(), ServiceError> {
        let host = self.observe_ports()?;
        let plan = controller::plan_exited(&self.state, &host, id.as_str(), code)?;
        self.carry_out(&plan).await
    }

    /// Removes what is left of a container; one that is gone already is fine.
    async fn forget(&mut self, id: &Id, force: Force) -> Result<(), ServiceError> {
        if !self.state.containers.contains_key(id) {
            return Ok(());
        }
        let host = self.observe_ports()?;
        let plan = controller::plan_container_remove(&self.state, &host, id.as_str(), force)?;
        self.carry_out(&plan).await
    }

    pub(super) async fn container_stop(&mut self, name: &str, stop: &Stop, reply: Reply<()>) {
        let (id, state) = match controller::find_own_container(&self.state, name, "stop") {
            Ok(container) => (container.id.clone(), container.state.clone()),
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        match state {
            ContainerState::Running(process) => {
                self.waiting.entry(id.clone()).or_default().push(Waiting::Stop(reply));
                let patience = Duration::from_secs(stop.timeout.into());
                tokio::spawn(end(process, patience, id, self.notices.clone()));
            }
            ContainerState::Created => {
                self.waiting.entry(id.clone()).or_default().push(Waiting::Stop(reply));
                self.ended(&id).await;
            }
            ContainerState::Joined | ContainerState::Exited { .. } => drop(reply.send(Ok(()))),
        }
    }

    pub(super) async fn container_remove(
        &mut self,
        name: &str,
        removal: Removal,
        reply: Reply<()>,
    ) {
        let (id, state) = match controller::find_container(&self.state, name) {
            Ok(container) => (container.id.clone(), container.state.clone()),
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        if let (ContainerState::Running(process), Removal::Force) = (state, removal) {
            self.waiting.entry(id.clone()).or_default().push(Waiting::Remove(reply));
            tokio::spawn(end(process, Duration::ZERO, id, self.notices.clone()));
        } else {
            let forgotten = self.forget(&id, Force::No).await;
            self.reply_late(reply, forgotten);
        }
    }
}

/// Ends a container's command: SIGTERM, patience, SIGKILL. The shim takes what
/// else the command left behind with it.
async fn end(process: Process, patience: Duration, id: Id, notices: mpsc::Sender<Notice>) {
    match Watched::open(process.shim, process.start_time) {
        Ok(Some(watched)) => {
            let asked = !patience.is_zero() && watched.signal(Signal::SIGTERM).is_ok();
            if !asked || timeout(patience, watched.ended()).await.is_err() {
                if let Ok(pid) = i32::try_from(process.pid) {
                    // The shim reaps it, so the number can't be another's.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                if timeout(GRACE, watched.ended()).await.is_err() {
                    let _ = watched.signal(Signal::SIGKILL);
                    let _ = timeout(GRACE, watched.ended()).await;
                }
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(container = id.short(), "failed to end a process: {error}");
        }
    }
    // The watcher tells too; whoever is first counts.
    let _ = notices.send(Notice::Ended(id)).await;
}
