//! Published ports: `-p`'s grammar and what it becomes.
//!
//! Owns the texts that a bad `-p` or `--expose` is answered with (Docker's,
//! docker/go-connections `nat/nat.go`). Knows nothing of which ports are free.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One `-p`: `[HOST_IP:][HOST[-END]]:CTR[-END][/tcp|udp|sctp][,from=CIDR]…`,
/// or `CTR` alone (Docker's grammar: docker/go-connections, `nat/nat.go`).
///
/// A host range is as long as the container range, unless that is one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    pub host_ip: Option<IpAddr>,
    /// `None`: any free port. A range with a single container port: any free
    /// port of the range.
    pub host: Option<RangeInclusive<u16>>,
    pub container: RangeInclusive<u16>,
    pub protocol: Protocol,
    pub from: Vec<IpNetwork>,
}

/// One container port of a [`PortSpec`], and which host ports will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    pub host_ip: Option<IpAddr>,
    /// `None`: any free port of the host's ephemeral range.
    pub host: Option<RangeInclusive<u16>>,
    pub container_port: u16,
    pub protocol: Protocol,
    pub from: Vec<IpNetwork>,
}

/// One `--expose`: `PORT[-END][/tcp|udp|sctp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    pub ports: RangeInclusive<u16>,
    pub protocol: Protocol,
}

/// One published port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// `0.0.0.0` for every IPv4 address of the host, `::` for every IPv6 one.
    pub host_ip: IpAddr,
    /// 0: the port is at the container's own address alone, as on a routed
    /// network; of `host_ip` only the family counts.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
    /// Sources that may come in, of both families; empty: all.
    pub from: Vec<IpNetwork>,
    /// The datapath's number of `from`, of one mapping at a time; 0: there is
    /// no allow-list.
    #[serde(default)]
    pub list: u32,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PortError {
    #[error("no port specified: {0}<empty>")]
    Empty(String),
    #[error("invalid proto: {0}")]
    Protocol(String),
    #[error("invalid IP address: {0}")]
    HostIp(String),
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
    #[error("invalid range format for --expose: {0}")]
    Expose(String),
    #[error("invalid port option: {0}: only from=CIDR is known")]
    Option(String),
    #[error("invalid from: {0}: an address or a CIDR block is expected")]
    From(String),
    #[error("invalid from: {given}: it should be {network}")]
    FromHostBits { given: String, network: IpNetwork },
    #[error(
        "SCTP port {container} can't be published as {host}: netd translates SCTP addresses only, so both ports must be the same"
    )]
    SctpChanged { container: u16, host: u16 },
}

impl Protocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(PortError::Protocol(lower)),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PortSpec {
    /// One request per container port. Never empty.
    pub fn expand(&self) -> Vec<PortRequest> {
        let one = self.container.start() == self.container.end();
        self.container
            .clone()
            .enumerate()
            .map(|(nth, container_port)| PortRequest {
                host_ip: self.host_ip,
                host: self.host.clone().map(|range| {
                    // Equal lengths are a rule of the type: the offset fits.
                    let port = || *range.start() + u16::try_from(nth).unwrap_or(0);
                    if one { range.clone() } else { port()..=port() }
                }),
                container_port,
                protocol: self.protocol,
                from: self.from.clone(),
            })
            .collect()
    }
}

impl PortMapping {
    pub fn is_routed(&self) -> bool {
        self.host_port == 0
    }

    /// The address and port that clients use, of a container with `address`.
    pub fn reached_at(&self, address: IpAddr) -> (IpAddr, u16) {
        if self.is_routed() {
            (address, self.container_port)
        } else {
            (self.host_ip, self.host_port)
        }
    }
}

impl FromStr for PortSpec {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let mut parts = text.split(',');
        let ports = parts.next().unwrap_or_default();
        let mut from = vec![];
        for option in parts {
            let source = parse_from(option)?;
            if !from.contains(&source) {
                from.push(source);
            }
        }

        let mut fields = ports.rsplitn(3, ':');
        let container = fields.next().unwrap_or_default();
        let host = fields.next().unwrap_or_default();
        let ip = fields.next().unwrap_or_default();

        let (container, protocol) = split_protocol(container);
        if container.is_empty() {
            return Err(PortError::Empty(ports.to_owned()));
        }
        let protocol = protocol.parse()?;
        let host_ip = parse_host_ip(ip)?;
        let container_range = parse_range(container)
            .filter(|range| *range.start() > 0)
            .ok_or_else(|| PortError::ContainerPort(container.to_owned()))?;
        let host_range = parse_host_range(host)?;

        if let Some(range) = &host_range {
            let single = container_range.start() == container_range.end();
            if !single && range.len() != container_range.len() {
                return Err(PortError::Ranges {
                    container: container.to_owned(),
                    host: host.to_owned(),
                });
            }
        }
        let spec = Self { host_ip, host: host_range, container: container_range, protocol, from };
        spec.check_sctp()?;
        Ok(spec)
    }
}

impl PortSpec {
    /// SCTP's checksum has no pseudo header: an address can change, a port
    /// can't (DESIGN §4.3).
    fn check_sctp(&self) -> Result<(), PortError> {
        if self.protocol != Protocol::Sctp {
            return Ok(());
        }
        self.expand().iter().try_for_each(|request| {
            let container = request.container_port;
            match &request.host {
                Some(host) if !host.contains(&container) => {
                    Err(PortError::SctpChanged { container, host: *host.start() })
                }
                _ => Ok(()),
            }
        })
    }
}

impl FromStr for Expose {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (ports, protocol) = split_protocol(text);
        let invalid = || PortError::Expose(text.to_owned());
        let ports = parse_range(ports).filter(|range| *range.start() > 0).ok_or_else(invalid)?;
        Ok(Self { ports, protocol: protocol.parse()? })
    }
}

/// `80/udp` is (`80`, `udp`); the protocol is `tcp` where none is named.
fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, "")) => (port, "tcp"),
        Some((port, protocol)) => (port, protocol),
        None => (text, "tcp"),
    }
}

fn parse_host_ip(text: &str) -> Result<Option<IpAddr>, PortError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = bare.parse().map_err(|_| PortError::HostIp(bare.to_owned()))?;
    // `::ffff:192.0.2.1` is 192.0.2.1.
    Ok(Some(ip.to_canonical()))
}

/// Host port 0 is no port named, as Docker has it.
fn parse_host_range(text: &str) -> Result<Option<RangeInclusive<u16>>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_range(text) {
        Some(range) if *range.end() == 0 => Ok(None),
        Some(range) if *range.start() > 0 => Ok(Some(range)),
        _ => Err(PortError::HostPort(text.to_owned())),
    }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    (first <= last).then_some(first..=last)
}

/// Digits only: `u16::from_str` would take a sign.
fn parse_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn parse_from(option: &str) -> Result<IpNetwork, PortError> {
    let text = option.strip_prefix("from=").ok_or_else(|| PortError::Option(option.to_owned()))?;
    let given: IpNetwork = text.parse().map_err(|_| PortError::From(text.to_owned()))?;
    let network = crate::ipam::network_of(given);
    if network == given {
        Ok(given)
    } else {
        Err(PortError::FromHostBits { given: text.to_owned(), network })
    }
}

fn write_range(f: &mut fmt::Formatter<'_>, range: &RangeInclusive<u16>) -> fmt::Result {
    write!(f, "{}", range.start())?;
    if range.start() != range.end() {
        write!(f, "-{}", range.end())?;
    }
    Ok(())
}

fn write_ip(f: &mut fmt::Formatter<'_>, ip: IpAddr) -> fmt::Result {
    match ip {
        IpAddr::V4(ip) => write!(f, "{ip}"),
        IpAddr::V6(ip) => write!(f, "[{ip}]"),
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.host_ip {
            write_ip(f, ip)?;
            f.write_str(":")?;
        }
        if let Some(host) = &self.host {
            write_range(f, host)?;
        }
        if self.host_ip.is_some() || self.host.is_some() {
            f.write_str(":")?;
        }
        write_range(f, &self.container)?;
        write!(f, "/{}", self.protocol)?;
        self.from.iter().try_for_each(|from| write!(f, ",from={from}"))
    }
}

impl fmt::Display for Expose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, &self.ports)?;
        write!(f, "/{}", self.protocol)
    }
}

/// As `docker ps` prints it: `0.0.0.0:8080->80/tcp`, and `80/tcp` where there
/// is no host port.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_port, container_port, protocol, .. } = self;
        if self.is_routed() {
            return write!(f, "{container_port}/{protocol}");
        }
        write_ip(f, self.host_ip)?;
        write!(f, ":{host_port}->{container_port}/{protocol}")
    }
}

#[cfg(test)]
mod tests;
