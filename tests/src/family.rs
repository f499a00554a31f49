//! IPv4 or IPv6: what a test that holds for both is told to use.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::topology::{BEYOND, BEYOND6, FAR, FAR6, HOST, HOST6, NEAR, NEAR6, OUTSIDE, OUTSIDE6};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// One of two.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// The host's address on its uplink.
    pub fn host(self) -> IpAddr {
        self.pick(HOST.into(), HOST6.into())
    }

    /// The outside's address, where no router is in between.
    pub fn outside(self) -> IpAddr {
        self.pick(OUTSIDE.into(), OUTSIDE6.into())
    }

    /// The router's address towards the host.
    pub fn near(self) -> IpAddr {
        self.pick(NEAR.into(), NEAR6.into())
    }

    /// The router's address towards the outside.
    pub fn far(self) -> IpAddr {
        self.pick(FAR.into(), FAR6.into())
    }

    /// The outside's address behind the router.
    pub fn beyond(self) -> IpAddr {
        self.pick(BEYOND.into(), BEYOND6.into())
    }

    pub fn loopback(self) -> IpAddr {
        self.pick(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
    }

    /// Every address, for a server: of this family alone.
    pub fn any(self, port: u16) -> String {
        let any = self.pick(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        SocketAddr::new(any, port).to_string()
    }

    /// Bytes of its header, without options and extensions.
    pub fn header(self) -> usize {
        self.pick(20, 40)
    }

    /// `ip`'s flag.
    pub fn flag(self) -> &'static str {
        self.pick("-4", "-6")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("IPv4", "IPv6"))
    }
}
