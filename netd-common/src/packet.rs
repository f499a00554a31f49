//! A packet as the pipeline sees it: [`Packet`] reads and edits, [`Headers`]
//! is what was read. Sources: RFC 791, RFC 9293, RFC 768, RFC 792.

use crate::{
    abi::{
        Address, Be16, FlowKey, Mac, Zone,
        wire::{
            ETHERNET_LEN, Ethernet, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, IPV4_LEN, Icmp, Ipv4,
            PROTO_ICMP, PROTO_TCP, PROTO_UDP, Ports, Wire,
        },
    },
    verdict::DropReason,
};

/// Which part of a layer-4 checksum a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// An address of IPv4, whose own header's checksum makes up for it.
    PseudoHeader4,
    /// An address of IPv6, which nothing else makes up for.
    PseudoHeader6,
    /// The segment itself (a port, an option).
    Segment,
}

/// One frame, from its Ethernet header on. Offsets and lengths in bytes.
pub trait Packet {
    /// The link that the program runs on.
    fn ifindex(&self) -> u32;
    fn len(&self) -> usize;
    /// Makes the first `len` bytes readable; `false` where there are fewer.
    fn ensure(&mut self, len: usize) -> bool;
    fn read<T: Wire>(&self, offset: usize) -> Option<T>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A frame that can be edited and sent elsewhere.
pub trait PacketMut: Packet {
    /// The link that the frame came in by, where it was not made here.
    fn ingress_ifindex(&self) -> u32;
    /// Payload bytes of each segment that the frame will be cut into; 0: none.
    fn gso_size(&self) -> u32;
    /// A VLAN tag is set aside in the frame's metadata.
    fn has_vlan(&self) -> bool;
    /// The link saw the frame, but it is for another MAC.
    fn is_for_another(&self) -> bool;
    /// Marks the frame as netd's own work, for the program at the uplink.
    fn mark_translated(&mut self);
    /// Takes that mark away; `true` where it was set.
    fn take_translated(&mut self) -> bool;
    /// Where [`crate::verdict::Verdict::forward`] is to send the frame.
    fn set_next_hop(&mut self, next_hop: Address);
    /// Never for a layer-4 checksum: that is [`PacketMut::update_checksum`]'s.
    #[must_use]
    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> bool;
    /// Tells the checksum at `offset` that what it covers changed by `diff`
    /// (see [`crate::csum::diff`]). `proto` decides what a checksum of zero
    /// means.
    #[must_use]
    fn update_checksum(&mut self, offset: usize, proto: u8, covered: Covered, diff: u32) -> bool;
    /// Tells the frame's metadata that bytes which no checksum in the frame
    /// covers changed by `diff` (IPv6's hop limit).
    fn changed_uncovered(&mut self, diff: u32);
}

/// What of a packet can be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP, UDP or ICMP echo: the key is complete.
    Flow,
    /// A fragment: the key has no ports.
    Fragment,
    /// Another protocol, or ICMP that is no echo: the key has no ports.
    Other,
}

/// The headers of an IPv4 frame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Headers {
    pub key: FlowKey,
    pub ip: Ipv4,
    pub source_mac: Mac,
    pub kind: Kind,
    /// Offset of the layer-4 header.
    pub l4: usize,
    /// Byte 13 of a TCP header; 0 otherwise.
    pub tcp_flags: u8,
}

const TCP_FLAGS: usize = 13;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

impl Headers {
    /// Of no packet at all.
    pub(crate) const NONE: Self = Self {
        key: FlowKey {
            src: Address::ANY,
            dst: Address::ANY,
            sport: Be16(0),
            dport: Be16(0),
            proto: 0,
            zone: 0,
            pad: 0,
        },
        ip: Ipv4 {
            version_ihl: 0,
            tos: 0,
            total_len: Be16(0),
            id: Be16(0),
            fragment: Be16(0),
            ttl: 0,
            proto: 0,
            checksum: 0,
            src: 0,
            dst: 0,
        },
        source_mac: Mac([0; 3]),
        kind: Kind::Other,
        l4: 0,
        tcp_flags: 0,
    };

    /// As [`Headers::read`], into a value of its own.
    #[inline(always)]
    pub fn parse<P: PacketMut>(
        packet: &mut P,
        ethernet: &Ethernet,
        zone: Zone,
    ) -> Result<Self, DropReason> {
        let mut headers = Self::NONE;
        headers.read(packet, ethernet, zone)?;
        Ok(headers)
    }

    /// Reads the headers of a frame whose Ethernet header says IPv4.
    #[inline(always)]
    pub fn read<P: PacketMut>(
        &mut self,
        packet: &mut P,
        ethernet: &Ethernet,
        zone: Zone,
    ) -> Result<(), DropReason> {
        if !packet.ensure(ETHERNET_LEN + IPV4_LEN) {
            return Err(DropReason::Malformed);
        }
        let ip: Ipv4 = packet.read(ETHERNET_LEN).ok_or(DropReason::Malformed)?;
        let header_len = usize::from(ip.version_ihl & 0xf) * 4;
        if ip.version_ihl >> 4 != 4 || header_len < IPV4_LEN {
            return Err(DropReason::Malformed);
        }
        let total_len = usize::from(ip.total_len.to_host());
        // A segment burst over 64 KiB says 0 (BIG TCP, Linux 6.3).
        let counted = total_len >= header_len && total_len + ETHERNET_LEN <= packet.len();
        let uncounted = total_len == 0 && packet.gso_size() != 0;
        if !counted && !uncounted {
            return Err(DropReason::Malformed);
        }
        self.key = FlowKey {
            src: Address::v4_word(ip.src),
            dst: Address::v4_word(ip.dst),
            sport: Be16(0),
            dport: Be16(0),
            proto: ip.proto,
            zone: zone as u8,
            pad: 0,
        };
        self.ip = ip;
        self.source_mac = ethernet.src;
        self.kind = Kind::Other;
        self.l4 = ETHERNET_LEN + header_len;
        self.tcp_flags = 0;
        if ip.fragment.to_host() & MORE_FRAGMENTS_OR_OFFSET != 0 {
            self.kind = Kind::Fragment;
            return Ok(());
        }
        match ip.proto {
            PROTO_TCP | PROTO_UDP => self.ports(packet),
            PROTO_ICMP => self.echo(packet),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn ports<P: PacketMut>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        let tcp = self.key.proto == PROTO_TCP;
        let len = if tcp { 20 } else { 8 };
        if !packet.ensure(self.l4 + len) {
            return Err(DropReason::Malformed);
        }
        let ports: Ports = packet.read(self.l4).ok_or(DropReason::Malformed)?;
        (self.key.sport, self.key.dport) = (ports.src, ports.dst);
        if tcp {
            self.tcp_flags = packet.read(self.l4 + TCP_FLAGS).ok_or(DropReason::Malformed)?;
        }
        self.kind = Kind::Flow;
        Ok(())
    }

    #[inline(always)]
    fn echo<P: PacketMut>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        if !packet.ensure(self.l4 + 8) {
            return Err(DropReason::Malformed);
        }
        let icmp: Icmp = packet.read(self.l4).ok_or(DropReason::Malformed)?;
        match icmp.kind {
            ICMP_ECHO_REQUEST => self.key.sport = icmp.id,
            ICMP_ECHO_REPLY => self.key.dport = icmp.id,
            _ => return Ok(()),
        }
        self.kind = Kind::Flow;
        Ok(())
    }
}
