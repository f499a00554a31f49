//! Flows: listing them, ending them, and forgetting those that are over.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use netd_common::{
    abi::{Address, Be16, Flow, FlowKey, names},
    conntrack::{State, Timeouts},
    nat,
};

use super::{Error, batch, tables::pinned};

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
}

#[derive(Debug)]
pub struct FlowTables {
    flows: Table,
    embryonic: Table,
}

#[derive(Debug)]
struct Table {
    name: &'static str,
    data: MapData,
    entries: HashMap<MapData, FlowKey, Flow>,
}

impl Table {
    fn open(ebpf: &mut Ebpf, pins: &Path, name: &'static str) -> Result<Self, Error> {
        // By the pin, for the descriptor that batched calls need.
        let data = pinned(pins, name)?;
        Ok(Self { name, data, entries: super::tables::take(ebpf, name)? })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    fn get(&self, key: &FlowKey) -> Option<Flow> {
        self.entries.get(key, 0).ok()
    }

    fn walk(&self, mut visit: impl FnMut(&FlowKey, &Flow)) -> Result<(), Error> {
        batch::walk(self.fd(), |keys: &[FlowKey], flows: &[Flow]| {
            keys.iter().zip(flows).for_each(|(key, flow)| visit(key, flow));
        })
        .map_err(|source| Error::Walk { name: self.name, source })
    }

    fn delete(&self, keys: &[FlowKey]) -> Result<(), Error> {
        batch::delete(self.fd(), keys).map_err(|source| Error::Walk { name: self.name, source })
    }
}

impl FlowTables {
    pub(super) fn open(ebpf: &mut Ebpf, pins: &Path) -> Result<Self, Error> {
        Ok(Self {
            flows: Table::open(ebpf, pins, names::FLOWS)?,
            embryonic: Table::open(ebpf, pins, names::EMBRYONIC)?,
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
        Ok(found.into_iter().map(|(key, flow)| self.entry(key, &flow)).collect())
    }

    fn entry(&self, original: FlowKey, flow: &Flow) -> FlowEntry {
        let reply = nat::twin_key(&original, flow);
        let twin =
            self.flows.get(&reply).or_else(|| self.embryonic.get(&reply)).unwrap_or_default();
        FlowEntry {
            original,
            reply,
            flow: *flow,
            state: State::from_u8(flow.state),
            last_seen: flow.last_seen.max(twin.last_seen),
            packets: flow.packets + twin.packets,
            bytes: flow.bytes + twin.bytes,
        }
    }

    /// Ends the flows that `ends` names, one walk over both tables; the answer
    /// is how many entries there were.
    pub fn end(&self, ends: impl Fn(&FlowKey, &Flow) -> bool) -> Result<usize, Error> {
        let mut ended = 0;
        for table in [&self.flows, &self.embryonic] {
            let mut keys = Vec::new();
            table.walk(|key, flow| {
                if ends(key, flow) {
                    keys.push(*key);
                }
            })?;
            ended += keys.len();
            table.delete(&keys)?;
        }
        Ok(ended)
    }

    /// Forgets the pairs that were silent, in both directions, for longer than
    /// their state allows. `now` in seconds of `CLOCK_MONOTONIC`.
    pub fn sweep(&self, timeouts: &Timeouts, now: u32) -> Result<SweepReport, Error> {
        let mut report = SweepReport::default();
        for table in [&self.flows, &self.embryonic] {
            let mut silent = Vec::new();
            table.walk(|key, flow| {
                report.entries += 1;
                if is_over(key, flow, timeouts, now) {
                    silent.push((*key, nat::twin_key(key, flow)));
                }
            })?;
            // A pair lives as long as either of its directions does.
            let over: Vec<_> = silent
                .into_iter()
                .filter(|(_, twin)| {
                    table.get(twin).is_none_or(|flow| is_over(twin, &flow, timeouts, now))
                })
                .map(|(key, _)| key)
                .collect();
            report.expired += over.len();
            table.delete(&over)?;
        }
        Ok(report)
    }
}

/// The published port that an entry's flow came by: protocol, host port and
/// the container's address. `None`: it came by none.
pub fn published_by(key: &FlowKey, flow: &Flow) -> Option<(u8, Be16, Address)> {
    let (by_port, port, container) = if flow.has(Flow::ORIGINAL) {
        (flow.has(Flow::REWRITE_DST), key.dport, nat::translated(key, flow).1)
    } else {
        (flow.has(Flow::REWRITE_SRC), flow.sport, key.src)
    };
    by_port.then_some((key.proto, port, container))
}

fn is_over(key: &FlowKey, flow: &Flow, timeouts: &Timeouts, now: u32) -> bool {
    let timeout = timeouts.of(key.proto, State::from_u8(flow.state));
    // A packet may have come since `now` was read.
    now.saturating_sub(flow.last_seen) > timeout
}
