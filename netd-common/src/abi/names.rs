//! The names of maps and programs, as the object file has them.

pub const FLOWS: &str = "FLOWS";
pub const EMBRYONIC: &str = "EMBRYONIC";
pub const FRAGMENTS: &str = "FRAGMENTS";
pub const ENDPOINTS: &str = "ENDPOINTS";
pub const LINKS: &str = "LINKS";
pub const NETWORKS: &str = "NETWORKS";
pub const TRUSTED: &str = "TRUSTED";
pub const SUBNETS: &str = "SUBNETS";
pub const PORTS: &str = "PORTS";
pub const ALLOW: &str = "ALLOW";
pub const SYN_RATES: &str = "SYN_RATES";
pub const SOCKETS: &str = "SOCKETS";
pub const HOST_ADDRS: &str = "HOST_ADDRS";
pub const UPLINKS: &str = "UPLINKS";
pub const RESERVED_PORTS: &str = "RESERVED_PORTS";
pub const STATS: &str = "STATS";
pub const CONFIG: &str = "CONFIG";
pub const EVENTS: &str = "EVENTS";
pub const EVENT_SLOTS: &str = "EVENT_SLOTS";
pub const QUOTAS: &str = "QUOTAS";
pub const TALLIES: &str = "TALLIES";
pub const SLOW: &str = "SLOW";
pub const SETTLING: &str = "SETTLING";

/// All maps, each pinned under its name.
pub const MAPS: [&str; 23] = [
    FLOWS,
    EMBRYONIC,
    FRAGMENTS,
    ENDPOINTS,
    LINKS,
    NETWORKS,
    TRUSTED,
    SUBNETS,
    PORTS,
    ALLOW,
    SYN_RATES,
    SOCKETS,
    HOST_ADDRS,
    UPLINKS,
    RESERVED_PORTS,
    STATS,
    CONFIG,
    EVENTS,
    EVENT_SLOTS,
    QUOTAS,
    TALLIES,
    SLOW,
    SETTLING,
];

pub const FROM_CONTAINER: &str = "from_container";
pub const TO_CONTAINER: &str = "to_container";
pub const FROM_HOST: &str = "from_host";
pub const FROM_UPLINK: &str = "from_uplink";
pub const TO_UPLINK: &str = "to_uplink";
pub const UPLINK_XDP: &str = "uplink_xdp";
/// As [`UPLINK_XDP`], for links whose driver has no XDP.
pub const UPLINK_XDP_SKB: &str = "uplink_xdp_skb";
pub const XDP_PROGRAMS: [&str; 2] = [UPLINK_XDP, UPLINK_XDP_SKB];
/// What the programs of a cgroup's sockets count as.
pub const SOCKET: &str = "socket";

/// The slow path's programs, entered from those above by a tail call.
pub const FROM_CONTAINER_SLOW: &str = "from_container_slow";
pub const FROM_UPLINK_SLOW: &str = "from_uplink_slow";
pub const TO_UPLINK_SLOW: &str = "to_uplink_slow";

/// The programs of the cgroup's sockets.
pub const SOCKET_PROGRAMS: [&str; 8] = [
    "sock_connect4",
    "sock_connect6",
    "sock_sendmsg4",
    "sock_sendmsg6",
    "sock_recvmsg4",
    "sock_recvmsg6",
    "sock_getpeername4",
    "sock_getpeername6",
];
