//! Networks as they are stored, and how a request becomes one.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Id, IfName, Mac, Name};

/// The default network's name and device.
pub const DEFAULT_NETWORK: &str = "bridge";
pub const DEFAULT_BRIDGE: &str = "netd0";

/// A network: valid, complete, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Network {
    pub id: Id,
    pub name: Name,
    /// The datapath's key of this network; never 0, never used twice at a time.
    pub index: u32,
    pub bridge: IfName,
    pub bridge_mac: Mac,
    pub mtu: u32,
    /// One per family, IPv4's first; IPv6's where `ipv6` is set.
    pub pools: Vec<Pool>,
    pub internal: bool,
    pub ipv6: bool,
    pub icc: bool,
    pub masquerade: bool,
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

impl Network {
    /// The pool that an address is of.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.contains(ip))
    }

    /// IPv6's, if the network has it.
    pub fn pool6(&self) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.is_ipv6())
    }
}

impl Pool {
    /// Where containers' default route leads.
    pub fn route(&self) -> IpAddr {
        self.default_gateway.unwrap_or(self.gateway)
    }
}

/// What the options of `-o` say (DESIGN §6), valid; `None` where not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    pub bridge: Option<IfName>,
    pub masquerade: Option<bool>,
    pub icc: Option<bool>,
    pub host_binding: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub container_prefix: Option<String>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    #[error("unknown option `{0}`")]
    Unknown(String),
    #[error("option `{0}` is not supported yet")]
    NotYet(String),
    #[error("failed to parse {option} value: {value} ({reason})")]
    Value { option: &'static str, value: String, reason: String },
    #[error("invalid MTU number: {0}")]
    Mtu(i64),
    #[error("unknown gateway mode {0}")]
    GatewayMode(String),
}

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
const CONTAINER_PREFIX: &str = "com.docker.network.container_iface_prefix";
const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";

/// Options that work.
const KNOWN: [&str; 7] =
    [BRIDGE_NAME, MASQUERADE, ICC, HOST_BINDING, MTU, CONTAINER_PREFIX, GATEWAY_MODE];

/// Options of Docker's bridge driver that netd will have.
const LATER: [&str; 5] = [
    "com.docker.network.bridge.gateway_mode_ipv6",
    "com.docker.network.bridge.inhibit_ipv4",
    "com.docker.network.bridge.trusted_host_interfaces",
    "com.docker.network.host_ipv4",
    "com.docker.network.host_ipv6",
];

impl OptionError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(option) => {
                let nearest = super::config::nearest(option, &KNOWN);
                let known = KNOWN.join(", ");
                Some(format!("did you mean `{nearest}`? known are {known}"))
            }
            _ => None,
        }
    }
}

impl NetworkOptions {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        for (option, value) in options {
            parsed.set(option, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), OptionError> {
        match option {
            BRIDGE_NAME => {
                let name = value.parse().map_err(|error: super::link::LinkError| {
                    invalid(BRIDGE_NAME, value, error.to_string())
                })?;
                self.bridge = Some(name);
            }
            MASQUERADE => self.masquerade = Some(parse_bool(MASQUERADE, value)?),
            ICC => self.icc = Some(parse_bool(ICC, value)?),
            HOST_BINDING => self.host_binding = Some(parse_ip(value)?),
            MTU => self.mtu = parse_mtu(value)?,
            CONTAINER_PREFIX => self.container_prefix = Some(parse_prefix(value)?),
            GATEWAY_MODE => match value {
                "nat" => {}
                "nat-unprotected" | "routed" | "isolated" => {
                    return Err(OptionError::NotYet(format!("{option}={value}")));
                }
                _ => return Err(OptionError::GatewayMode(value.to_owned())),
            },
            _ if LATER.contains(&option) => return Err(OptionError::NotYet(option.to_owned())),
            _ => return Err(OptionError::Unknown(option.to_owned())),
        }
        Ok(())
    }
}

fn invalid(option: &'static str, value: &str, reason: impl Into<String>) -> OptionError {
    OptionError::Value { option, value: value.to_owned(), reason: reason.into() }
}

/// Go's `strconv.ParseBool`, whose words Docker's users know.
fn parse_bool(option: &'static str, value: &str) -> Result<bool, OptionError> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => {
            let reason = format!("strconv.ParseBool: parsing \"{value}\": invalid syntax");
            Err(invalid(option, value, reason))
        }
    }
}

/// Of either family, whatever the option's name says: as in Docker.
fn parse_ip(value: &str) -> Result<IpAddr, OptionError> {
    value.parse().map_err(|_| invalid(HOST_BINDING, value, "invalid IP address"))
}

/// 0 stands for the default, as in Docker.
fn parse_mtu(value: &str) -> Result<Option<u32>, OptionError> {
    let mtu: i64 = value.parse().map_err(|_| {
        let reason = format!("strconv.Atoi: parsing \"{value}\": invalid syntax");
        invalid(MTU, value, reason)
    })?;
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(mtu) if super::config::MTUS.contains(&mtu) => Ok(Some(mtu)),
        _ => Err(OptionError::Mtu(mtu)),
    }
}

/// A number of up to three digits must still fit behind it.
fn parse_prefix(value: &str) -> Result<String, OptionError> {
    let valid = value.len() <= 12 && IfName::try_from(format!("{value}0")).is_ok();
    if valid && !value.is_empty() {
        Ok(value.to_owned())
    } else {
        let reason = "1 to 12 printable characters without `/`, `:` or space are expected";
        Err(invalid(CONTAINER_PREFIX, value, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(option: &str, value: &str) -> Result<NetworkOptions, OptionError> {
        NetworkOptions::parse(&[(option.to_owned(), value.to_owned())].into())
    }

    fn error(option: &str, value: &str) -> String {
        parse(option, value).unwrap_err().to_string()
    }

    #[test]
    fn the_options_of_this_step_are_read() {
        assert_eq!(parse(BRIDGE_NAME, "docker1").unwrap().bridge, "docker1".parse().ok());
        assert_eq!(parse(MASQUERADE, "false").unwrap().masquerade, Some(false));
        assert_eq!(parse(ICC, "0").unwrap().icc, Some(false));
        assert_eq!(
            parse(HOST_BINDING, "127.0.0.1").unwrap().host_binding,
            "127.0.0.1".parse().ok()
        );
        assert_eq!(parse(MTU, "9000").unwrap().mtu, Some(9000));
        assert_eq!(parse(MTU, "0").unwrap().mtu, None);
        assert_eq!(parse(CONTAINER_PREFIX, "net").unwrap().container_prefix, Some("net".into()));
        assert_eq!(parse(GATEWAY_MODE, "nat"), Ok(NetworkOptions::default()));
    }

    #[test]
    fn values_are_refused_with_dockers_texts() {
        assert_eq!(
            error(ICC, "maybe"),
            "failed to parse com.docker.network.bridge.enable_icc value: maybe \
             (strconv.ParseBool: parsing \"maybe\": invalid syntax)"
        );
        assert_eq!(error(MTU, "-1"), "invalid MTU number: -1");
        assert_eq!(
            error(MTU, "big"),
            "failed to parse com.docker.network.driver.mtu value: big \
             (strconv.Atoi: parsing \"big\": invalid syntax)"
        );
        assert_eq!(error(GATEWAY_MODE, "fast"), "unknown gateway mode fast");
    }

    #[test]
    fn what_comes_later_and_what_is_unknown_are_refused_by_name() {
        for later in LATER {
            assert_eq!(error(later, "x"), format!("option `{later}` is not supported yet"));
        }
        assert_eq!(
            error(GATEWAY_MODE, "routed"),
            format!("option `{GATEWAY_MODE}=routed` is not supported yet")
        );
        let unknown = parse("com.docker.network.bridge.nmae", "x").unwrap_err();
        assert_eq!(unknown.to_string(), "unknown option `com.docker.network.bridge.nmae`");
        assert!(unknown.hint().unwrap().contains(BRIDGE_NAME));
    }
}
