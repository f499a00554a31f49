//! The host's kernel, but for its eBPF maps and programs: links, namespaces,
//! sysctls, host ports, processes. It knows no network, no container and no
//! store; what it makes is named and recognised by `names` alone.
//!
//! "The host" is the network namespace of the calling thread: the agent's own.

pub mod annex;
pub mod effects;
pub mod ethtool;
pub mod hostport;
pub mod link;
pub mod names;
pub mod netns;
pub mod nl;
pub mod observe;
mod owner;
pub mod process;
pub mod sockdiag;
pub mod stat;
pub mod survey;
mod sys;
pub mod sysctl;
pub mod watch;

use std::{io, path::PathBuf};

pub use effects::KernelEffects;
pub use hostport::HostPorts;
pub use nl::Netlink;
pub use sys::wait_for_programs;

use crate::model::IfName;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("failed to list the host's {what}")]
    List {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("link `{0}` already exists and is not netd's")]
    Foreign(IfName),
    #[error("no link is named `{0}`")]
    NoLink(IfName),
    #[error("failed to create bridge `{name}`")]
    CreateBridge {
        name: IfName,
        #[source]
        source: io::Error,
    },
    #[error("failed to create veth `{name}`")]
    CreateVeth {
        name: IfName,
        #[source]
        source: io::Error,
    },
    #[error("failed to configure link `{name}`")]
    Configure {
        name: IfName,
        #[source]
        source: io::Error,
    },
    #[error("failed to delete link `{name}`")]
    Delete {
        name: IfName,
        #[source]
        source: io::Error,
    },
    #[error("failed to create network namespace `{path}`")]
    CreateNetns {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to remove network namespace `{path}`")]
    RemoveNetns {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to enter network namespace `{path}`")]
    EnterNetns {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write `{value}` to `{path}`")]
    Sysctl {
        path: PathBuf,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("unexpected text in `{path}`: {text}")]
    Parse { path: PathBuf, text: String },
    #[error(transparent)]
    Port(#[from] hostport::PortError),
    #[error("failed to create run directory `{path}`")]
    CreateRunDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to remove run directory `{path}`")]
    RemoveRunDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to watch process {pid}")]
    Process {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("this step is the datapath's")]
    NotTheKernels,
}

impl Error {
    /// What the user can do about it, or who is in the way.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Port(error) => error.hint(),
            Self::Foreign(name) => Some(format!(
                "netd changes no link of others: choose another name, or remove it with: ip link delete {name}"
            )),
            Self::Sysctl { path, source, .. }
                if source.kind() == io::ErrorKind::NotFound
                    && path.starts_with("/proc/sys/net/ipv6") =>
            {
                Some("this host has no IPv6 (the kernel's `ipv6.disable`)".to_owned())
            }
            _ => None,
        }
    }
}
