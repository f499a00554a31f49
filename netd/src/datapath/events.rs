//! The ring buffer of drops, from its reading end.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use netd_common::abi::{Event, names, wire};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Error, tables::take};

/// Readable as a file descriptor while it holds an event.
pub struct Events(RingBuf<MapData>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self(take(ebpf, names::EVENTS)?))
    }

    /// Tells when there are events. Call it within a tokio runtime.
    pub fn watch(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the ring owns its map's descriptor and never changes it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Takes the events that are there, at most `limit`.
    pub fn take(&mut self, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < limit
            && let Some(record) = self.0.next()
        {
            events.extend(wire::read::<Event>(&record, 0));
        }
        events
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
