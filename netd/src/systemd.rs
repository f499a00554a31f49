//! What systemd gives a service, and what it wants to hear from it: sockets by
//! their names (`sd_listen_fds(3)`), the state and the signs of life
//! (`sd_notify(3)`). Without systemd all of it does nothing.

use std::{env, io, os::unix::net::UnixListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// `FileDescriptorName=` of the control API's socket.
pub const CONTROL: &str = "control";
/// `FileDescriptorName=` of Docker's plugin socket.
pub const PLUGIN: &str = "docker-plugin";

/// The sockets that this process was started with, by name.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, UnixListener)>);

impl Sockets {
    /// Takes them out of the environment, so that they are found once and no
    /// child looks for them. Call it before there are threads.
    pub fn inherited() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            let name = names.next().unwrap_or_default().to_owned();
            if let Some(socket) = given.take_unix_listener(index)? {
                sockets.push((name, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The first one of this name.
    pub fn take(&mut self, name: &str) -> Option<UnixListener> {
        let index = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// The service answers; others that wait for it may start.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("failed to notify systemd: {error}");
    }
}

/// Signs of life, where the unit has `WatchdogSec=`: systemd kills a service
/// that misses two of them.
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Call it within a tokio runtime.
    pub fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|limit| {
            let mut due = interval((limit / 2).max(Duration::from_millis(1)));
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            due
        }))
    }

    /// When the next sign is due; never where none is wanted. Cancel safe.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    /// To be called from the loop that must not be stuck.
    pub fn feed(&self, status: &str) {
        tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}
