//! Faults that tests ask for by the environment, in debug builds alone: a
//! release build has none of it.

/// `NETD_CRASH_AFTER=N`: the agent is killed, as by SIGKILL, after N steps of
/// plans; with 0 right after the intent is on disk. The commit is a step too.
/// `NETD_CRASH_UNDO_AFTER=N`: likewise, after N steps of undoing what an
/// earlier agent left.
#[derive(Debug, Default)]
pub(super) struct Crash {
    #[cfg(debug_assertions)]
    left: Option<u32>,
    #[cfg(debug_assertions)]
    undo_left: Option<u32>,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Plan,
    Undo,
}

#[cfg(debug_assertions)]
impl Crash {
    pub(super) fn from_environment() -> Self {
        let number = |key| std::env::var(key).ok().and_then(|value| value.parse().ok());
        Self { left: number("NETD_CRASH_AFTER"), undo_left: number("NETD_CRASH_UNDO_AFTER") }
    }

    /// A place to be killed at.
    pub(super) fn point(&mut self, of: Of) {
        let left = match of {
            Of::Plan => &mut self.left,
            Of::Undo => &mut self.undo_left,
        };
        match left {
            None => {}
            Some(0) => {
                // Nothing is flushed, dropped or answered.
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            }
            Some(left) => *left -= 1,
        }
    }
}

#[cfg(not(debug_assertions))]
#[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "as in a debug build")]
impl Crash {
    pub(super) fn from_environment() -> Self {
        Self {}
    }

    pub(super) fn point(&mut self, _: Of) {}
}

/// The host's boot id, or `NETD_BOOT_ID`: a boot that is simulated.
pub(super) fn boot_id() -> Result<String, crate::kernel::Error> {
    #[cfg(debug_assertions)]
    if let Ok(id) = std::env::var("NETD_BOOT_ID") {
        return Ok(id);
    }
    crate::kernel::sysctl::boot_id()
}
