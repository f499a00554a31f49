//! Protocol headers as they stand on the wire, multi-byte fields in network
//! order. Sources: IEEE 802.3, RFC 826 (ARP), RFC 791 (IPv4), RFC 9293 (TCP),
//! RFC 768 (UDP), RFC 9260 (SCTP), RFC 792 (ICMP), RFC 8200 (IPv6), RFC 4443
//! (ICMPv6), RFC 4861 (its neighbour discovery).

use super::{Address, Be16, Mac};

/// A header that may be read from and written to a packet as it is.
///
/// # Safety
/// `repr(C)`, no padding, every bit pattern valid.
#[allow(unsafe_code)]
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($t:ty: $size:literal),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$t>() == $size);
        // SAFETY: `repr(C)` or an integer, no padding (the size is asserted
        // and the fields add up to it), every bit pattern is valid.
        #[allow(unsafe_code)]
        unsafe impl Wire for $t {}
    )+};
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ethernet {
    pub dst: Mac,
    pub src: Mac,
    pub ethertype: Be16,
}

/// ARP for IPv4 over Ethernet. Addresses are split so that the header needs
/// no padding at its 2-byte alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Arp {
    pub hardware: Be16,
    pub protocol: Be16,
    /// Address lengths: 6 and 4, so `0x0604`.
    pub lengths: Be16,
    pub operation: Be16,
    pub sender_mac: Mac,
    pub sender_ip: [u16; 2],
    pub target_mac: Mac,
    pub target_ip: [u16; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len: Be16,
    pub id: Be16,
    pub fragment: Be16,
    pub ttl: u8,
    pub proto: u8,
    pub checksum: u16,
    /// In memory order.
    pub src: u32,
    pub dst: u32,
}

/// The part of [`Ipv4`] that a hop changes, at [`IPV4_TAIL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv4Tail {
    pub ttl: u8,
    pub proto: u8,
    pub checksum: u16,
    /// In memory order.
    pub src: u32,
    pub dst: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv6 {
    /// Version, traffic class and flow label, in memory order.
    pub version_class_flow: u32,
    pub payload_len: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: Address,
    pub dst: Address,
}

/// How every extension header but [`FragmentHeader`] begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extension {
    pub next_header: u8,
    /// In units of 8 bytes, the first not counted.
    pub len: u8,
}

/// IPv6's extension header of a fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentHeader {
    pub next_header: u8,
    pub reserved: u8,
    /// In units of 8 bytes in the upper 13 bits; the lowest: more follow.
    pub offset: Be16,
    /// In memory order.
    pub id: u32,
}

/// The first four bytes of TCP, UDP and SCTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ports {
    pub src: Be16,
    pub dst: Be16,
}

/// The first eight bytes of ICMP and ICMPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub id: Be16,
    pub sequence: Be16,
}

wire!(u8: 1, u16: 2, Be16: 2, u32: 4, Mac: 6, Ethernet: 14, Arp: 28, Ipv4: 20, Ports: 4, Icmp: 8);
wire!(Address: 16, Ipv4Tail: 12, Ipv6: 40, Extension: 2, FragmentHeader: 8, NdpOption: 8);

/// An option of neighbour discovery that holds a MAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NdpOption {
    pub kind: u8,
    /// In units of 8 bytes.
    pub len: u8,
    pub mac: Mac,
}

pub const ETHERNET_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
/// Offset of [`Ipv4Tail`] in [`Ipv4`].
pub const IPV4_TAIL: usize = 8;
pub const IPV6_LEN: usize = 40;
/// Offsets in [`Ipv6`].
pub const IPV6_HOP_LIMIT: usize = 7;
pub const IPV6_SRC: usize = 8;
pub const IPV6_DST: usize = 24;
pub const ARP_LEN: usize = 28;

pub const ETHERTYPE_IPV4: Be16 = Be16::from_host(0x0800);
pub const ETHERTYPE_ARP: Be16 = Be16::from_host(0x0806);
pub const ETHERTYPE_IPV6: Be16 = Be16::from_host(0x86dd);

pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_DCCP: u8 = 33;
pub const PROTO_ICMPV6: u8 = 58;
pub const PROTO_SCTP: u8 = 132;
pub const PROTO_UDP_LITE: u8 = 136;

/// Extension headers of IPv6 that a router walks over.
pub const EXT_HOP_BY_HOP: u8 = 0;
pub const EXT_ROUTING: u8 = 43;
pub const EXT_FRAGMENT: u8 = 44;
pub const EXT_DESTINATION: u8 = 60;

pub const ICMP_ECHO_REPLY: u8 = 0;
pub const ICMP_UNREACHABLE: u8 = 3;
pub const ICMP_ECHO_REQUEST: u8 = 8;
pub const ICMP_TIME_EXCEEDED: u8 = 11;
pub const ICMP_PARAMETER_PROBLEM: u8 = 12;

/// ICMPv6: all below are errors.
pub const ICMPV6_FIRST_INFO: u8 = 128;
pub const ICMPV6_ECHO_REQUEST: u8 = 128;
pub const ICMPV6_ECHO_REPLY: u8 = 129;
pub const NDP_ROUTER_SOLICITATION: u8 = 133;
pub const NDP_ROUTER_ADVERTISEMENT: u8 = 134;
pub const NDP_NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NDP_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub const NDP_REDIRECT: u8 = 137;

/// Byte 13 of a TCP header.
pub const TCP_FIN: u8 = 1;
pub const TCP_SYN: u8 = 1 << 1;
pub const TCP_RST: u8 = 1 << 2;
pub const TCP_ACK: u8 = 1 << 4;

/// `T` at `offset` of `bytes`, for packets in ordinary memory.
pub fn read<T: Wire>(bytes: &[u8], offset: usize) -> Option<T> {
    let end = offset.checked_add(size_of::<T>())?;
    let source = bytes.get(offset..end)?;
    // SAFETY: `source` holds `size_of::<T>()` bytes, and any are a valid `T`.
    #[allow(unsafe_code)]
    Some(unsafe { source.as_ptr().cast::<T>().read_unaligned() })
}

/// Puts `value` at `offset` of `bytes`; `false` where it does not fit.
pub fn write<T: Wire>(bytes: &mut [u8], offset: usize, value: &T) -> bool {
    let Some(end) = offset.checked_add(size_of::<T>()) else {
        return false;
    };
    let Some(target) = bytes.get_mut(offset..end) else {
        return false;
    };
    // SAFETY: `target` holds `size_of::<T>()` bytes, and `T` has no padding.
    #[allow(unsafe_code)]
    unsafe {
        target.as_mut_ptr().cast::<T>().write_unaligned(*value);
    }
    true
}
