//! `netd.json` as it is written.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Every key of `netd.json`; `None` where it is not given. The flags of
/// `netd agent` make one too, and [`ConfigFile::merge`] puts them on top.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    pub bip: Option<String>,
    pub fixed_cidr: Option<String>,
    pub default_gateway: Option<String>,
    pub mtu: Option<u32>,
    pub icc: Option<bool>,
    pub ip_masq: Option<bool>,
    pub ipv6: Option<bool>,
    pub default_address_pools: Option<Vec<PoolEntry>>,
    pub ip: Option<String>,
    pub uplinks: Option<Vec<String>>,
    pub xdp: Option<String>,
    /// Accepted as in `daemon.json`; netd always does it.
    pub live_restore: Option<bool>,
    pub flow_table_size: Option<u32>,
    pub metrics_address: Option<String>,
    /// `off`, or the socket's path.
    pub docker_plugin: Option<String>,
    /// Likewise.
    pub docker_socket: Option<String>,
}

/// `{"base": "10.0.0.0/8", "size": 24}`; `base=10.0.0.0/8,size=24` as a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolEntry {
    pub base: String,
    pub size: u8,
}

/// The keys of [`ConfigFile`], for the nearest to a misspelt one.
pub const KEYS: [&str; 16] = [
    "bip",
    "fixed-cidr",
    "default-gateway",
    "mtu",
    "icc",
    "ip-masq",
    "ipv6",
    "default-address-pools",
    "ip",
    "uplinks",
    "xdp",
    "live-restore",
    "flow-table-size",
    "metrics-address",
    "docker-plugin",
    "docker-socket",
];

impl ConfigFile {
    /// Of `flags` what is given, of the file the rest.
    #[must_use]
    pub fn merge(self, flags: Self) -> Self {
        Self {
            bip: flags.bip.or(self.bip),
            fixed_cidr: flags.fixed_cidr.or(self.fixed_cidr),
            default_gateway: flags.default_gateway.or(self.default_gateway),
            mtu: flags.mtu.or(self.mtu),
            icc: flags.icc.or(self.icc),
            ip_masq: flags.ip_masq.or(self.ip_masq),
            ipv6: flags.ipv6.or(self.ipv6),
            default_address_pools: flags.default_address_pools.or(self.default_address_pools),
            ip: flags.ip.or(self.ip),
            uplinks: flags.uplinks.or(self.uplinks),
            xdp: flags.xdp.or(self.xdp),
            live_restore: flags.live_restore.or(self.live_restore),
            flow_table_size: flags.flow_table_size.or(self.flow_table_size),
            metrics_address: flags.metrics_address.or(self.metrics_address),
            docker_plugin: flags.docker_plugin.or(self.docker_plugin),
            docker_socket: flags.docker_socket.or(self.docker_socket),
        }
    }
}

/// Reads the text of `netd.json`. An empty file says nothing.
impl FromStr for ConfigFile {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let syntax = |error: serde_json::Error| ConfigError::Syntax(error.to_string());
        let keys: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(syntax)?;
        if let Some(key) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError::UnknownKey { key: key.clone(), nearest: nearest(key, &KEYS) });
        }
        // From the text once more: its errors name line and column.
        serde_json::from_str(text).map_err(syntax)
    }
}

/// The known word that is most like `word`.
pub(crate) fn nearest(word: &str, known: &[&'static str]) -> &'static str {
    known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)))
        .copied()
        .unwrap_or_default()
}

impl FromStr for PoolEntry {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::Value {
            key: "default-address-pools",
            value: text.to_owned(),
            expected: "base=CIDR,size=BITS is expected",
        };
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.split_once('=').ok_or_else(invalid)? {
                ("base", value) => base = Some(value.to_owned()),
                ("size", value) => size = value.parse().ok(),
                _ => return Err(invalid()),
            }
        }
        match (base, size) {
            (Some(base), Some(size)) => Ok(Self { base, size }),
            _ => Err(invalid()),
        }
    }
}
