//! Addresses, ports and MACs as they stand in keys.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// The wildcard (`0.0.0.0`, `::`) and every other address: 16 bytes in network
/// order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
///
/// Kept as four words, each in memory order: the kernel side copies, compares
/// and hashes by the word, and its compiler would not put bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address([u32; 4]);

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
        Self([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])])
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
    /// No address; in a [`super::PortKey`] any IPv4 address of the host.
    pub const ANY: Self = Self([0; 4]);
    /// In a [`super::PortKey`] any IPv6 address of the host: `::ffff:0:0:0`, a
    /// prefix of no use on the wire.
    pub const ANY6: Self = Self([0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), 0, 0]);
    /// `::1`.
    pub const LOOPBACK6: Self = Self([0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])]);

    /// `a.b.c.d`, its bytes in network order.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_word(u32::from_ne_bytes(octets))
    }

    /// As [`Address::v4`], of the four bytes in memory order.
    #[inline(always)]
    pub const fn v4_word(word: u32) -> Self {
        Self([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), word])
    }

    #[inline(always)]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        self.0
    }

    /// The link-local address that is made of a MAC (RFC 4291, appendix A).
    pub const fn link_local(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.octets();
        Self::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }

    /// The first four bytes.
    #[inline(always)]
    pub const fn first_octets(&self) -> [u8; 4] {
        self.0[0].to_ne_bytes()
    }

    /// The last four bytes: the IPv4 address, where it is one.
    #[inline(always)]
    pub const fn v4_octets(&self) -> [u8; 4] {
        self.0[3].to_ne_bytes()
    }

    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// `127.0.0.0/8` and `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        let [a, b, c, d] = self.0;
        if self.is_v4() {
            d.to_ne_bytes()[0] == 127
        } else {
            a | b | c == 0 && d == u32::from_ne_bytes([0, 0, 0, 1])
        }
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(ip.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from_octets(ip.octets())
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
            Self::V6(address.octets().into())
        }
    }
}
