//! Flows: listing them, ending them, and forgetting those that are over.

mod asked;
mod table;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use netd_common::{
    abi::{Flow, FlowKey, names},
    conntrack::{State, Timeouts},
    nat,
};

pub use self::asked::{Asked, asked};
use self::table::Table;
use super::{Error, quotas::Quotas};

/// Both directions of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// As the opener's packets arrive.
    pub original: FlowKey,
    /// As the answers arrive.
    pub reply: FlowKey,
    /// The opener's direction.
    pub flow: Flow,
    pub state: State,
    /// Seconds of `CLOCK_MONOTONIC`, the later of the two directions'.
    pub last_seen: u32,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Entries that were there.
    pub entries: usize,
    /// Entries that were removed.
    pub expired: usize,
    /// How full `FLOWS` is, what was removed not counted.
    pub percent: u32,
}

#[derive(Debug)]
pub struct FlowTables {
    flows: Table,
    embryonic: Table,
    quotas: Mutex<Quotas>,
    /// Entries that `FLOWS` has room for.
    capacity: usize,
}

impl FlowTables {
    /// Of the datapath whose maps are pinned in `pins`.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let flows = Table::open(pins, names::FLOWS)?;
        let capacity = flows.capacity()?;
        Ok(Self {
            flows,
            embryonic: Table::open(pins, names::EMBRYONIC)?,
            quotas: Mutex::new(Quotas::open(pins)?),
            capacity,
        })
    }

    /// All flows, answered or not.
    pub fn list(&self) -> Result<Vec<FlowEntry>, Error> {
        let mut found = Vec::new();
        for table in [&self.flows, &self.embryonic] {
            table.walk(|key, flow| {
                if flow.has(Flow::ORIGINAL) {
                    found.push((*key, *flow));
                }
            })?;
        }
        found.into_iter().map(|(key, flow)| self.entry(key, &flow)).collect()
    }

    fn entry(&self, original: FlowKey, flow: &Flow) -> Result<FlowEntry, Error> {
        let reply = nat::twin_key(&original, flow);
        let twin = match self.flows.get(&reply)? {
            None => self.embryonic.get(&reply)?,
            found => found,
        };
        let twin = twin.unwrap_or_default();
        let ((packets, bytes), (twin_packets, twin_bytes)) = (flow.counted(), twin.counted());
        Ok(FlowEntry {
            original,
            reply,
            flow: *flow,
            state: State::from_u8(flow.state),
            last_seen: flow.last_seen.max(twin.last_seen),
            packets: packets + twin_packets,
            bytes: bytes + twin_bytes,
        })
    }

    /// Ends the flows that `ends` names, which names both directions of one or
    /// neither, in one walk over both tables; the answer is how many entries
    /// there were.
    pub fn end(&self, ends: impl Fn(&FlowKey, &Flow) -> bool) -> Result<usize, Error> {
        let mut ended = 0;
        for table in [&self.flows, &self.embryonic] {
            ended += table.reap(&ends, |_| ())?.ended;
        }
        Ok(ended)
    }

    /// Forgets the pairs that were silent, in both directions, for longer than
    /// their state allows, and counts those that stay towards the quotas.
    /// `now` in seconds of `CLOCK_MONOTONIC`.
    pub fn sweep(&self, timeouts: &Timeouts, now: u32) -> Result<SweepReport, Error> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recount = quotas.recount();
        let is_over = |key: &FlowKey, flow: &Flow| is_over(key, flow, timeouts, now);
        let answered = self.flows.reap(is_over, |flow| {
            if recount.is_needed() && flow.has(Flow::ORIGINAL) {
                recount.add(flow);
            }
        })?;
        quotas.settle(&recount)?;
        drop(quotas);
        let embryonic = self.embryonic.reap(is_over, |_| ())?;
        let stay = answered.entries.saturating_sub(answered.ended);
        Ok(SweepReport {
            entries: answered.entries + embryonic.entries,
            expired: answered.ended + embryonic.ended,
            percent: u32::try_from(stay * 100 / self.capacity.max(1)).unwrap_or(100),
        })
    }
}

fn is_over(key: &FlowKey, flow: &Flow, timeouts: &Timeouts, now: u32) -> bool {
    let timeout = timeouts.of(key.proto, State::from_u8(flow.state));
    // A packet may have come since `now` was read.
    now.saturating_sub(flow.last_seen) > timeout
}
