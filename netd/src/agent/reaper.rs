//! The thread that ends the flows of what is gone, and forgets those that are
//! over. A table of a million flows takes it a moment; the actor goes on, and
//! waits only where something is about to take the place of what is ending.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use netd_common::{
    abi::{SocketKey, SocketPeer},
    conntrack::Timeouts,
};
use tokio::sync::watch;

use super::{metrics::Swept, over::Over, work::monotonic};
use crate::{
    datapath::{Datapath, SocketTable, flows::FlowTables},
    kernel::{
        self,
        sockdiag::{self, Connected},
    },
};

/// The actor's side.
#[derive(Debug)]
pub(super) struct Reaper {
    jobs: Sender<Job>,
    /// The number of the last job that was carried out.
    done: watch::Receiver<u64>,
    last: u64,
    /// Those that may not have been carried out yet.
    ending: VecDeque<(u64, Arc<Over>)>,
}

#[derive(Debug)]
struct Job {
    number: u64,
    over: Arc<Over>,
}

impl Reaper {
    pub(super) fn start(datapath: &Datapath, swept: Arc<Swept>) -> Self {
        let ((jobs, todo), (tell, done)) = (channel(), watch::channel(0));
        let scythe = Scythe {
            flows: Arc::clone(&datapath.flows),
            sockets: Arc::clone(&datapath.sockets),
            swept,
            can_end_sockets: true,
            was_full: false,
        };
        let run = move || scythe.run(&todo, &tell);
        if let Err(error) = thread::Builder::new().name("flows".to_owned()).spawn(run) {
            tracing::error!("failed to start the thread that ends flows: {error}");
        }
        Self { jobs, done, last: 0, ending: VecDeque::new() }
    }

    /// Has the flows ended that `over` names, and the host's own sockets that
    /// are connected by a published port which is no more.
    pub(super) fn end(&mut self, over: Over) {
        if !over.is_empty() {
            self.hand_over(over);
        }
    }

    /// As [`Reaper::end`], of the sockets alone.
    pub(super) fn end_sockets(&mut self) {
        self.hand_over(Over::default());
    }

    fn hand_over(&mut self, over: Over) {
        self.drop_done();
        self.last += 1;
        let (number, over) = (self.last, Arc::new(over));
        self.ending.push_back((number, Arc::clone(&over)));
        if self.jobs.send(Job { number, over }).is_err() {
            tracing::error!("flows are not ended: the thread that does it is gone");
        }
    }

    fn drop_done(&mut self) {
        let done = *self.done.borrow();
        self.ending.retain(|(number, _)| *number > done);
    }

    /// Waits until nothing of what `concerns` picks is still to be ended.
    pub(super) async fn settle(&mut self, concerns: impl Fn(&Over) -> bool) {
        self.drop_done();
        let last = self.ending.iter().rev().find(|(_, over)| concerns(over));
        if let Some((number, _)) = last {
            wait(self.done.clone(), *number).await;
        }
    }

    /// Waits, when it is polled, until all is ended that was handed over by
    /// now; `None`: it is.
    pub(super) fn ended(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (done, last) = (self.done.clone(), self.last);
        let is_done = *done.borrow() >= last;
        (!is_done).then(|| wait(done, last))
    }
}

async fn wait(mut done: watch::Receiver<u64>, number: u64) {
    // An error: the thread is gone, and said so.
    let _ = done.wait_for(|done| *done >= number).await;
}

/// The thread's side.
struct Scythe {
    flows: Arc<FlowTables>,
    sockets: Arc<SocketTable>,
    /// For the metrics.
    swept: Arc<Swept>,
    /// As far as is known of this kernel.
    can_end_sockets: bool,
    was_full: bool,
}

impl Scythe {
    fn run(mut self, jobs: &Receiver<Job>, done: &watch::Sender<u64>) {
        let mut due = Instant::now();
        loop {
            match jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    // One walk for all that has come together.
                    let batch: Vec<_> = std::iter::once(first).chain(jobs.try_iter()).collect();
                    self.end(&batch);
                    let last = batch.iter().map(|job| job.number).max().unwrap_or(0);
                    done.send_replace(last);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let pause = self.sweep();
                    due = Instant::now() + pause;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn end(&mut self, batch: &[Job]) {
        // A program that has read the old tables may still open a flow.
        if let Err(error) = kernel::wait_for_programs() {
            tracing::debug!("failed to wait for the datapath's programs: {error}");
        }
        let over: Vec<_> = batch.iter().map(|job| &job.over).filter(|it| !it.is_empty()).collect();
        if !over.is_empty() {
            match self.flows.end(|key, flow| over.iter().any(|over| over.has(key, flow))) {
                Ok(count) if count > 0 => tracing::debug!(count, "ended flows"),
                Ok(_) => {}
                Err(error) => tracing::error!("failed to end flows: {error}"),
            }
        }
        self.end_sockets();
    }

    /// They would hang, or meet a stranger.
    fn end_sockets(&mut self) {
        let stray = match self.sockets.stray() {
            Ok(stray) if stray.is_empty() => return,
            Ok(stray) => stray,
            Err(error) => return tracing::error!("failed to find the host's sockets: {error}"),
        };
        let connected: Vec<_> = stray.iter().map(|(key, asked)| connected(key, asked)).collect();
        match sockdiag::end(&connected) {
            Ok(count) => tracing::debug!(count, "ended sockets of the host's"),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                if std::mem::replace(&mut self.can_end_sockets, false) {
                    tracing::warn!(
                        "this kernel ends no sockets (CONFIG_INET_DIAG_DESTROY): those of the \
                         host's that are connected to a port outlive it"
                    );
                }
            }
            Err(error) => tracing::error!("failed to end sockets of the host's: {error}"),
        }
        let keys: Vec<_> = stray.into_iter().map(|(key, _)| key).collect();
        if let Err(error) = self.sockets.forget(&keys) {
            tracing::error!("failed to forget the host's sockets: {error}");
        }
    }

    /// Forgets what is over, and says when to look again.
    fn sweep(&mut self) -> Duration {
        let mut pause = pause(0);
        match self.flows.sweep(&Timeouts::default(), monotonic()) {
            Ok(report) => {
                self.swept.note(&report);
                let (entries, expired, percent) = (report.entries, report.expired, report.percent);
                pause = self::pause(percent);
                if expired > 0 {
                    tracing::debug!(entries, expired, percent, "swept the flow tables");
                }
                let is_full = percent >= FULL;
                if is_full && !self.was_full {
                    tracing::warn!(
                        percent,
                        "the flow table is nearly full: new connections will be dropped \
                         (flow_table_full); raise flow-table-size, or give networks a quota with \
                         -o netd.max_flows=N"
                    );
                }
                // Once more only after it has been clearly better.
                self.was_full = is_full || self.was_full && percent >= FULL - 10;
            }
            Err(error) => tracing::error!("failed to sweep the flow tables: {error}"),
        }
        match self.sockets.sweep(sockdiag::alive) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "forgot sockets of the host's"),
            Err(error) => tracing::error!("failed to sweep the host's sockets: {error}"),
        }
        pause
    }
}

/// Percent of the table from which on the user is told.
const FULL: u32 = 95;

/// How long what is over may lie there, by how full the table is. Closed
/// connections, which last 10 s, are what fills it under load: the fuller, the
/// sooner their room is needed.
const fn pause(percent: u32) -> Duration {
    Duration::from_millis(match percent {
        0..50 => 10_000,
        50..75 => 5_000,
        75..90 => 2_000,
        _ => 1_000,
    })
}

fn connected(key: &SocketKey, asked: &SocketPeer) -> Connected {
    Connected {
        cookie: key.cookie,
        protocol: asked.proto,
        address: key.addr.into(),
        port: key.port.to_host(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netd_common::abi::Address;

    use super::*;

    fn reaper() -> (Reaper, Receiver<Job>, watch::Sender<u64>) {
        let ((jobs, todo), (tell, done)) = (channel(), watch::channel(0));
        (Reaper { jobs, done, last: 0, ending: VecDeque::new() }, todo, tell)
    }

    fn over(address: [u8; 4]) -> Over {
        Over { addresses: [Address::v4(address)].into(), ..Over::default() }
    }

    fn concerns(address: [u8; 4]) -> impl Fn(&Over) -> bool {
        move |over| over.addresses.contains(&Ipv4Addr::from(address).into())
    }

    const WEB: [u8; 4] = [172, 17, 0, 2];
    const DB: [u8; 4] = [172, 17, 0, 3];

    #[tokio::test]
    async fn only_who_takes_the_place_of_what_ends_waits_for_it() {
        let (mut reaper, _todo, tell) = reaper();
        reaper.end(over(WEB));
        reaper.end(over(DB));
        // Ready at once.
        reaper.settle(concerns([172, 17, 0, 4])).await;
        tell.send_replace(1);
        reaper.settle(concerns(WEB)).await;
        let waits = tokio::time::timeout(Duration::from_millis(1), reaper.settle(concerns(DB)));
        assert!(waits.await.is_err());
        tell.send_replace(2);
        reaper.settle(concerns(DB)).await;
        assert!(reaper.ended().is_none());
    }

    #[tokio::test]
    async fn a_thread_that_is_gone_keeps_nobody_waiting() {
        let (mut reaper, _, tell) = reaper();
        reaper.end(over(WEB));
        drop(tell);
        reaper.settle(concerns(WEB)).await;
    }

    #[test]
    fn nothing_is_ended_for_a_plan_that_removed_nothing() {
        let (mut reaper, todo, _tell) = reaper();
        reaper.end(Over::default());
        assert!(todo.try_recv().is_err() && reaper.ended().is_none());
    }

    #[test]
    fn the_fuller_the_table_the_shorter_the_pause() {
        let pauses: Vec<_> = [0, 50, 75, 90, 100].map(pause).into();
        assert!(pauses.is_sorted_by(|longer, shorter| longer >= shorter));
        assert!(pause(100) <= Duration::from_secs(1));
    }
}
