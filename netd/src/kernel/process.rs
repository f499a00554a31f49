//! Processes that are not the agent's children, by pidfd: signalled and
//! waited for without ever mistaking another process for them.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::sys::signal::Signal;
use tokio::io::unix::AsyncFd;

use super::{Error, sys};

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
    Ok(stat(pid)?.map(|(_, start_time)| start_time))
}

/// Whether the process that started then is still running under `pid`.
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    // Zombies have ended; they only wait to be reaped.
    matches!(stat(pid), Ok(Some((state, started))) if started == start_time && !matches!(state, 'Z' | 'X'))
}

/// State and start time.
fn stat(pid: u32) -> io::Result<Option<(char, u64)>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse(&text)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("unexpected text in /proc/{pid}/stat"))),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parse(stat: &str) -> Option<(char, u64)> {
    // The name, in parentheses, may have any character in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // Fields 3 and 22 of proc_pid_stat(5).
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 424242 1 2 3";
        assert_eq!(parse(stat), Some(('S', 424_242)));
    }

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
