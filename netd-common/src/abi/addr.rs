//! Addresses, ports and MACs as they stand in keys.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The wildcard (`0.0.0.0`, `::`) and every other address: 16 bytes in network
/// order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

/// A port, or an ICMP echo identifier, in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be16(pub u16);

/// An Ethernet address.
pub type Mac = [u8; 6];

super::pod!(Address: 16, Be16: 2);

impl Be16 {
    #[inline(always)]
    pub const fn from_host(port: u16) -> Self {
        Self(port.to_be())
    }

    #[inline(always)]
    pub const fn to_host(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl Address {
    /// Matches any address in a [`super::PortKey`].
    pub const ANY: Self = Self([0; 16]);

    /// `a.b.c.d`, its bytes in network order.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The last four bytes: the IPv4 address, where it is one.
    #[inline(always)]
    pub const fn v4_octets(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(ip.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Self::v6(ip.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            Self::V4(address.v4_octets().into())
        } else {
            Self::V6(address.0.into())
        }
    }
}
