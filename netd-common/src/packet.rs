//! A packet as the pipeline sees it: [`Packet`] reads and edits, [`Headers`]
//! is what was read. Sources: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443.

use crate::{
    abi::{
        Address, Be16, Family, FlowKey, Mac, Zone,
        wire::{
            ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EXT_DESTINATION, EXT_FRAGMENT,
            EXT_HOP_BY_HOP, EXT_ROUTING, Ethernet, FragmentHeader, ICMP_ECHO_REPLY,
            ICMP_ECHO_REQUEST, ICMP_PARAMETER_PROBLEM, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE,
            ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST, ICMPV6_FIRST_INFO, IPV4_LEN, IPV6_LEN, Icmp,
            Ipv4, Ipv6, NDP_REDIRECT, NDP_ROUTER_SOLICITATION, PROTO_DCCP, PROTO_ICMP,
            PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDP_LITE, Ports, TCP_RST, Wire,
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
    /// Makes the first `len` bytes readable; `false` where there are fewer, or
    /// more than any chain of headers has.
    fn ensure(&mut self, len: usize) -> bool;
    fn read<T: Wire>(&self, offset: usize) -> Option<T>;
    /// `offset` itself. In the kernel, the verifier forgets what it knows of it:
    /// it then walks what follows once, and not once for each way that the
    /// headers can be laid out.
    fn forget(&self, offset: usize) -> usize {
        offset
    }
    /// It will be cut into segments: it may be longer than it says.
    fn is_burst(&self) -> bool;

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

/// What a packet is, to the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The key is complete: TCP, UDP, SCTP, an echo, or a protocol without
    /// ports, whose are 0.
    Flow,
    /// A fragment that is not the first: the key has no ports yet.
    Piece,
    /// IPv6 with extension headers that have not been walked yet.
    Extended,
    /// An ICMP error: the key is the message's own, without ports.
    Error,
    /// A message of IPv6's neighbour discovery.
    Ndp,
    /// Nothing that can be translated: ICMP of other kinds, protocols whose
    /// checksum covers addresses in a way of their own.
    Other,
}

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    Whole,
    /// Has the layer-4 header.
    First,
    /// Has not.
    Later,
}

/// The headers of an IP frame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Headers {
    pub key: FlowKey,
    /// Offset of the layer-4 header, or of a later fragment's bytes.
    pub l4: usize,
    /// The datagram's id, where the packet is a part of one.
    pub id: u32,
    /// Where its bytes belong in the datagram; whether it is the last.
    pub offset: u16,
    /// Bytes of IP, as the header says.
    pub ip_len: u16,
    pub source_mac: Mac,
    /// IPv4's header checksum.
    pub checksum: u16,
    pub kind: Kind,
    pub part: Part,
    pub family: Family,
    pub ttl: u8,
    /// Byte 13 of a TCP header; 0 otherwise.
    pub tcp_flags: u8,
    /// An ICMP message's type.
    pub icmp_kind: u8,
    /// More fragments follow.
    pub more: bool,
    /// It was sent to netd's gateway.
    pub to_gateway: bool,
}

const TCP_FLAGS: usize = 13;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Extension headers that are walked over; more is nobody's in earnest.
const EXTENSIONS: usize = 6;

/// Whether netd carries frames of this type and looks into them.
#[inline(always)]
pub fn is_ip(ethertype: Be16) -> bool {
    ethertype == ETHERTYPE_IPV4 || ethertype == ETHERTYPE_IPV6
}

#[inline(always)]
const fn is_extension(header: u8) -> bool {
    matches!(header, EXT_HOP_BY_HOP | EXT_ROUTING | EXT_FRAGMENT | EXT_DESTINATION)
}

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
        l4: 0,
        id: 0,
        offset: 0,
        ip_len: 0,
        source_mac: Mac([0; 3]),
        checksum: 0,
        kind: Kind::Other,
        part: Part::Whole,
        family: Family::V4,
        ttl: 0,
        tcp_flags: 0,
        icmp_kind: 0,
        more: false,
        to_gateway: false,
    };

    /// A whole packet of a flow.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.kind == Kind::Flow && self.part == Part::Whole
    }

    /// A packet that can begin a flow by itself: neither a RST nor an answer.
    #[inline(always)]
    pub fn may_open(&self) -> bool {
        match self.key.proto {
            PROTO_ICMP => self.icmp_kind == ICMP_ECHO_REQUEST,
            PROTO_ICMPV6 => self.icmp_kind == ICMPV6_ECHO_REQUEST,
            _ => self.tcp_flags & TCP_RST == 0,
        }
    }

    /// As [`Headers::read`], into a value of its own and without extension
    /// headers: the fast path's.
    #[inline(always)]
    pub fn parse<P: Packet>(
        packet: &mut P,
        ethernet: &Ethernet,
        zone: Zone,
    ) -> Result<Self, DropReason> {
        let mut headers = Self::NONE;
        headers.begin(packet, ethernet, zone)?;
        Ok(headers)
    }

    /// Reads the headers of a frame that [`is_ip`].
    #[inline(always)]
    pub fn read<P: Packet>(
        &mut self,
        packet: &mut P,
        ethernet: &Ethernet,
        zone: Zone,
    ) -> Result<(), DropReason> {
        self.begin(packet, ethernet, zone)?;
        if self.kind == Kind::Extended {
            return self.extensions(packet);
        }
        Ok(())
    }

    #[inline(always)]
    fn begin<P: Packet>(
        &mut self,
        packet: &mut P,
        ethernet: &Ethernet,
        zone: Zone,
    ) -> Result<(), DropReason> {
        self.key.zone = zone as u8;
        (self.key.sport, self.key.dport, self.key.pad) = (Be16(0), Be16(0), 0);
        (self.source_mac, self.to_gateway) = (ethernet.src, ethernet.dst.is_gateway());
        (self.part, self.more) = (Part::Whole, false);
        (self.tcp_flags, self.icmp_kind) = (0, 0);
        if ethernet.ethertype == ETHERTYPE_IPV4 {
            self.ipv4(packet)?;
        } else {
            self.ipv6(packet)?;
        }
        self.l4 = packet.forget(self.l4);
        Ok(())
    }

    #[inline(never)]
    fn ipv4<P: Packet>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        if !packet.ensure(ETHERNET_LEN + IPV4_LEN) {
            return Err(DropReason::Malformed);
        }
        let ip: Ipv4 = packet.read(ETHERNET_LEN).ok_or(DropReason::Malformed)?;
        let header_len = usize::from(ip.version_ihl & 0xf) * 4;
        if ip.version_ihl >> 4 != 4 || header_len < IPV4_LEN {
            return Err(DropReason::Malformed);
        }
        self.ip_len = ip.total_len.to_host();
        self.check_len(packet, header_len)?;
        (self.key.src, self.key.dst) = (Address::v4_word(ip.src), Address::v4_word(ip.dst));
        self.key.proto = ip.proto;
        (self.family, self.ttl, self.checksum) = (Family::V4, ip.ttl, ip.checksum);
        self.l4 = ETHERNET_LEN + header_len;
        let fragment = ip.fragment.to_host();
        if fragment & !DONT_FRAGMENT != 0 && fragment & (MORE_FRAGMENTS | OFFSET) != 0 {
            self.id = u32::from(ip.id.0);
            self.is_part((fragment & OFFSET) << 3, fragment & MORE_FRAGMENTS != 0);
            if self.part == Part::Later {
                return Ok(());
            }
        }
        self.transport(packet)
    }

    #[inline(never)]
    fn ipv6<P: Packet>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        if !packet.ensure(ETHERNET_LEN + IPV6_LEN) {
            return Err(DropReason::Malformed);
        }
        let ip: Ipv6 = packet.read(ETHERNET_LEN).ok_or(DropReason::Malformed)?;
        let [version, ..] = ip.version_class_flow.to_ne_bytes();
        // An IPv4 address in IPv6's clothes (RFC 4291 §2.5.5.2) never belongs on
        // the wire, and would be taken for the IPv4 address itself.
        if version >> 4 != 6 || ip.src.is_v4() || ip.dst.is_v4() {
            return Err(DropReason::Malformed);
        }
        let payload_len = ip.payload_len.to_host();
        self.ip_len = if payload_len == 0 && packet.is_burst() {
            0
        } else {
            #[allow(clippy::cast_possible_truncation)] // 40
            payload_len.saturating_add(IPV6_LEN as u16)
        };
        self.check_len(packet, IPV6_LEN)?;
        (self.key.src, self.key.dst) = (ip.src, ip.dst);
        self.key.proto = ip.next_header;
        (self.family, self.ttl, self.checksum) = (Family::V6, ip.hop_limit, 0);
        self.l4 = ETHERNET_LEN + IPV6_LEN;
        if is_extension(ip.next_header) {
            self.kind = Kind::Extended;
            return Ok(());
        }
        self.transport(packet)
    }

    /// The header's length must agree with the frame's.
    #[inline(always)]
    fn check_len<P: Packet>(&self, packet: &P, header_len: usize) -> Result<(), DropReason> {
        let len = usize::from(self.ip_len);
        // A burst of segments over 64 KiB says 0 (BIG TCP, Linux 6.3).
        let counted = len >= header_len && len + ETHERNET_LEN <= packet.len();
        let uncounted = len == 0 && packet.is_burst();
        if counted || uncounted { Ok(()) } else { Err(DropReason::Malformed) }
    }

    #[inline(always)]
    fn is_part(&mut self, offset: u16, more: bool) {
        (self.offset, self.more) = (offset, more);
        if offset == 0 {
            self.part = Part::First;
        } else {
            (self.part, self.kind) = (Part::Later, Kind::Piece);
        }
    }

    /// Walks over IPv6's extension headers (RFC 8200 §4).
    #[inline(never)]
    fn extensions<P: Packet>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        let mut at = self.l4;
        let mut next = self.key.proto;
        let mut n = 0;
        while n < EXTENSIONS {
            n += 1;
            if !is_extension(next) {
                (self.l4, self.key.proto) = (at, next);
                return self.transport(packet);
            }
            if !packet.ensure(at + size_of::<FragmentHeader>()) {
                return Err(DropReason::Malformed);
            }
            let header: FragmentHeader = packet.read(at).ok_or(DropReason::Malformed)?;
            if next == EXT_FRAGMENT {
                at += size_of::<FragmentHeader>();
                let offset = header.offset.to_host();
                if offset & !0b110 != 0 {
                    self.id = header.id;
                    self.is_part(offset & !0b111, offset & 1 != 0);
                }
                if self.part == Part::Later {
                    (self.l4, self.key.proto) = (at, header.next_header);
                    return Ok(());
                }
            } else {
                // The second byte is a length in every other header.
                at += (usize::from(header.reserved) + 1) * 8;
            }
            next = header.next_header;
        }
        Err(DropReason::Malformed)
    }

    #[inline(always)]
    fn transport<P: Packet>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        match (self.key.proto, self.family) {
            (PROTO_TCP, _) => self.ports(packet, 20),
            (PROTO_UDP, _) => self.ports(packet, 8),
            (PROTO_SCTP, _) => self.ports(packet, 12),
            (PROTO_ICMP, Family::V4) | (PROTO_ICMPV6, Family::V6) => self.icmp(packet),
            (PROTO_ICMP | PROTO_ICMPV6 | PROTO_DCCP | PROTO_UDP_LITE, _) => {
                self.kind = Kind::Other;
                Ok(())
            }
            _ => {
                self.kind = Kind::Flow;
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn ports<P: Packet>(&mut self, packet: &mut P, len: usize) -> Result<(), DropReason> {
        if !packet.ensure(self.l4 + len) {
            return Err(DropReason::Malformed);
        }
        let ports: Ports = packet.read(self.l4).ok_or(DropReason::Malformed)?;
        (self.key.sport, self.key.dport) = (ports.src, ports.dst);
        if self.key.proto == PROTO_TCP {
            self.tcp_flags = packet.read(self.l4 + TCP_FLAGS).ok_or(DropReason::Malformed)?;
        }
        self.kind = Kind::Flow;
        Ok(())
    }

    #[inline(always)]
    fn icmp<P: Packet>(&mut self, packet: &mut P) -> Result<(), DropReason> {
        if !packet.ensure(self.l4 + size_of::<Icmp>()) {
            return Err(DropReason::Malformed);
        }
        let icmp: Icmp = packet.read(self.l4).ok_or(DropReason::Malformed)?;
        self.icmp_kind = icmp.kind;
        self.kind = match (self.family, icmp.kind) {
            (Family::V4, ICMP_ECHO_REQUEST) | (Family::V6, ICMPV6_ECHO_REQUEST) => {
                self.key.sport = icmp.id;
                Kind::Flow
            }
            (Family::V4, ICMP_ECHO_REPLY) | (Family::V6, ICMPV6_ECHO_REPLY) => {
                self.key.dport = icmp.id;
                Kind::Flow
            }
            (Family::V4, ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM)
            | (Family::V6, 0..ICMPV6_FIRST_INFO) => Kind::Error,
            (Family::V6, NDP_ROUTER_SOLICITATION..=NDP_REDIRECT) => Kind::Ndp,
            _ => Kind::Other,
        };
        Ok(())
    }
}
