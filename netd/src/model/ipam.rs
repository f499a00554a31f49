//! Address pools that another program's networks draw from, as stored: netd
//! as Docker's IPAM driver.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A pool's name, `netd-local/SUBNET` or `netd-local/SUBNET/RANGE`: the same
/// for the same request, so that one that is repeated is recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(String);

/// A subnet, and the addresses of it that are given away: the gateway and the
/// auxiliary ones as well as the endpoints'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamPool {
    pub id: PoolId,
    /// The network address and prefix.
    pub subnet: IpNetwork,
    /// Where automatic addresses come from; within `subnet`.
    pub range: Option<IpNetwork>,
    /// Stored one by one.
    #[serde(skip)]
    pub leases: BTreeSet<IpAddr>,
    /// RFC 3339, UTC.
    pub created: String,
}

impl PoolId {
    pub fn new(space: &str, subnet: IpNetwork, range: Option<IpNetwork>) -> Self {
        match range {
            None => Self(format!("{space}/{subnet}")),
            Some(range) => Self(format!("{space}/{subnet}/{range}")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for PoolId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
