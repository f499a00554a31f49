//! Addresses, ports and MACs as they stand in keys.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The wildcard (`0.0.0.0`, `::`) and every other address: 16 bytes in network
/// order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialOrd, Ord, Eq)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

/// A port, or an ICMP echo identifier, in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be16(pub u16);

/// An Ethernet address, in wire order. Three words, because the kernel side
/// compares and copies by the word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Mac(pub [u16; 3]);

super::pod!(Address: 16, Be16: 2, Mac: 6);

impl Mac {
    #[inline(always)]
    pub const fn from_octets([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([a, b]),
            u16::from_ne_bytes([c, d]),
            u16::from_ne_bytes([e, f]),
        ])
    }

    #[inline(always)]
    pub const fn octets(self) -> [u8; 6] {
        let ([a, b], [c, d], [e, f]) =
            (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes());
        [a, b, c, d, e, f]
    }

    /// Multicast or broadcast.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }

    /// One of netd's gateways (`02:6e:64:…`): its sender means to be routed.
    #[inline(always)]
    pub const fn is_gateway(self) -> bool {
        self.0[0] == u16::from_ne_bytes([0x02, 0x6e]) && self.0[1].to_ne_bytes()[0] == 0x64
    }
}

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
        let [a, b, c, _] = self.words();
        a == 0 && b == 0 && c == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    /// Four words in memory order: how the kernel side compares and hashes.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        let a = &self.0;
        [
            u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
            u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
            u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
            u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
        ]
    }
}

// By words: a byte-wise comparison would call `bcmp`, which BPF does not have.
impl PartialEq for Address {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.words(), other.words());
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl core::hash::Hash for Address {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
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
