//! Programs on links. With TCX (Linux 6.6) each attachment is a pinned
//! `bpf_link`, which a later agent takes over without a gap; before that it is
//! a clsact filter with a priority and a handle of netd's own.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    os::fd::AsFd as _,
    path::PathBuf,
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp,
        links::{FdLink, Link as _},
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
    },
    util::KernelVersion,
};
use netd_common::verdict::Hook;
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{
    Error,
    link::{Amiss, Held},
    load::program_of,
    xdp::Early,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    Tcx,
    Clsact,
}

impl AttachMode {
    pub fn best() -> Self {
        match KernelVersion::current() {
            Ok(version) if version < KernelVersion::new(6, 6, 0) => Self::Clsact,
            _ => Self::Tcx,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Whether a program was on a link already, an earlier one in its place maybe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Already,
    Anew,
}

/// Priority and handle of netd's clsact filters, by which they are told from
/// those of others.
const PRIORITY: u16 = 0x6e64;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// The programs on a link.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The link's, when they were put there.
    ifindex: u32,
    pub(super) all: Vec<(Direction, &'static str)>,
    pub(super) in_filters: bool,
}

pub(super) struct Links {
    ebpf: Ebpf,
    pub(super) held: Held,
    /// XDP, by uplink.
    pub(super) early: Early,
    mode: AttachMode,
    /// By link, as this run attached them.
    pub(super) attached: BTreeMap<String, Programs>,
    /// With TCX: the links whose programs are in filters still, in the order in
    /// which they are to be settled.
    pub(super) unsettled: VecDeque<String>,
    pub(super) settling: Array<MapData, u32>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("attached", &self.attached).finish_non_exhaustive()
    }
}

impl Links {
    pub(super) fn new(
        ebpf: Ebpf,
        pins: PathBuf,
        mode: AttachMode,
        settling: Array<MapData, u32>,
    ) -> Self {
        Self {
            ebpf,
            held: Held::new(pins),
            early: Early::default(),
            mode,
            attached: BTreeMap::new(),
            unsettled: VecDeque::new(),
            settling,
        }
    }

    pub(super) fn mode(&self) -> AttachMode {
        self.mode
    }

    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    pub(super) fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        program_of(&mut self.ebpf, name)
    }

    pub(super) fn xdp_program(&mut self, name: &'static str) -> Result<&mut Xdp, Error> {
        program_of(&mut self.ebpf, name)
    }

    /// As [`Self::xdp_program`], with where its links are held.
    pub(super) fn xdp_program_and_links(
        &mut self,
        name: &'static str,
    ) -> Result<(&mut Xdp, &mut Held), Error> {
        let program = program_of(&mut self.ebpf, name)?;
        Ok((program, &mut self.held))
    }

    /// Attaches, or takes over what an earlier agent attached.
    pub(super) fn attach(
        &mut self,
        link: &str,
        direction: Direction,
        program: &'static str,
    ) -> Result<Placed, Error> {
        let ifindex = if_nametoindex(link).map_err(|_| Error::NoLink(link.to_owned()))?;
        let placed = match self.mode {
            AttachMode::Tcx => self.link_for_filter(link, ifindex, direction, program),
            AttachMode::Clsact => self.filter_for_link(link, ifindex, direction, program),
        }
        .map_err(not_attached(program, link))?;
        self.remember(link, ifindex, direction, program);
        Ok(placed)
    }

    pub(super) fn remember(
        &mut self,
        link: &str,
        ifindex: u32,
        direction: Direction,
        program: &'static str,
    ) {
        let in_filters = self.mode == AttachMode::Clsact;
        let programs = || Programs { ifindex, all: Vec::new(), in_filters };
        let programs = self.attached.entry(link.to_owned()).or_insert_with(programs);
        programs.ifindex = ifindex;
        if !programs.all.contains(&(direction, program)) {
            programs.all.push((direction, program));
        }
    }

    /// Attaches with a filter, whatever the mode.
    pub(super) fn filter(
        &mut self,
        link: &str,
        direction: Direction,
        program: &'static str,
    ) -> Result<Placed, Error> {
        clsact(self.program(program)?, link, direction).map_err(not_attached(program, link))
    }

    /// Attaches with a filter, in place of the link that an agent with TCX left
    /// if there is one.
    fn filter_for_link(
        &mut self,
        link: &str,
        ifindex: u32,
        direction: Direction,
        name: &'static str,
    ) -> anyhow::Result<Placed> {
        let pin = pin_name(ifindex, name);
        let is_linked = self.held.pins().join(&pin).exists();
        if is_linked {
            self.set_settling(ifindex)?;
        }
        let placed = clsact(self.program(name)?, link, direction);
        if is_linked && placed.is_ok() {
            self.held.let_go(pin)?;
        }
        // One that ended half way has left it so.
        if self.settling()? == ifindex {
            self.set_settling(0)?;
        }
        placed
    }

    /// Attaches with a link, in place of the filter that there is, if there is
    /// one: the settling program's, or that of an agent without TCX.
    fn link_for_filter(
        &mut self,
        link: &str,
        ifindex: u32,
        direction: Direction,
        name: &'static str,
    ) -> anyhow::Result<Placed> {
        let placed = self.tcx(link, ifindex, direction, name)?;
        let known = self.attached.get(link).filter(|programs| !programs.in_filters);
        // What this run has had in its place before has no filter.
        if !known.is_some_and(|programs| programs.all.contains(&(direction, name))) {
            remove_filter(link, direction)?;
        }
        Ok(placed)
    }

    /// Whether the link of a program is there, taken over from an earlier agent
    /// if need be.
    pub(super) fn is_there(&mut self, ifindex: u32, name: &'static str) -> anyhow::Result<bool> {
        let pin = pin_name(ifindex, name);
        if self.held.is_in_place(&pin) {
            return Ok(true);
        }
        let program: &mut SchedClassifier = program_of(&mut self.ebpf, name)?;
        Ok(self.held.take_over(&pin, program.fd()?.as_fd())?)
    }

    fn tcx(
        &mut self,
        link: &str,
        ifindex: u32,
        direction: Direction,
        name: &'static str,
    ) -> anyhow::Result<Placed> {
        if self.is_there(ifindex, name)? {
            return Ok(Placed::Already);
        }
        let pin = pin_name(ifindex, name);
        let path = self.held.pins().join(&pin);
        let program = self.program(name)?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(link, attach_type(direction), order)?;
        let attached: FdLink = program.take_link(id)?.try_into()?;
        attached.pin(path).context("failed to pin the link")?;
        self.held.hold(&pin).context("failed to open the link's pin")?;
        Ok(Placed::Anew)
    }

    /// Puts back what somebody has taken off or unpinned, and says what.
    /// `filters`: the indices of links that lost clsact filters, of anyone.
    pub(super) fn mend(&mut self, filters: &[u32]) -> Result<Vec<String>, Error> {
        let mut told = Vec::new();
        for (name, amiss) in self.held.mend()? {
            let (ifindex, program) = name.split_once('-').unwrap_or_default();
            let ifindex: u32 = ifindex.parse().unwrap_or_default();
            let at = if_indextoname(ifindex).map_or_else(
                |_| format!("link {ifindex}"),
                |link| format!("`{}`", link.to_string_lossy()),
            );
            match amiss {
                Amiss::Unpinned => told.push(format!("the pin of `{program}` on {at}")),
                // Its device has gone: whoever made it is to make it again.
                Amiss::Detached if !exists(ifindex) => {}
                Amiss::Detached => told.push(format!("the program `{program}` on {at}")),
            }
            self.early.forget(ifindex);
        }
        if told.is_empty() && filters.is_empty() {
            return Ok(told);
        }
        let hit = |link: &str| if_nametoindex(link).is_ok_and(|at| filters.contains(&at));
        let linked = !told.is_empty();
        let again = self
            .attached
            .iter()
            .filter(|(link, programs)| linked || (programs.in_filters && hit(link)));
        let again: Vec<_> =
            again.map(|(link, programs)| (link.clone(), programs.clone())).collect();
        for (link, Programs { all, in_filters, .. }) in again {
            for (direction, program) in all {
                // A moment later its end is told.
                let Ok(ifindex) = if_nametoindex(link.as_str()) else { continue };
                // Half way some are, and some are not.
                if self.mode == AttachMode::Tcx
                    && self.held.is_in_place(&pin_name(ifindex, program))
                {
                    continue;
                }
                let placed = if in_filters {
                    self.filter(&link, direction, program)
                } else {
                    self.attach(&link, direction, program)
                };
                match placed {
                    Ok(Placed::Anew) if in_filters => {
                        told.push(format!("the filter `{program}` on `{link}`"));
                    }
                    Ok(_) => {}
                    Err(_) if if_nametoindex(link.as_str()).is_err() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(told)
    }

    /// Takes netd's programs off `link`; it may be gone already.
    pub(super) fn detach(&mut self, link: &str) -> Result<(), Error> {
        let programs = self.attached.remove(link);
        self.unsettled.retain(|unsettled| unsettled != link);
        let Ok(ifindex) = if_nametoindex(link) else {
            return self.forget_gone(programs.map(|programs| programs.ifindex));
        };
        self.detach_xdp(ifindex)?;
        if let Some(programs) = programs.filter(|programs| programs.in_filters) {
            for (direction, _) in programs.all {
                // Those of a link that is going need no farewell.
                let _ = remove_filter(link, direction);
            }
        }
        self.let_go(ifindex)
    }

    /// Lets go of the programs of one link, an earlier agent's too.
    fn let_go(&mut self, ifindex: u32) -> Result<(), Error> {
        match self.mode {
            AttachMode::Tcx => Hook::TC
                .into_iter()
                .try_for_each(|hook| self.held.let_go(pin_name(ifindex, hook.name()))),
            AttachMode::Clsact => Ok(()),
        }
    }

    /// Takes netd's programs off every link, whoever put them there.
    pub(super) fn detach_all(&mut self) -> Result<(), Error> {
        let links: Vec<_> = self.attached.keys().cloned().collect();
        for link in links {
            self.detach(&link)?;
        }
        self.forget_xdp(|_| true);
        self.each_pin(|_| true)
    }

    /// Forgets a link that no longer exists; if it is not known which that was,
    /// every one.
    fn forget_gone(&mut self, ifindex: Option<u32>) -> Result<(), Error> {
        match ifindex {
            // Renamed, or another has its index by now.
            Some(ifindex) if exists(ifindex) => Ok(()),
            Some(ifindex) => {
                self.detach_xdp(ifindex)?;
                self.let_go(ifindex)
            }
            None => {
                self.forget_xdp(|ifindex| !exists(ifindex));
                self.each_pin(|ifindex| !exists(ifindex))
            }
        }
    }

    fn each_pin(&mut self, unwanted: impl Fn(u32) -> bool) -> Result<(), Error> {
        for name in self.held.names()? {
            let ifindex = name.to_str().and_then(|name| name.split('-').next()?.parse().ok());
            if ifindex.is_none_or(&unwanted) {
                self.held.let_go(name)?;
            }
        }
        Ok(())
    }
}

pub(super) fn exists(ifindex: u32) -> bool {
    // nix answers an unknown index with an empty name.
    if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

pub(super) fn pin_name(ifindex: u32, program: &str) -> String {
    format!("{ifindex}-{program}")
}

const fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// Why a program is not on a link.
pub(super) fn not_attached(
    program: &'static str,
    link: &str,
) -> impl FnOnce(anyhow::Error) -> Error {
    let link = link.to_owned();
    move |source| Error::Attach { program, link, source }
}

/// Removes netd's filter, if there is one.
fn remove_filter(link: &str, direction: Direction) -> anyhow::Result<()> {
    let at = attach_type(direction);
    let filter = SchedClassifierLink::attached(link, at, PRIORITY, HANDLE, None)?;
    match filter.detach() {
        // No filter, no qdisc, or no link.
        Err(ProgramError::NetlinkError(error))
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
        {
            Ok(())
        }
        result => result.context("failed to remove a filter"),
    }
}

fn clsact(
    program: &mut SchedClassifier,
    link: &str,
    direction: Direction,
) -> anyhow::Result<Placed> {
    let direction = attach_type(direction);
    // Already there, ours or not: both are fine.
    let _ = qdisc_add_clsact(link);
    // The kernel changes a filter's program in one step: no packet slips by.
    let earlier = SchedClassifierLink::attached(link, direction, PRIORITY, HANDLE, None)?;
    let (id, placed) = if let Ok(id) = program.attach_to_link(earlier) {
        (id, Placed::Already)
    } else {
        let options = TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            classid: None,
        });
        (program.attach_with_options(link, direction, options)?, Placed::Anew)
    };
    // The filter outlives the agent, as a pinned link would.
    std::mem::forget(program.take_link(id)?);
    Ok(placed)
}
