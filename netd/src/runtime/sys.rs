//! The two things that neither std nor nix can do safely. Nothing else here.

use std::{
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
};

/// Takes the descriptor that the parent handed down by its number, and keeps
/// it from the processes that are started from here.
pub(super) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the parent opened `fd` for this process and named it on the
    // command line; nothing here has taken it before, and it is called once.
    // A number that is not open fails in the next line.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(fd),
        Err(errno) => {
            // Closing what is not open would abort.
            std::mem::forget(fd);
            Err(errno.into())
        }
    }
}

/// Makes `command` start with no signal blocked, and die with the thread that
/// starts it.
pub(super) fn tie_to_parent(command: &mut Command) {
    let reset = || {
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed:
    // these are sigprocmask and prctl, and neither allocates nor locks.
    unsafe { command.pre_exec(reset) };
}
