//! The names of maps and programs, as the object file has them.

pub const FLOWS: &str = "FLOWS";
pub const EMBRYONIC: &str = "EMBRYONIC";
pub const ENDPOINTS: &str = "ENDPOINTS";
pub const NETWORKS: &str = "NETWORKS";
pub const SUBNETS: &str = "SUBNETS";
pub const PORTS: &str = "PORTS";
pub const HOST_ADDRS: &str = "HOST_ADDRS";
pub const UPLINKS: &str = "UPLINKS";
pub const RESERVED_PORTS: &str = "RESERVED_PORTS";
pub const STATS: &str = "STATS";
pub const CONFIG: &str = "CONFIG";

/// All maps, each pinned under its name.
pub const MAPS: [&str; 11] = [
    FLOWS,
    EMBRYONIC,
    ENDPOINTS,
    NETWORKS,
    SUBNETS,
    PORTS,
    HOST_ADDRS,
    UPLINKS,
    RESERVED_PORTS,
    STATS,
    CONFIG,
];

pub const FROM_CONTAINER: &str = "from_container";
pub const TO_CONTAINER: &str = "to_container";
pub const FROM_UPLINK: &str = "from_uplink";
pub const TO_UPLINK: &str = "to_uplink";
