//! From the object file to loaded programs and pinned maps.

use std::{path::Path, sync::Arc};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, ProgramArray},
    programs::{Program, SchedClassifier, Xdp},
};
use netd_common::{abi::names, verdict::Hook};

use super::{
    AttachMode, Datapath, Error, Links,
    allow::AllowLists,
    bpffs::Pins,
    events::Events,
    flows::FlowTables,
    quotas::Quotas,
    resize::Resize,
    sockets::SocketTable,
    tables::{Tables, pinned, take},
};

/// The eBPF object that netd's build made.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netd-ebpf.o"));

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Flows that can be tracked at a time; each takes two entries.
    pub flow_table_size: u32,
    /// `None`: TCX where the kernel has it (Linux 6.6).
    pub attach: Option<AttachMode>,
    pub others: Others,
}

/// What becomes of the programs of a netd with other maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are a reason not to load ours.
    Refuse,
    /// They run until ours are in place.
    Replace,
}

/// Entries of `FLOWS` for one of `EMBRYONIC`. What is not answered is there for
/// a moment: the time that an answer takes, or that a flood needs to push it out.
const EMBRYONIC_SHARE: u32 = 32;
/// In a small table too a flood shall leave an answer the time to come.
const EMBRYONIC_LEAST: u32 = 32_768;

impl Datapath {
    /// Loads the programs; maps that are pinned under `base` are used again.
    pub fn load(base: &Path, options: &Options) -> Result<Self, Error> {
        let pins = Pins::open(base, options.others)?;
        let entries = options.flow_table_size.saturating_mul(2);
        let embryonic = (entries / EMBRYONIC_SHARE).max(EMBRYONIC_LEAST);
        let resize = Resize::begin(pins.path(), entries, embryonic)?;
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(pins.path())
            .map_max_entries(names::FLOWS, entries)
            .map_max_entries(names::EMBRYONIC, embryonic)
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(OBJECT)
            .map_err(|error| Error::Load(Box::new(error)))?;
        // Before any program looks for a flow in the new table.
        match resize.copy()? {
            0 => {}
            entries => tracing::info!(entries, "flows have moved to a table of another size"),
        }
        let slow = Hook::TC.iter().filter_map(|hook| hook.slow_name());
        for name in Hook::TC.iter().map(|hook| hook.name()).chain(slow) {
            let program: &mut SchedClassifier = program_of(&mut ebpf, name)?;
            program.load().map_err(|source| Error::Program { name, source: Box::new(source) })?;
        }
        chain_slow_programs(&mut ebpf)?;
        load_xdp(&mut ebpf)?;
        let flows = Arc::new(FlowTables::open(pins.path())?);
        let tables = Tables::open(&mut ebpf)?;
        let is_new = tables.is_new()?;
        let allow = AllowLists::open(&mut ebpf)?;
        let quotas = Quotas::open(pins.path())?;
        let events = Some(Events::open(&mut ebpf)?);
        let sockets = Arc::new(SocketTable::open(pins.path())?);
        let settling = take(&mut ebpf, names::SETTLING)?;
        let maps = names::MAPS.into_iter().map(|name| Ok((name, pinned(pins.path(), name)?)));
        let maps = maps.collect::<Result<_, Error>>()?;
        let mode = options.attach.unwrap_or_else(AttachMode::best);
        let links = Links::new(ebpf, pins.links(), mode, settling);
        Ok(Self {
            links,
            tables,
            allow,
            quotas,
            flows,
            sockets,
            events,
            cgroup: None,
            pins,
            resize,
            maps,
            is_new,
        })
    }
}

/// A program of the object's, as what it is.
pub(super) fn program_of<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or(Error::Missing(name))
}

/// A kernel that does not take it has no XDP, and everything else.
fn load_xdp(ebpf: &mut Ebpf) -> Result<(), Error> {
    for name in names::XDP_PROGRAMS {
        let program: &mut Xdp = program_of(ebpf, name)?;
        if let Err(error) = program.load() {
            tracing::debug!("no XDP: {:#}", anyhow::Error::from(error));
        }
    }
    Ok(())
}

/// Puts the slow path's programs where the fast ones look for them. The map
/// is pinned, so they stay when the agent goes.
fn chain_slow_programs(ebpf: &mut Ebpf) -> Result<(), Error> {
    let mut slow: ProgramArray<MapData> = take(ebpf, names::SLOW)?;
    for hook in Hook::TC {
        let Some(name) = hook.slow_name() else {
            continue;
        };
        let program: &mut SchedClassifier = program_of(ebpf, name)?;
        let failed = |source| Error::Program { name, source: Box::new(source) };
        let fd = program
            .fd()
            .map_err(failed)?
            .try_clone()
            .map_err(|source| Error::Pins { path: name.into(), source })?;
        slow.set(hook as u32, &fd, 0)
            .map_err(|source| Error::Map { name: names::SLOW, source: Box::new(source) })?;
    }
    Ok(())
}
