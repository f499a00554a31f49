//! `-o` of `network create`: Docker's options of its bridge driver, and netd's
//! own (DESIGN §6). Owns their names and the texts that a bad one is answered
//! with.

use std::{collections::BTreeMap, net::IpAddr};

use super::{GatewayMode, annex::MOST_ENDPOINTS};
use crate::model::{IfName, config, link::LinkError};

/// What the options of `-o` say (DESIGN §6), valid; `None` where not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    pub bridge: Option<IfName>,
    pub masquerade: Option<bool>,
    pub icc: Option<bool>,
    pub gateway_mode4: Option<GatewayMode>,
    pub gateway_mode6: Option<GatewayMode>,
    pub host_ipv4: Option<IpAddr>,
    pub host_ipv6: Option<IpAddr>,
    pub host_binding: Option<IpAddr>,
    pub inhibit_ipv4: Option<bool>,
    pub trusted: Vec<IfName>,
    pub mtu: Option<u32>,
    pub container_prefix: Option<String>,
    pub syn_rate: Option<u32>,
    pub bridge_ports: Option<u16>,
    pub max_flows: Option<u32>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    #[error("unknown option `{0}`")]
    Unknown(String),
    #[error("failed to parse {option} value: {value} ({reason})")]
    Value { option: &'static str, value: String, reason: String },
    #[error("invalid MTU number: {0}")]
    Mtu(i64),
    #[error("unknown gateway mode {0}")]
    GatewayMode(String),
}

/// IPv6's smallest MTU (RFC 8200 §5).
pub(crate) const MIN_MTU6: u32 = 1280;

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
const CONTAINER_PREFIX: &str = "com.docker.network.container_iface_prefix";
const GATEWAY_MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const SYN_RATE: &str = "netd.syn_rate";
pub(crate) const BRIDGE_PORTS: &str = "netd.bridge_ports";
const MAX_FLOWS: &str = "netd.max_flows";

const KNOWN: [&str; 15] = [
    BRIDGE_NAME,
    MASQUERADE,
    ICC,
    GATEWAY_MODE4,
    GATEWAY_MODE6,
    HOST_BINDING,
    HOST_IPV4,
    HOST_IPV6,
    INHIBIT_IPV4,
    TRUSTED,
    MTU,
    CONTAINER_PREFIX,
    SYN_RATE,
    BRIDGE_PORTS,
    MAX_FLOWS,
];

impl OptionError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(option) => {
                let nearest = config::nearest(option, &KNOWN);
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
                let name = value
                    .parse()
                    .map_err(|error: LinkError| invalid(BRIDGE_NAME, value, error.to_string()))?;
                self.bridge = Some(name);
            }
            MASQUERADE => self.masquerade = Some(parse_bool(MASQUERADE, value)?),
            ICC => self.icc = Some(parse_bool(ICC, value)?),
            GATEWAY_MODE4 => self.gateway_mode4 = Some(parse_mode(value)?),
            GATEWAY_MODE6 => self.gateway_mode6 = Some(parse_mode(value)?),
            HOST_BINDING => self.host_binding = Some(parse_ip(HOST_BINDING, value, |_| true)?),
            HOST_IPV4 => self.host_ipv4 = Some(parse_ip(HOST_IPV4, value, IpAddr::is_ipv4)?),
            HOST_IPV6 => self.host_ipv6 = Some(parse_ip(HOST_IPV6, value, IpAddr::is_ipv6)?),
            INHIBIT_IPV4 => self.inhibit_ipv4 = Some(parse_bool(INHIBIT_IPV4, value)?),
            TRUSTED => self.trusted = parse_trusted(value)?,
            MTU => self.mtu = parse_mtu(value)?,
            CONTAINER_PREFIX => self.container_prefix = Some(parse_prefix(value)?),
            SYN_RATE => self.syn_rate = Some(parse_rate(value)?),
            BRIDGE_PORTS => self.bridge_ports = Some(parse_ports(value)?),
            MAX_FLOWS => self.max_flows = Some(parse_flows(value)?),
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

fn parse_mode(value: &str) -> Result<GatewayMode, OptionError> {
    match value {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(OptionError::GatewayMode(value.to_owned())),
    }
}

fn parse_ip(
    option: &'static str,
    value: &str,
    fits: impl Fn(&IpAddr) -> bool,
) -> Result<IpAddr, OptionError> {
    value.parse().ok().filter(fits).ok_or_else(|| invalid(option, value, "invalid IP address"))
}

/// Names with `:` between them; an empty one is none.
fn parse_trusted(value: &str) -> Result<Vec<IfName>, OptionError> {
    let mut names = vec![];
    for name in value.split(':').filter(|name| !name.is_empty()) {
        let name: IfName =
            name.parse().map_err(|error: LinkError| invalid(TRUSTED, value, error.to_string()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// SYNs in a second; 0 is no limit.
fn parse_rate(value: &str) -> Result<u32, OptionError> {
    value.parse().map_err(|_| invalid(SYN_RATE, value, "a number of SYNs a second is expected"))
}

fn parse_ports(value: &str) -> Result<u16, OptionError> {
    let ports = value.parse().ok().filter(|ports| (1..=MOST_ENDPOINTS).contains(ports));
    ports.ok_or_else(|| invalid(BRIDGE_PORTS, value, "a number from 1 to 1000 is expected"))
}

/// 0 is no limit.
fn parse_flows(value: &str) -> Result<u32, OptionError> {
    value.parse().map_err(|_| invalid(MAX_FLOWS, value, "a number of flows is expected"))
}

/// 0 stands for the default, as in Docker.
fn parse_mtu(value: &str) -> Result<Option<u32>, OptionError> {
    let mtu: i64 = value.parse().map_err(|_| {
        let reason = format!("strconv.Atoi: parsing \"{value}\": invalid syntax");
        invalid(MTU, value, reason)
    })?;
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(mtu) if config::MTUS.contains(&mtu) => Ok(Some(mtu)),
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
    fn dockers_options_are_read() {
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
        assert_eq!(error(GATEWAY_MODE4, "fast"), "unknown gateway mode fast");
    }

    #[test]
    fn gateway_modes_are_of_a_family() {
        let modes = [
            ("nat", GatewayMode::Nat),
            ("nat-unprotected", GatewayMode::NatUnprotected),
            ("routed", GatewayMode::Routed),
            ("isolated", GatewayMode::Isolated),
        ];
        for (value, mode) in modes {
            assert_eq!(parse(GATEWAY_MODE4, value).unwrap().gateway_mode4, Some(mode));
            assert_eq!(parse(GATEWAY_MODE4, value).unwrap().gateway_mode6, None);
            assert_eq!(parse(GATEWAY_MODE6, value).unwrap().gateway_mode6, Some(mode));
        }
        assert_eq!(error(GATEWAY_MODE6, ""), "unknown gateway mode ");
    }

    #[test]
    fn addresses_are_of_the_option_s_family() {
        assert_eq!(parse(HOST_IPV4, "192.0.2.9").unwrap().host_ipv4, "192.0.2.9".parse().ok());
        assert_eq!(parse(HOST_IPV6, "2001:db8::9").unwrap().host_ipv6, "2001:db8::9".parse().ok());
        assert_eq!(
            error(HOST_IPV4, "2001:db8::9"),
            "failed to parse com.docker.network.host_ipv4 value: 2001:db8::9 (invalid IP address)"
        );
        assert!(error(HOST_IPV6, "192.0.2.9").ends_with("(invalid IP address)"));
        assert_eq!(parse(HOST_BINDING, "::").unwrap().host_binding, "::".parse().ok());
    }

    #[test]
    fn trusted_interfaces_are_a_list_of_names() {
        let names = |value| parse(TRUSTED, value).map(|options| options.trusted);
        assert_eq!(
            names("wg0:eth1:wg0"),
            Ok(vec!["wg0".parse().unwrap(), "eth1".parse().unwrap()])
        );
        assert_eq!(names(""), Ok(vec![]));
        assert!(names("wg0:an-interface-of-a-long-name").is_err());
    }

    #[test]
    fn a_bridge_takes_a_thousand_endpoints_at_most() {
        assert_eq!(parse(BRIDGE_PORTS, "2").unwrap().bridge_ports, Some(2));
        for wrong in ["0", "1001", "-1", "many"] {
            assert!(error(BRIDGE_PORTS, wrong).contains("a number from 1 to 1000"), "{wrong}");
        }
    }

    #[test]
    fn a_syn_rate_is_a_number() {
        assert_eq!(parse(SYN_RATE, "2000").unwrap().syn_rate, Some(2000));
        assert!(error(SYN_RATE, "-1").starts_with("failed to parse netd.syn_rate value: -1 ("));
    }

    #[test]
    fn a_quota_is_a_number_of_flows() {
        assert_eq!(parse(MAX_FLOWS, "1000").unwrap().max_flows, Some(1000));
        assert_eq!(
            error(MAX_FLOWS, "many"),
            "failed to parse netd.max_flows value: many (a number of flows is expected)"
        );
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        let unknown = parse("com.docker.network.bridge.nmae", "x").unwrap_err();
        assert_eq!(unknown.to_string(), "unknown option `com.docker.network.bridge.nmae`");
        assert!(unknown.hint().unwrap().contains(BRIDGE_NAME));
    }
}
