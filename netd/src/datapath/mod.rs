//! The kernel side as the agent drives it: programs loaded, attached and
//! pinned, maps written and read. It knows nothing of requests or of state.

mod allow;
mod attach;
mod bpf;
mod bpffs;
mod cgroup;
mod events;
pub mod flows;
mod link;
mod load;
mod quotas;
mod resize;
mod settle;
mod sockets;
mod tables;
mod xdp;

use std::{io, path::PathBuf, sync::Arc};

pub use attach::{AttachMode, Direction};
use aya::{
    maps::MapData,
    programs::{CgroupSockAddr, SchedClassifier},
};
pub use events::Events;
pub use flows::{FlowEntry, SweepReport};
pub use load::{OBJECT, Options, Others};
pub use quotas::Quotas;
pub use settle::Settled;
pub use sockets::SocketTable;
pub(crate) use tables::family;
pub use tables::{HostFacts, Telling, UplinkFacts};
pub use xdp::{WhyOff, XdpState};

use crate::model::config::Xdp;
use allow::AllowLists;
use attach::Links;
use cgroup::Cgroup;
use flows::FlowTables;
use resize::Resize;
use tables::Tables;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to mount bpffs at {}", path.display())]
    Mount { path: PathBuf, source: nix::Error },
    #[error("failed to mount or unmount cgroup v2 at {}", path.display())]
    CgroupMount { path: PathBuf, source: nix::Error },
    #[error("failed to use the pin directory {}", path.display())]
    Pins { path: PathBuf, source: std::io::Error },
    #[error("failed to load the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("the eBPF object has no {0}")]
    Missing(&'static str),
    #[error("failed to load the program `{name}`")]
    Program { name: &'static str, source: Box<aya::programs::ProgramError> },
    #[error("failed to attach `{program}` to `{link}`")]
    Attach { program: &'static str, link: String, source: anyhow::Error },
    #[error("failed to access the map {name}")]
    Map { name: &'static str, source: Box<aya::maps::MapError> },
    #[error("failed to list the host's sockets")]
    Sockets(#[source] std::io::Error),
    #[error("failed to walk the map {name}")]
    Walk { name: &'static str, source: std::io::Error },
    #[error(
        "flow-table-size {wanted} has no room for the {live} flows that are open: give it at least \
         {live}, or stop containers first"
    )]
    FlowTableTooSmall { wanted: u32, live: usize },
    #[error("no link named `{0}`")]
    NoLink(String),
    #[error(
        "another version of netd, whose maps have another layout, has its programs at {}", .0.display()
    )]
    OtherVersion(PathBuf),
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OtherVersion(_) => Some(
                "start that version again, or let this one take its place with \
                 `netd agent --replace-datapath`: containers run on, but connections that are \
                 open end"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A loaded datapath. Dropping it leaves programs and maps in the kernel:
/// pinned links and maps outlive the agent.
#[derive(Debug)]
pub struct Datapath {
    links: Links,
    pub tables: Tables,
    pub allow: AllowLists,
    pub quotas: Quotas,
    /// Shared with whoever sweeps in the background.
    pub flows: Arc<FlowTables>,
    /// As `flows`.
    pub sockets: Arc<SocketTable>,
    events: Option<Events>,
    /// Once it is known where to mount the cgroups.
    cgroup: Option<Cgroup>,
    pins: bpffs::Pins,
    /// Every pinned map.
    maps: Vec<(&'static str, MapData)>,
    /// No earlier agent has left anything.
    is_new: bool,
    resize: Resize,
}

impl Datapath {
    /// Takes the programs off `link`.
    pub fn detach(&mut self, link: &str) -> Result<(), Error> {
        self.links.detach(link)
    }

    /// Puts the programs of a container's host side on `link`. They run when
    /// this returns, and are to be settled later.
    pub fn attach_container(&mut self, link: &str) -> Result<(), Error> {
        use netd_common::abi::names::{FROM_CONTAINER, TO_CONTAINER};
        self.links.attach_at_once(link, Direction::Ingress, FROM_CONTAINER)?;
        self.links.attach_at_once(link, Direction::Egress, TO_CONTAINER)
    }

    /// Puts the program of a network's bridge on `link`.
    pub fn attach_bridge(&mut self, link: &str) -> Result<(), Error> {
        use netd_common::abi::names::FROM_HOST;
        self.links.attach(link, Direction::Egress, FROM_HOST).map(drop)
    }

    /// Whether programs are all where they shall stay.
    pub fn is_settled(&self) -> bool {
        self.links.is_settled()
    }

    /// Settles the programs of one link, which takes two grace periods of RCU.
    pub fn settle(&mut self) -> Result<Settled, Error> {
        self.links.settle()
    }

    /// Puts the programs of an uplink on `link`.
    pub fn attach_uplink(&mut self, link: &str) -> Result<(), Error> {
        use netd_common::abi::names::{FROM_UPLINK, TO_UPLINK};
        self.links.attach(link, Direction::Egress, TO_UPLINK)?;
        self.links.attach(link, Direction::Ingress, FROM_UPLINK).map(drop)
    }

    /// Puts the XDP program on an uplink, where the configuration and the link
    /// let it be.
    pub fn attach_xdp(&mut self, link: &str, wanted: Xdp) -> Result<XdpState, Error> {
        self.links.attach_xdp(link, wanted)
    }

    /// The drops that programs tell of, for the one who reads them.
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Puts the programs for the host's own sockets on the root of the cgroups,
    /// which is mounted at `own` if it is nowhere.
    pub fn attach_sockets(&mut self, own: PathBuf) -> Result<(), Error> {
        let cgroup = Cgroup::new(self.pins.cgroup(), own);
        let cgroup = self.cgroup.insert(cgroup);
        cgroup.attach(self.links.ebpf())
    }

    /// Puts back programs and pins that somebody has taken away, and says which.
    /// `filters`: the indices of links that lost clsact filters, of anyone.
    pub fn mend(&mut self, filters: &[u32]) -> Result<Vec<String>, Error> {
        let mut told = Vec::new();
        if self.pins.ensure()? {
            told.push(format!("the pin directory {}", self.pins.path().display()));
        }
        for (name, map) in &self.maps {
            let pin = self.pins.path().join(name);
            if !pin.exists() {
                map.pin(&pin)
                    .map_err(|error| Error::Pins { path: pin, source: io::Error::other(error) })?;
                told.push(format!("the pin of the map {name}"));
            }
        }
        told.extend(self.links.mend(filters)?);
        if let Some(cgroup) = &mut self.cgroup {
            told.extend(cgroup.mend(self.links.ebpf())?);
        }
        Ok(told)
    }

    /// A loaded program, by its name in [`netd_common::abi::names`].
    pub fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        self.links.program(name)
    }

    /// As [`Datapath::program`], of those for sockets; loaded if it is not yet.
    pub fn socket_program(&mut self, name: &'static str) -> Result<&mut CgroupSockAddr, Error> {
        cgroup::loaded(self.links.ebpf(), name)
    }

    /// As [`Datapath::program`], of those for XDP.
    pub fn xdp_program(&mut self, name: &'static str) -> Result<&mut aya::programs::Xdp, Error> {
        self.links.xdp_program(name)
    }

    /// Whether no earlier agent has left a datapath.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// How programs are attached.
    pub fn mode(&self) -> AttachMode {
        self.links.mode()
    }

    /// To be called once every link has this run's programs: a flow table of
    /// another size is let go of.
    pub fn finish_resize(&self) -> Result<(), Error> {
        self.resize.finish()
    }

    pub fn pins(&self) -> &std::path::Path {
        self.pins.path()
    }

    /// Removes the pins of versions of netd with other maps, and so takes their
    /// programs off. Whether there were any.
    pub fn remove_other_versions(&mut self) -> Result<bool, Error> {
        let others = self.pins.others()?;
        for other in &others {
            bpffs::remove_all(other)?;
        }
        Ok(!others.is_empty())
    }

    /// Takes everything out of the kernel: links, maps, pins and the mount,
    /// if it was netd's own.
    pub fn destroy(mut self) -> Result<(), Error> {
        self.links.detach_all()?;
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.remove()?;
        }
        self.pins.remove()
    }
}

/// Whether `bpf_fib_lookup` tells a route's source (`BPF_FIB_LOOKUP_SRC`,
/// Linux 6.7).
pub fn has_fib_source() -> bool {
    use aya::util::KernelVersion;
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 7, 0))
}
