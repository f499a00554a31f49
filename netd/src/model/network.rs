//! Networks as they are stored.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use netd_common::abi::Family;
use serde::{Deserialize, Serialize};

use super::{Id, IfName, Mac, Name, Owner};

pub mod annex;
pub(crate) mod options;

pub use options::{NetworkOptions, OptionError};

/// The default network's name and device.
pub const DEFAULT_NETWORK: &str = "bridge";
pub const DEFAULT_BRIDGE: &str = "netd0";

/// A network: valid, complete, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Network {
    pub id: Id,
    pub name: Name,
    #[serde(default)]
    pub owner: Owner,
    /// The datapath's key of this network; never 0, never used twice at a time.
    pub index: u32,
    pub bridge: IfName,
    pub bridge_mac: Mac,
    pub mtu: u32,
    /// The network was asked for with its MTU; if not, `mtu` follows the host's.
    #[serde(default)]
    pub mtu_fixed: bool,
    /// One per family, IPv4's first; IPv6's where `ipv6` is set.
    pub pools: Vec<Pool>,
    pub internal: bool,
    pub ipv6: bool,
    pub icc: bool,
    pub masquerade: bool,
    #[serde(default)]
    pub border4: Border,
    #[serde(default)]
    pub border6: Border,
    /// The bridge has no IPv4 address: the gateway is another machine's.
    #[serde(default)]
    pub inhibit_ipv4: bool,
    /// Host interfaces whose traffic reaches containers at their own
    /// addresses; they need not exist.
    #[serde(default)]
    pub trusted: Vec<IfName>,
    /// TCP SYNs that each published port takes in a second; 0: any number.
    #[serde(default)]
    pub syn_rate: u32,
    /// Answered flows that each container may have; 0: any number.
    #[serde(default)]
    pub max_flows: u32,
    /// Host address of a published port that names none; `0.0.0.0` stands for
    /// `::` too where the network has IPv6.
    pub host_binding: IpAddr,
    /// Prefix of the interface's name inside a container.
    pub container_prefix: String,
    /// As the user gave them, for `inspect`.
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub created: String,
}

/// A subnet and what is set aside in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network address and prefix.
    pub subnet: IpNetwork,
    /// Where automatic addresses come from; within `subnet`.
    pub ip_range: Option<IpNetwork>,
    /// The bridge's address; the container's default route, unless
    /// `default_gateway` says otherwise.
    pub gateway: IpAddr,
    /// Containers' default route, if not `gateway` (`default-gateway`).
    pub default_gateway: Option<IpAddr>,
    /// Addresses that are not netd's to give.
    pub aux: BTreeMap<String, IpAddr>,
}

/// How a network's packets of one family get in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Border {
    pub mode: GatewayMode,
    /// The host address that packets go out with, where they are masqueraded;
    /// `None`: that of their route.
    pub source: Option<IpAddr>,
}

/// Docker's gateway modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Out with a host address, in by published ports of the host.
    #[default]
    Nat,
    /// And in to every port at the container's own address.
    NatUnprotected,
    /// Out with the container's address, in to its published ports there.
    Routed,
    /// The host is no member of the network; only for internal ones.
    Isolated,
}

impl Network {
    /// The pool that an address is of.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.contains(ip))
    }

    /// IPv6's, if the network has it.
    pub fn pool6(&self) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.is_ipv6())
    }

    pub fn border(&self, family: Family) -> &Border {
        match family {
            Family::V4 => &self.border4,
            Family::V6 => &self.border6,
        }
    }

    /// Whether its containers may reach the host, and at all of its addresses.
    pub fn meets_host(&self) -> bool {
        let isolated = |border: &Border| border.mode == GatewayMode::Isolated;
        !self.internal && !isolated(&self.border4) && !isolated(&self.border6)
    }

    /// Whether published ports of a host address are at the container's own.
    pub fn is_routed(&self, host: IpAddr) -> bool {
        let family = if host.is_ipv4() { Family::V4 } else { Family::V6 };
        self.border(family).mode == GatewayMode::Routed
    }
}

impl Pool {
    /// Where containers' default route leads.
    pub fn route(&self) -> IpAddr {
        self.default_gateway.unwrap_or(self.gateway)
    }
}
