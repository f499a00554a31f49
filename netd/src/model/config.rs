//! `netd.json` (DESIGN §5.1): every key, its default and its check.
//!
//! [`ConfigFile`] is what was written, in the file or as flags; [`Config`] is
//! what holds. Reading the file is somebody else's.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnetwork::{IpNetwork, Ipv4Network};

mod file;

pub(crate) use file::nearest;
pub use file::{ConfigFile, KEYS, PoolEntry};

use crate::ipam;

const FLOW_TABLE_SIZE: u32 = 262_144;
const FLOW_TABLE_SIZES: std::ops::RangeInclusive<u32> = 1024..=16_777_216;
/// IPv4's smallest MTU (RFC 791) up to the largest that a link can have.
pub const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;

/// The agent's configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The default bridge's own address and prefix.
    pub bip: Option<Bip>,
    pub fixed_cidr: Option<IpNetwork>,
    pub default_gateway: Option<IpAddr>,
    /// `None`: the default route's.
    pub mtu: Option<u32>,
    pub icc: bool,
    pub ip_masq: bool,
    pub ipv6: bool,
    pub default_address_pools: Vec<AddressPool>,
    /// Default host address of `-p`.
    pub ip: IpAddr,
    /// `None`: every interface that is not netd's own.
    pub uplinks: Option<Vec<String>>,
    pub xdp: Xdp,
    pub flow_table_size: u32,
    pub metrics_address: Option<SocketAddr>,
    /// Where Docker finds netd.
    pub docker_plugin: SocketPlace,
    /// Where netd finds Docker, to learn its names.
    pub docker_socket: SocketPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bip {
    /// A host address of its subnet.
    Address(IpNetwork),
    /// 172.C.D.1/24 of the host's own A.B.C.D.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    pub base: IpNetwork,
    /// Prefix length of the subnets cut from it.
    pub size: u8,
}

/// A socket's place, where the configuration has a say in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketPlace {
    /// [`crate::paths::Paths`] knows.
    Default,
    At(PathBuf),
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    Auto,
    Native,
    Generic,
    Off,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{0}")]
    Syntax(String),
    #[error("unknown configuration key `{key}`: did you mean `{nearest}`?")]
    UnknownKey { key: String, nearest: &'static str },
    #[error("invalid {key} `{value}`: {expected}")]
    Value { key: &'static str, value: String, expected: &'static str },
    #[error(
        "invalid bip {bip}: it is the {what} address of its subnet; use a host address, such as {instead}"
    )]
    BipNotHost { bip: IpNetwork, what: &'static str, instead: IpNetwork },
    #[error("invalid bip {0}: its subnet has no room for containers")]
    BipTooSmall(IpNetwork),
    #[error(
        "invalid fixed-cidr {fixed_cidr}: the default bridge's subnet {subnet} doesn't contain it"
    )]
    FixedCidrOutside { fixed_cidr: IpNetwork, subnet: IpNetwork },
    #[error(
        "invalid default-gateway {gateway}: the default bridge's subnet {subnet} doesn't contain it"
    )]
    GatewayOutside { gateway: IpAddr, subnet: IpNetwork },
    #[error("invalid {what} {given}: it should be {network}")]
    HostBits { what: &'static str, given: IpNetwork, network: IpNetwork },
    #[error("invalid default-address-pools: size {size} doesn't fit base {base}")]
    PoolSize { base: IpNetwork, size: u8 },
    #[error("{0} is not supported yet")]
    NotYet(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bip: None,
            fixed_cidr: None,
            default_gateway: None,
            mtu: None,
            icc: true,
            ip_masq: true,
            ipv6: false,
            default_address_pools: ipam::default_pools(),
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            uplinks: None,
            xdp: Xdp::Auto,
            flow_table_size: FLOW_TABLE_SIZE,
            metrics_address: None,
            docker_plugin: SocketPlace::Default,
            docker_socket: SocketPlace::Default,
        }
    }
}

impl SocketPlace {
    fn of(text: Option<&str>) -> Self {
        match text {
            None => Self::Default,
            Some("off") => Self::Off,
            Some(path) => Self::At(path.into()),
        }
    }

    /// `None`: there shall be none.
    pub fn resolve(&self, default: &Path) -> Option<PathBuf> {
        match self {
            Self::Default => Some(default.to_owned()),
            Self::At(path) => Some(path.clone()),
            Self::Off => None,
        }
    }
}

impl Bip {
    /// The bridge's address, on a host whose own address is `host`.
    pub fn resolve(self, host: Ipv4Addr) -> IpNetwork {
        let [_, _, c, d] = host.octets();
        match self {
            Self::Address(address) => address,
            Self::Host => Ipv4Network::new_checked(Ipv4Addr::new(172, c, d, 1), 24)
                .map_or(IpNetwork::from(IpAddr::V4(host)), IpNetwork::V4),
        }
    }
}

impl FromStr for Bip {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let expected = "an address with its prefix, such as 10.5.0.1/24, or `host`";
        let bip: IpNetwork = text
            .parse()
            .ok()
            .filter(|_| text.contains('/'))
            .ok_or_else(|| value("bip", text, expected))?;
        let IpNetwork::V4(v4) = bip else {
            return Err(ConfigError::NotYet(format!("an IPv6 bip ({bip})")));
        };
        if v4.prefix() > 30 {
            return Err(ConfigError::BipTooSmall(bip));
        }
        let what = match v4.ip() {
            ip if ip == v4.network() => "network",
            ip if ip == v4.broadcast() => "broadcast",
            _ => return Ok(Self::Address(bip)),
        };
        let first = Ipv4Addr::from(u32::from(v4.network()) + 1);
        let instead = Ipv4Network::new_checked(first, v4.prefix()).map_or(bip, IpNetwork::V4);
        Err(ConfigError::BipNotHost { bip, what, instead })
    }
}

/// `fixed-cidr` and `default-gateway` must be in the default bridge's subnet.
pub fn check_default_bridge(
    subnet: IpNetwork,
    fixed_cidr: Option<IpNetwork>,
    default_gateway: Option<IpAddr>,
) -> Result<(), ConfigError> {
    if let Some(fixed_cidr) = fixed_cidr
        && !ipam::encloses(subnet, fixed_cidr)
    {
        return Err(ConfigError::FixedCidrOutside { fixed_cidr, subnet });
    }
    match default_gateway {
        Some(gateway) if !subnet.contains(gateway) => {
            Err(ConfigError::GatewayOutside { gateway, subnet })
        }
        _ => Ok(()),
    }
}

impl TryFrom<ConfigFile> for Config {
    type Error = ConfigError;

    fn try_from(file: ConfigFile) -> Result<Self, ConfigError> {
        let default = Self::default();
        let config = Self {
            bip: file.bip.as_deref().map(str::parse).transpose()?,
            fixed_cidr: file
                .fixed_cidr
                .as_deref()
                .map(|text| cidr4("fixed-cidr", text))
                .transpose()?,
            default_gateway: file
                .default_gateway
                .as_deref()
                .map(|text| ipv4("default-gateway", text))
                .transpose()?,
            mtu: file.mtu.filter(|mtu| *mtu != 0).map(check_mtu).transpose()?,
            icc: file.icc.unwrap_or(default.icc),
            ip_masq: file.ip_masq.unwrap_or(default.ip_masq),
            ipv6: file.ipv6.unwrap_or(default.ipv6),
            default_address_pools: match file.default_address_pools {
                Some(pools) if !pools.is_empty() => {
                    pools.iter().map(AddressPool::try_from).collect::<Result<_, _>>()?
                }
                _ => default.default_address_pools,
            },
            ip: file.ip.as_deref().map_or(Ok(default.ip), |text| ip("ip", text))?,
            uplinks: file.uplinks,
            xdp: file.xdp.as_deref().map_or(Ok(default.xdp), str::parse)?,
            flow_table_size: file
                .flow_table_size
                .map_or(Ok(default.flow_table_size), check_flow_table_size)?,
            metrics_address: file.metrics_address.as_deref().map(metrics_address).transpose()?,
            docker_plugin: SocketPlace::of(file.docker_plugin.as_deref()),
            docker_socket: SocketPlace::of(file.docker_socket.as_deref()),
        };
        match config.bip {
            Some(Bip::Address(bip)) => check_default_bridge(
                ipam::network_of(bip),
                config.fixed_cidr,
                config.default_gateway,
            )?,
            // The subnet is known when the host is.
            Some(Bip::Host) => {}
            None => {
                if let Some(subnet) = config.fixed_cidr {
                    check_default_bridge(subnet, None, config.default_gateway)?;
                }
            }
        }
        Ok(config)
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let expected = "an address and a port, such as 127.0.0.1:9469, are expected";
    text.parse().map_err(|_| value("metrics-address", text, expected))
}

fn check_mtu(mtu: u32) -> Result<u32, ConfigError> {
    if MTUS.contains(&mtu) {
        Ok(mtu)
    } else {
        Err(value("mtu", &mtu.to_string(), "68 to 65535 is expected, or 0 for the default route's"))
    }
}

fn check_flow_table_size(size: u32) -> Result<u32, ConfigError> {
    if FLOW_TABLE_SIZES.contains(&size) {
        Ok(size)
    } else {
        Err(value("flow-table-size", &size.to_string(), "1024 to 16777216 entries are expected"))
    }
}

fn value(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), expected }
}

fn cidr(key: &'static str, text: &str) -> Result<IpNetwork, ConfigError> {
    let given: IpNetwork = text
        .parse()
        .ok()
        .filter(|_| text.contains('/'))
        .ok_or_else(|| value(key, text, "a subnet such as 10.5.0.0/24 is expected"))?;
    let network = ipam::network_of(given);
    if network == given {
        Ok(given)
    } else {
        Err(ConfigError::HostBits { what: key, given, network })
    }
}

fn cidr4(key: &'static str, text: &str) -> Result<IpNetwork, ConfigError> {
    match cidr(key, text)? {
        IpNetwork::V6(given) => Err(ConfigError::NotYet(format!("an IPv6 {key} ({given})"))),
        given @ IpNetwork::V4(_) => Ok(given),
    }
}

fn ip(key: &'static str, text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| value(key, text, "an IP address is expected"))
}

fn ipv4(key: &'static str, text: &str) -> Result<IpAddr, ConfigError> {
    match ip(key, text)? {
        ip @ IpAddr::V4(_) => Ok(ip),
        ip @ IpAddr::V6(_) => Err(ConfigError::NotYet(format!("an IPv6 {key} ({ip})"))),
    }
}

impl TryFrom<&PoolEntry> for AddressPool {
    type Error = ConfigError;

    fn try_from(entry: &PoolEntry) -> Result<Self, ConfigError> {
        let base = cidr("default-address-pools", &entry.base)?;
        let size = entry.size;
        // Smaller than /30 leaves no room beside the gateway.
        let smallest = if base.is_ipv4() { 30 } else { 126 };
        if (base.prefix()..=smallest).contains(&size) {
            Ok(Self { base, size })
        } else {
            Err(ConfigError::PoolSize { base, size })
        }
    }
}

impl FromStr for Xdp {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "generic" => Ok(Self::Generic),
            "off" => Ok(Self::Off),
            _ => Err(value("xdp", text, "auto, native, generic or off is expected")),
        }
    }
}

#[cfg(test)]
mod tests;
