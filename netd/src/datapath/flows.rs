//! Flows: listing them, ending them, and forgetting those that are over.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use netd_common::{
    abi::{Address, Family, Flow, FlowKey, PortKey, names},
    conntrack::{State, Timeouts},
    nat,
};

use super::{
    Error, batch,
    quotas::Quotas,
    tables::{failed, pinned},
};

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

/// Entries that are looked at once more and removed at a time: so few that next
/// to nothing can begin under the tuple of one between the two.
const AT_ONCE: usize = 32;

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
}

impl FlowTables {
    pub(super) fn open(ebpf: &mut Ebpf, pins: &Path) -> Result<Self, Error> {
        let flows = Table::open(ebpf, pins, names::FLOWS)?;
        let info = flows.data.info().map_err(failed(names::FLOWS))?;
        Ok(Self {
            flows,
            embryonic: Table::open(ebpf, pins, names::EMBRYONIC)?,
            quotas: Mutex::new(Quotas::open(pins)?),
            capacity: info.max_entries() as usize,
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
        let ((packets, bytes), (twin_packets, twin_bytes)) = (flow.counted(), twin.counted());
        FlowEntry {
            original,
            reply,
            flow: *flow,
            state: State::from_u8(flow.state),
            last_seen: flow.last_seen.max(twin.last_seen),
            packets: packets + twin_packets,
            bytes: bytes + twin_bytes,
        }
    }

    /// Ends the flows that `ends` names, one walk over both tables; the answer
    /// is how many entries there were.
    pub fn end(&self, ends: impl Fn(&FlowKey, &Flow) -> bool) -> Result<usize, Error> {
        let mut ended = 0;
        for table in [&self.flows, &self.embryonic] {
            table.thin_out(|keys, flows, over| {
                let entries = keys.iter().zip(flows).filter(|(key, flow)| ends(key, flow));
                over.extend(entries.map(|(key, _)| *key));
                ended += over.len();
            })?;
        }
        Ok(ended)
    }

    /// Forgets the pairs that were silent, in both directions, for longer than
    /// their state allows, and counts those that stay towards the quotas.
    /// `now` in seconds of `CLOCK_MONOTONIC`.
    pub fn sweep(&self, timeouts: &Timeouts, now: u32) -> Result<SweepReport, Error> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recount = quotas.recount();
        let (entries, expired) = self.flows.sweep(timeouts, now, |flow| {
            if recount.is_needed() && flow.has(Flow::ORIGINAL) {
                recount.add(flow);
            }
        })?;
        quotas.settle(&recount)?;
        drop(quotas);
        let (unanswered, given_up) = self.embryonic.sweep(timeouts, now, |_| ())?;
        let stay = entries.saturating_sub(expired);
        Ok(SweepReport {
            entries: entries + unanswered,
            expired: expired + given_up,
            percent: u32::try_from(stay * 100 / self.capacity.max(1)).unwrap_or(100),
        })
    }
}

impl Table {
    /// Gives the number of entries, and of those that were removed.
    fn sweep(
        &self,
        timeouts: &Timeouts,
        now: u32,
        mut stays: impl FnMut(&Flow),
    ) -> Result<(usize, usize), Error> {
        let (mut entries, mut expired) = (0, 0);
        let (mut silent, mut over, mut result) = (Vec::new(), Vec::new(), Ok(()));
        batch::walk(self.fd(), |keys: &[FlowKey], flows: &[Flow]| {
            entries += keys.len();
            silent.clear();
            for (key, flow) in keys.iter().zip(flows) {
                if is_over(key, flow, timeouts, now) {
                    silent.push(*key);
                } else {
                    stays(flow);
                }
            }
            for some in silent.chunks(AT_ONCE) {
                over.clear();
                for key in some {
                    // A connection may have begun under its tuple just now; or
                    // it has gone with its twin.
                    let Some(flow) = self.get(key) else { continue };
                    // A pair lives as long as either of its directions does.
                    let twin = nat::twin_key(key, &flow);
                    let other = self.get(&twin);
                    let twin_lives =
                        other.is_some_and(|other| !is_over(&twin, &other, timeouts, now));
                    if twin_lives || !is_over(key, &flow, timeouts, now) {
                        stays(&flow);
                        continue;
                    }
                    over.push(*key);
                    over.extend(other.map(|_| twin));
                }
                if !over.is_empty() && result.is_ok() {
                    result = batch::delete(self.fd(), &over);
                }
                expired += over.len();
            }
        })
        .and(result)
        .map_err(|source| Error::Walk { name: self.name, source })?;
        Ok((entries, expired))
    }

    /// Walks over the table and removes what `pick` adds to its last argument,
    /// some thousands at a time: between a look at an entry and its end lies
    /// no more than a moment.
    fn thin_out(
        &self,
        mut pick: impl FnMut(&[FlowKey], &[Flow], &mut Vec<FlowKey>),
    ) -> Result<(), Error> {
        let (mut over, mut result) = (Vec::new(), Ok(()));
        batch::walk(self.fd(), |keys, flows| {
            over.clear();
            pick(keys, flows, &mut over);
            if !over.is_empty() && result.is_ok() {
                result = batch::delete(self.fd(), &over);
            }
        })
        .and(result)
        .map_err(|source| Error::Walk { name: self.name, source })
    }
}

/// What the client of a flow asked for, and who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    port: PortKey,
    translated: bool,
    /// Whoever answers: of a published port's flow, its container.
    pub container: Address,
    pub client: Address,
}

impl Asked {
    /// The keys in `PORTS` by which the flow may have come about.
    pub fn ports(&self) -> impl Iterator<Item = PortKey> {
        let any = match self.port.addr.family() {
            Family::V4 => Address::ANY,
            Family::V6 => Address::ANY6,
        };
        // The port of any address is one of the host's: it is translated.
        let any = self.translated.then_some(PortKey { addr: any, ..self.port });
        std::iter::once(self.port).chain(any)
    }
}

/// What the flow of an entry, of either direction, was opened for.
pub fn asked(key: &FlowKey, flow: &Flow) -> Asked {
    let (src, dst) = nat::translated(key, flow);
    let port = |addr, port| PortKey { addr, port, proto: key.proto, pad: 0 };
    if flow.has(Flow::ORIGINAL) {
        Asked {
            port: port(key.dst, key.dport),
            translated: flow.has(Flow::REWRITE_DST),
            container: dst,
            client: key.src,
        }
    } else {
        Asked {
            port: port(src, flow.sport),
            translated: flow.has(Flow::REWRITE_SRC),
            container: key.src,
            client: dst,
        }
    }
}

fn is_over(key: &FlowKey, flow: &Flow, timeouts: &Timeouts, now: u32) -> bool {
    let timeout = timeouts.of(key.proto, State::from_u8(flow.state));
    // A packet may have come since `now` was read.
    now.saturating_sub(flow.last_seen) > timeout
}

#[cfg(test)]
mod tests {
    use netd_common::abi::{Be16, Zone, wire::PROTO_TCP};

    use super::*;

    const CLIENT: Address = Address::v4([192, 0, 2, 7]);
    const HOST: Address = Address::v4([192, 0, 2, 1]);
    const CONTAINER: Address = Address::v4([172, 17, 0, 2]);

    fn key(src: Address, sport: u16, dst: Address, dport: u16) -> FlowKey {
        let (sport, dport) = (Be16::from_host(sport), Be16::from_host(dport));
        FlowKey { src, dst, sport, dport, proto: PROTO_TCP, zone: Zone::Uplink as u8, pad: 0 }
    }

    fn flow(addr: Address, flags: u8, sport: u16, dport: u16) -> Flow {
        let (sport, dport) = (Be16::from_host(sport), Be16::from_host(dport));
        Flow { addr, flags, sport, dport, ..Flow::default() }
    }

    fn port(addr: Address, port: u16) -> PortKey {
        PortKey { addr, port: Be16::from_host(port), proto: PROTO_TCP, pad: 0 }
    }

    #[test]
    fn both_directions_tell_the_published_port_that_they_are_of() {
        let original = flow(CONTAINER, Flow::ORIGINAL | Flow::REWRITE_DST, 4000, 80);
        let there = asked(&key(CLIENT, 4000, HOST, 8080), &original);
        let reply = flow(HOST, Flow::REWRITE_SRC, 8080, 4000);
        let back = asked(&key(CONTAINER, 80, CLIENT, 4000), &reply);
        assert_eq!(there, back);
        assert_eq!((there.container, there.client), (CONTAINER, CLIENT));
        let ports: Vec<_> = there.ports().collect();
        assert_eq!(ports, [port(HOST, 8080), port(Address::ANY, 8080)]);
    }

    #[test]
    fn a_container_that_reaches_itself_is_the_client() {
        let gateway = Address::v4([172, 17, 0, 1]);
        let to_self = Flow::REWRITE_SRC | Flow::REWRITE_DST | Flow::TO_SELF;
        let original = flow(gateway, Flow::ORIGINAL | to_self, 4000, 80);
        let reply = flow(HOST, to_self, 8080, 4000);
        for asked in [
            asked(&key(CONTAINER, 4000, HOST, 8080), &original),
            asked(&key(CONTAINER, 80, gateway, 4000), &reply),
        ] {
            assert_eq!((asked.container, asked.client), (CONTAINER, CONTAINER));
            assert_eq!(asked.ports().next(), Some(port(HOST, 8080)));
        }
    }

    #[test]
    fn who_comes_to_a_containers_own_address_came_by_no_port_of_the_host() {
        let direct = flow(Address::ANY, Flow::ORIGINAL, 4000, 80);
        let asked = asked(&key(CLIENT, 4000, CONTAINER, 80), &direct);
        assert_eq!(asked.ports().collect::<Vec<_>>(), [port(CONTAINER, 80)]);
    }
}
