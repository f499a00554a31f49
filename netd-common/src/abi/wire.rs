//! Protocol headers as they stand on the wire, multi-byte fields in network
//! order. Sources: IEEE 802.3, RFC 826 (ARP), RFC 791 (IPv4), RFC 9293 (TCP),
//! RFC 768 (UDP), RFC 792 (ICMP).

use super::{Be16, Mac};

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

/// The first four bytes of TCP and UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ports {
    pub src: Be16,
    pub dst: Be16,
}

/// The first eight bytes of ICMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub id: Be16,
    pub sequence: Be16,
}

wire!(u8: 1, Be16: 2, u32: 4, Mac: 6, Ethernet: 14, Arp: 28, Ipv4: 20, Ports: 4, Icmp: 8);

pub const ETHERNET_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
pub const ARP_LEN: usize = 28;

pub const ETHERTYPE_IPV4: Be16 = Be16::from_host(0x0800);
pub const ETHERTYPE_ARP: Be16 = Be16::from_host(0x0806);
pub const ETHERTYPE_IPV6: Be16 = Be16::from_host(0x86dd);

pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;

pub const ICMP_ECHO_REPLY: u8 = 0;
pub const ICMP_ECHO_REQUEST: u8 = 8;

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
