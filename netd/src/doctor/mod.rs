//! What of this host helps or hinders netd. It reads /proc and /sys, runs
//! nothing and changes nothing; each check is a function of what was read, so
//! that a made-up tree can be checked. It knows neither the API nor the agent, and
//! of the kernel layer only the names.

mod host;
mod kernel;
mod network;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use host::Host;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    pub name: String,
    pub status: Status,
    pub found: String,
    /// What to do about it.
    pub action: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Good to know; nothing to do.
    Note,
    /// netd works, but less than it could.
    Warning,
    /// netd doesn't work here.
    Problem,
}

/// What the agent, if one answers, adds to what the host shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Empty: the links of the default routes are taken.
    pub uplinks: Vec<String>,
    /// Of each uplink: how XDP runs, or `off` and why.
    pub xdp: Vec<(String, String, Option<String>)>,
    /// Name and subnet.
    pub networks: Vec<(String, IpNetwork)>,
    /// What `nft list chains` prints. `None`: not asked.
    pub nft_chains: Option<String>,
    /// What `iptables-save -t filter` prints. `None`: not asked.
    pub iptables: Option<String>,
}

/// Every check of the host, in the order in which they are shown.
pub fn checks(host: &Host, known: &Known) -> Vec<Check> {
    let mut checks = vec![
        kernel::version(host),
        kernel::btf(host),
        kernel::bpffs(host),
        kernel::cgroup(host),
        kernel::memlock(host),
        network::forwarding(host),
        network::forward_policy(known),
        network::bridge_netfilter(host),
        network::reverse_path(host, known),
        network::port_range(host),
        network::pools(host),
    ];
    checks.extend(network::early_drop(known));
    checks.extend(network::overlaps(host, known));
    checks
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Check {
    pub fn new(name: &str, status: Status, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, found: found.into(), action: None }
    }

    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }
}

#[cfg(test)]
mod tests;
