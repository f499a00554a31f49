//! One of the two tables of flows, and the end of the pairs in it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::maps::MapData;
use netd_common::{
    abi::{Flow, FlowKey},
    nat,
};

use crate::datapath::{
    Error, bpf,
    tables::{failed, pinned},
};

#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    map: MapData,
}

/// Of one walk over a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reaped {
    /// Entries that were there.
    pub(super) entries: usize,
    /// Entries that were removed.
    pub(super) ended: usize,
}

/// What became of the pair of an entry.
enum Fate {
    /// It was gone already, or is now: so many entries.
    Ended(usize),
    Stays(Flow),
}

impl Table {
    pub(super) fn open(pins: &Path, name: &'static str) -> Result<Self, Error> {
        Ok(Self { name, map: pinned(pins, name)? })
    }

    /// Entries that it has room for.
    pub(super) fn capacity(&self) -> Result<usize, Error> {
        let info = self.map.info().map_err(failed(self.name))?;
        Ok(info.max_entries() as usize)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    pub(super) fn get(&self, key: &FlowKey) -> Result<Option<Flow>, Error> {
        bpf::get(self.fd(), key).map_err(|source| self.failed(source))
    }

    fn take(&self, key: &FlowKey) -> Result<Option<Flow>, Error> {
        bpf::take(self.fd(), key).map_err(|source| self.failed(source))
    }

    fn put_back(&self, key: &FlowKey, flow: &Flow) -> Result<(), Error> {
        bpf::put_new(self.fd(), key, flow).map(drop).map_err(|source| self.failed(source))
    }

    pub(super) fn walk(&self, mut visit: impl FnMut(&FlowKey, &Flow)) -> Result<(), Error> {
        bpf::walk(self.fd(), |keys: &[FlowKey], flows: &[Flow]| {
            keys.iter().zip(flows).for_each(|(key, flow)| visit(key, flow));
        })
        .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Walk { name: self.name, source }
    }

    /// Ends the pairs of which `is_over` is true, and shows those that stay to
    /// `stays`, each of their directions by itself.
    pub(super) fn reap(
        &self,
        is_over: impl Fn(&FlowKey, &Flow) -> bool,
        mut stays: impl FnMut(&Flow),
    ) -> Result<Reaped, Error> {
        let (mut reaped, mut result) = (Reaped::default(), Ok(()));
        self.walk(|key, flow| {
            reaped.entries += 1;
            if !is_over(key, flow) {
                return stays(flow);
            }
            match self.end_pair(key, &is_over) {
                Ok(Fate::Ended(entries)) => reaped.ended += entries,
                Ok(Fate::Stays(flow)) => stays(&flow),
                Err(error) => {
                    stays(flow);
                    result = Err(error);
                }
            }
        })?;
        result.map(|()| reaped)
    }

    /// Ends the pair of which an entry was over a moment ago. A packet may revive
    /// it, or begin a connection under its tuple, at any time: so it is looked at
    /// once more, and what was taken out, as it was to the last, tells whether it
    /// has to go back.
    fn end_pair(
        &self,
        key: &FlowKey,
        is_over: impl Fn(&FlowKey, &Flow) -> bool,
    ) -> Result<Fate, Error> {
        let Some(flow) = self.get(key)? else {
            // With its twin.
            return Ok(Fate::Ended(0));
        };
        let twin_key = nat::twin_key(key, &flow);
        let twin = self.get(&twin_key)?.filter(|twin| nat::is_twin(&twin_key, twin, key));
        // A pair lives as long as either of its directions does.
        if !is_over(key, &flow) || twin.is_some_and(|twin| !is_over(&twin_key, &twin)) {
            return Ok(Fate::Stays(flow));
        }
        // The reply's goes first: a SYN that finds the original's begins anew
        // under the port that it had.
        let (own, twin) = (Some(*key), twin.map(|_| twin_key));
        let keys = if flow.has(Flow::ORIGINAL) { [twin, own] } else { [own, twin] };
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys.into_iter().flatten() {
            let Some(flow) = self.take(&key)? else { continue };
            taken.push((key, flow));
            if !is_over(&key, &flow) {
                taken.iter().try_for_each(|(key, flow)| self.put_back(key, flow))?;
                return Ok(Fate::Stays(flow));
            }
        }
        Ok(Fate::Ended(taken.len()))
    }
}
