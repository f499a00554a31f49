//! What is measured: paths, families, measures. Pure: names and where a path
//! begins and ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{
    ns::Ns,
    site::{HOST, OUTSIDE, Published, SHIFT, Site},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Path {
    /// Container to container of the same network.
    Neighbour,
    /// Container to outside, through SNAT.
    Outbound,
    /// Outside to a published port, through DNAT.
    Published,
    /// The host to the published port, by the host's address.
    Host,
    /// The host to the published port, by 127.0.0.1 or `::1`.
    Loopback,
    /// Container to a published port of its own host's, by the host's address.
    Hairpin,
}

impl Path {
    pub(crate) const ALL: [Self; 6] = [
        Self::Neighbour,
        Self::Outbound,
        Self::Published,
        Self::Host,
        Self::Loopback,
        Self::Hairpin,
    ];

    /// As people read it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Neighbour => "container → container",
            Self::Outbound => "container → outside",
            Self::Published => "outside → published port",
            Self::Host => "host → published port",
            Self::Loopback => "host → published port by loopback",
            Self::Hairpin => "container → published port (hairpin)",
        }
    }

    /// Where the client is, what it asks, and what is added to the port.
    /// `None`: there is no such way.
    pub(crate) fn ends(self, site: &Site, family: Family) -> Option<(&Ns, IpAddr, u16)> {
        let machines = &site.machines;
        let host = HOST.of(family)?;
        let b = site.b_address.of(family)?;
        match (site.published, self) {
            // Its one path is what all others are compared with.
            (Published::Nowhere, _) => return Some((&site.a, b, 0)),
            (Published::AtContainer, Self::Published) => return Some((&machines.outside, b, 0)),
            (Published::AtContainer, Self::Host) => return Some((&machines.host, b, 0)),
            (Published::AtContainer, Self::Loopback | Self::Hairpin) => return None,
            _ => {}
        }
        Some(match self {
            Self::Neighbour => (&site.a, b, 0),
            Self::Outbound => (&site.a, OUTSIDE.of(family)?, 0),
            Self::Published => (&machines.outside, host, SHIFT),
            Self::Host => (&machines.host, host, SHIFT),
            Self::Loopback => (&machines.host, family.loopback(), SHIFT),
            Self::Hairpin => (&site.a, host, SHIFT),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    TcpRr,
    UdpRr,
    Crr,
    UdpPps,
    /// iperf3.
    Stream,
    /// iperf3, eight streams at once.
    Streams,
}

impl Measure {
    pub(crate) const ALL: [Self; 6] =
        [Self::TcpRr, Self::UdpRr, Self::Crr, Self::UdpPps, Self::Stream, Self::Streams];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::TcpRr => "TCP_RR",
            Self::UdpRr => "UDP_RR",
            Self::Crr => "CRR",
            Self::UdpPps => "UDP 64 B",
            Self::Stream => "TCP stream",
            Self::Streams => "TCP stream ×8",
        }
    }

    /// The load generator's word for it; `None`: it is iperf3's to do.
    pub(crate) fn load(self) -> Option<&'static str> {
        match self {
            Self::TcpRr => Some("tcp-rr"),
            Self::UdpRr => Some("udp-rr"),
            Self::Crr => Some("crr"),
            Self::UdpPps => Some("udp-pps"),
            Self::Stream | Self::Streams => None,
        }
    }
}

/// Which CPUs the two ends have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cpus {
    /// One for both: a rate is then what a transaction costs.
    One,
    /// All: latency as users have it.
    All,
}

impl Cpus {
    /// `taskset`'s list.
    pub(crate) fn list(self) -> String {
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        match self {
            Self::One => last.to_string(),
            Self::All => format!("0-{last}"),
        }
    }
}
