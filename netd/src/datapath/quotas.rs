//! `QUOTAS` and `TALLIES`: how many flows a container may have, and has.

use std::{collections::HashMap, fmt, path::Path};

use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use netd_common::{
    abi::{Flow, Quota, Tally, names},
    pipeline::quota::Parties,
};

use super::{
    Error,
    bpf::{EXIST, NOEXIST},
    tables::{failed, gone, pinned},
};

pub struct Quotas {
    quotas: BpfHashMap<MapData, u32, Quota>,
    tallies: BpfHashMap<MapData, u32, Tally>,
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").finish_non_exhaustive()
    }
}

impl Quotas {
    pub(super) fn open(pins: &Path) -> Result<Self, Error> {
        let map = |name| Ok::<_, Error>(Map::HashMap(pinned(pins, name)?));
        Ok(Self {
            quotas: map(names::QUOTAS)?.try_into().map_err(failed(names::QUOTAS))?,
            tallies: map(names::TALLIES)?.try_into().map_err(failed(names::TALLIES))?,
        })
    }

    /// Lets the container behind a link have so many answered flows; 0: any
    /// number. What has been counted stays counted.
    pub fn put(&mut self, ifindex: u32, max: u32) -> Result<(), Error> {
        if max == 0 {
            return self.remove(ifindex);
        }
        exists(self.tallies.insert(ifindex, Tally::default(), NOEXIST))
            .map_err(failed(names::TALLIES))?;
        let forgotten = self.quotas.get(&ifindex, 0).map_or(0, |quota| quota.forgotten);
        self.quotas
            .insert(ifindex, Quota { max, forgotten, pad: 0 }, 0)
            .map_err(failed(names::QUOTAS))
    }

    pub fn remove(&mut self, ifindex: u32) -> Result<(), Error> {
        gone(self.quotas.remove(&ifindex)).map_err(failed(names::QUOTAS))?;
        gone(self.tallies.remove(&ifindex)).map_err(failed(names::TALLIES))
    }

    /// Removes what is not of one of these links.
    pub fn retain(&mut self, wanted: impl Fn(u32) -> bool) -> Result<(), Error> {
        let known = self.quotas.keys().chain(self.tallies.keys()).flatten();
        let stale: Vec<_> = known.filter(|ifindex| !wanted(*ifindex)).collect();
        stale.into_iter().try_for_each(|ifindex| self.remove(ifindex))
    }

    /// Begins to count anew what is there.
    pub(super) fn recount(&self) -> Recount {
        let counted = |ifindex| Some((ifindex, self.tallies.get(&ifindex, 0).ok()?.answered));
        Recount {
            counted: self.quotas.keys().flatten().filter_map(counted).collect(),
            there: HashMap::new(),
        }
    }

    /// What was counted and was not there has been forgotten.
    pub(super) fn settle(&mut self, recount: &Recount) -> Result<(), Error> {
        for (ifindex, counted) in &recount.counted {
            let there = recount.there.get(ifindex).copied().unwrap_or(0);
            let Ok(quota) = self.quotas.get(ifindex, 0) else { continue };
            let forgotten = counted.wrapping_sub(there);
            if forgotten != quota.forgotten {
                // A container that has gone meanwhile stays gone.
                gone(self.quotas.insert(ifindex, Quota { forgotten, ..quota }, EXIST))
                    .map_err(failed(names::QUOTAS))?;
            }
        }
        Ok(())
    }
}

/// The flows that each container with a quota has.
pub(super) struct Recount {
    /// By the datapath, before the walk began.
    counted: Vec<(u32, u64)>,
    there: HashMap<u32, u64>,
}

impl Recount {
    pub(super) fn is_needed(&self) -> bool {
        !self.counted.is_empty()
    }

    /// Counts a flow, by the direction that opened it.
    pub(super) fn add(&mut self, original: &Flow) {
        for ifindex in Parties::of(original).links() {
            *self.there.entry(ifindex).or_default() += 1;
        }
    }
}

/// That it is there already is no failure.
fn exists(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
        {
            Ok(())
        }
        result => result,
    }
}
