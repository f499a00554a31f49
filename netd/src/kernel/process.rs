//! Processes that are not the agent's children, by pidfd: signalled and
//! waited for without ever mistaking another process for them.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::signal::Signal;
use tokio::io::unix::AsyncFd;

use super::{Error, stat::Stat, sys};

/// A process that was alive when it was opened. It stays this process, also
/// when its pid has become another's.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Watched {
    /// The process of `pid` that started at `start_time` (field 22 of
    /// `/proc/PID/stat`, clock ticks since boot); `None` when it has ended.
    pub fn open(pid: u32, start_time: u64) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Process { pid, source };
        let pidfd = match sys::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // Only now: from here on the pidfd keeps the process that is asked.
        if !is_alive(pid, start_time) {
            return Ok(None);
        }
        let pidfd = sys::async_readable(pidfd).map_err(failed)?;
        Ok(Some(Self { pid, pidfd }))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; a process that has ended needs none.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match sys::pidfd_send_signal(self.pidfd.get_ref().as_fd(), signal as i32) {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::Process { pid: self.pid, source })
            }
            _ => Ok(()),
        }
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) -> Result<(), Error> {
        match self.pidfd.readable().await {
            // Never cleared: an ended process stays ended.
            Ok(mut guard) => {
                guard.retain_ready();
                Ok(())
            }
            Err(source) => Err(Error::Process { pid: self.pid, source }),
        }
    }
}

/// When the process of `pid` started; `None` when there is none.
pub fn start_time(pid: u32) -> io::Result<Option<u64>> {
    Ok(Stat::read(pid)?.map(|stat| stat.start_time))
}

/// Whether the process that started then is still running under `pid`.
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    let stat = Stat::read(pid).ok().flatten();
    stat.is_some_and(|stat| stat.start_time == start_time && stat.is_alive())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_and_a_reused_pid_is_not_taken_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let started = start_time(pid).unwrap().unwrap();
        assert!(is_alive(pid, started));
        assert!(!is_alive(pid, started + 1));
        assert!(Watched::open(pid, started + 1).unwrap().is_none());

        let process = Watched::open(pid, started).unwrap().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        process.ended().await.unwrap();
        assert!(!is_alive(pid, started), "a zombie has ended");
        child.wait().unwrap();
        assert!(Watched::open(pid, started).unwrap().is_none());
        process.signal(Signal::SIGKILL).unwrap();
        process.ended().await.unwrap();
    }
}
