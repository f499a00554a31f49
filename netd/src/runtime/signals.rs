//! Which signals are passed on to a container's command, and how they are
//! read: blocked and from a descriptor, so that none is lost between two
//! waits and each says who sent it.

use std::io;

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::RuntimeError;

const FORWARDED: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// How a process stands to the one that it supervises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// Both are in the process group that the terminal signals: what comes
    /// from the terminal has reached the other one already.
    Shared,
    /// Each has a group of its own.
    Apart,
}

#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
    mask: SigSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A child has ended.
    Child,
    /// To be passed on.
    Forward(Signal),
    /// The other one has it already.
    Delivered,
}

impl Signals {
    /// Blocks the forwarded signals and SIGCHLD in this thread; children
    /// inherit that.
    pub(super) fn block() -> Result<Self, RuntimeError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        for signal in FORWARDED {
            mask.add(signal);
        }
        let failed = |errno: nix::Error| RuntimeError::Signals(errno.into());
        mask.thread_block().map_err(failed)?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
        Ok(Self { fd, mask })
    }

    pub(super) fn unblock(self) -> Result<(), RuntimeError> {
        self.mask.thread_unblock().map_err(|errno| RuntimeError::Signals(errno.into()))
    }

    /// Waits for the next signal.
    pub(super) fn next(&self, grouping: Grouping) -> Result<Event, RuntimeError> {
        loop {
            match self.fd.read_signal() {
                Ok(Some(info)) => return Ok(event(info.ssi_signo, info.ssi_code, grouping)),
                Ok(None) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(RuntimeError::Signals(io::Error::from(errno))),
            }
        }
    }
}

/// The kernel itself sends what a key of the terminal means, and sends it to
/// the whole foreground group.
fn event(number: u32, code: i32, grouping: Grouping) -> Event {
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    match signal {
        Some(Signal::SIGCHLD) | None => Event::Child,
        Some(_) if grouping == Grouping::Shared && code == libc::SI_KERNEL => Event::Delivered,
        Some(signal) => Event::Forward(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_is_not_delivered_twice_and_kill_is_passed_on() {
        let number = Signal::SIGINT as u32;
        let seen = |code, grouping| event(number, code, grouping);
        let passed = Event::Forward(Signal::SIGINT);
        assert_eq!(seen(libc::SI_KERNEL, Grouping::Shared), Event::Delivered);
        assert_eq!(seen(libc::SI_USER, Grouping::Shared), passed);
        assert_eq!(seen(libc::SI_KERNEL, Grouping::Apart), passed);
        assert_eq!(seen(libc::SI_USER, Grouping::Apart), passed);
    }
}
