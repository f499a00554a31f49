//! Programs on links. With TCX (Linux 6.6) each attachment is a pinned
//! `bpf_link`, which a later agent takes over without a gap; before that it is
//! a clsact filter with a priority and a handle of netd's own.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType, Xdp,
        links::{FdLink, PinnedLink},
        tc::{
            NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
            qdisc_detach_program,
        },
    },
    util::KernelVersion,
};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{Error, bpffs::failed, xdp::Early};

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

/// Priority and handle of netd's clsact filters, by which they are told from
/// those of others.
const PRIORITY: u16 = 0x6e64;
const HANDLE: TcHandle = TcHandle::new(0, 1);

pub(super) struct Links {
    ebpf: Ebpf,
    pins: PathBuf,
    /// XDP, by uplink.
    pub(super) early: Early,
    mode: AttachMode,
    /// Programs by link, as this run attached them.
    attached: BTreeMap<String, Vec<(Direction, &'static str)>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("attached", &self.attached).finish_non_exhaustive()
    }
}

impl Links {
    pub(super) fn new(ebpf: Ebpf, pins: PathBuf, mode: AttachMode) -> Self {
        Self { ebpf, pins, early: Early::default(), mode, attached: BTreeMap::new() }
    }

    pub(super) fn mode(&self) -> AttachMode {
        self.mode
    }

    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    pub(super) fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(Error::Missing(name))
    }

    pub(super) fn xdp_program(&mut self, name: &'static str) -> Result<&mut Xdp, Error> {
        self.ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(Error::Missing(name))
    }

    pub(super) fn pins(&self) -> &Path {
        &self.pins
    }

    /// Attaches, or takes over what an earlier agent attached.
    pub(super) fn attach(
        &mut self,
        link: &str,
        direction: Direction,
        program: &'static str,
    ) -> Result<(), Error> {
        let ifindex = if_nametoindex(link).map_err(|_| Error::NoLink(link.to_owned()))?;
        let pin = self.pins.join(pin_name(ifindex, program));
        let mode = self.mode;
        let classifier = self.program(program)?;
        match mode {
            AttachMode::Tcx => tcx(classifier, link, direction, &pin),
            AttachMode::Clsact => clsact(classifier, link, direction),
        }
        .map_err(|source| Error::Attach { program, link: link.to_owned(), source })?;
        let programs = self.attached.entry(link.to_owned()).or_default();
        if !programs.contains(&(direction, program)) {
            programs.push((direction, program));
        }
        Ok(())
    }

    /// Takes netd's programs off `link`; it may be gone already.
    pub(super) fn detach(&mut self, link: &str) -> Result<(), Error> {
        let programs = self.attached.remove(link).unwrap_or_default();
        let Ok(ifindex) = if_nametoindex(link) else {
            self.forget_xdp(|ifindex| !exists(ifindex));
            return self.forget_dead_pins();
        };
        self.detach_xdp(ifindex)?;
        for (direction, program) in programs {
            match self.mode {
                AttachMode::Tcx => remove(&self.pins.join(pin_name(ifindex, program)))?,
                // The filters of a link that is going need no farewell.
                AttachMode::Clsact => {
                    let _ = qdisc_detach_program(link, attach_type(direction), program);
                }
            }
        }
        Ok(())
    }

    /// Detaches from every link that is not in `wanted`.
    pub(super) fn retain(&mut self, wanted: &[String]) -> Result<(), Error> {
        let unwanted: Vec<_> =
            self.attached.keys().filter(|link| !wanted.contains(link)).cloned().collect();
        for link in unwanted {
            self.detach(&link)?;
        }
        let keep: Vec<_> =
            wanted.iter().filter_map(|link| if_nametoindex(link.as_str()).ok()).collect();
        self.forget_xdp(|ifindex| !keep.contains(&ifindex));
        self.each_pin(|ifindex| !keep.contains(&ifindex))
    }

    /// Removes the pins of links that no longer exist.
    fn forget_dead_pins(&self) -> Result<(), Error> {
        self.each_pin(|ifindex| !exists(ifindex))
    }

    fn each_pin(&self, unwanted: impl Fn(u32) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(&self.pins).map_err(failed(&self.pins))?.flatten() {
            let name = entry.file_name();
            let ifindex = name.to_str().and_then(|name| name.split('-').next()?.parse().ok());
            if ifindex.is_none_or(&unwanted) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn exists(ifindex: u32) -> bool {
    // nix answers an unknown index with an empty name.
    if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

fn pin_name(ifindex: u32, program: &str) -> String {
    format!("{ifindex}-{program}")
}

fn remove(pin: &Path) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(pin)(error)),
        _ => Ok(()),
    }
}

const fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

fn tcx(
    program: &mut SchedClassifier,
    link: &str,
    direction: Direction,
    pin: &Path,
) -> anyhow::Result<()> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let taken = FdLink::from(pinned).try_into().ok().map(|link| program.attach_to_link(link));
        match taken {
            // The pin holds the kernel's link; our descriptor may go.
            Some(Ok(id)) => return program.take_link(id).map(drop).context("failed to let go"),
            // Its device went and another took its index.
            _ => fs::remove_file(pin).context("failed to remove a stale pin")?,
        }
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(link, attach_type(direction), order)?;
    let attached: FdLink = program.take_link(id)?.try_into()?;
    attached.pin(pin).context("failed to pin the link")?;
    Ok(())
}

fn clsact(program: &mut SchedClassifier, link: &str, direction: Direction) -> anyhow::Result<()> {
    let direction = attach_type(direction);
    // Already there, ours or not: both are fine.
    let _ = qdisc_add_clsact(link);
    // The kernel changes a filter's program in one step: no packet slips by.
    let earlier = SchedClassifierLink::attached(link, direction, PRIORITY, HANDLE, None)?;
    let id = if let Ok(id) = program.attach_to_link(earlier) {
        id
    } else {
        let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
        program.attach_with_options(link, direction, TcAttachOptions::Netlink(options))?
    };
    // The filter outlives the agent, as a pinned link would.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}
