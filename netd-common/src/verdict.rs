//! What becomes of a packet, and why.

use crate::abi::stats::OUTCOMES;

/// The programs, numbered as in `STATS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    FromContainer = 0,
    ToContainer = 1,
    FromUplink = 2,
    ToUplink = 3,
    /// XDP of an uplink.
    UplinkXdp = 4,
    /// Sockets of the host's own processes (a cgroup's `connect`, `sendmsg`).
    Socket = 5,
    FromHost = 6,
}

impl Hook {
    /// Those of TC.
    pub const TC: [Self; 5] =
        [Self::FromContainer, Self::ToContainer, Self::FromUplink, Self::ToUplink, Self::FromHost];
    pub const ALL: [Self; 7] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromUplink,
        Self::ToUplink,
        Self::UplinkXdp,
        Self::Socket,
        Self::FromHost,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::FromContainer => crate::abi::names::FROM_CONTAINER,
            Self::ToContainer => crate::abi::names::TO_CONTAINER,
            Self::FromUplink => crate::abi::names::FROM_UPLINK,
            Self::ToUplink => crate::abi::names::TO_UPLINK,
            Self::UplinkXdp => crate::abi::names::UPLINK_XDP,
            Self::Socket => crate::abi::names::SOCKET,
            Self::FromHost => crate::abi::names::FROM_HOST,
        }
    }

    /// The program that goes on where [`Hook::name`]'s does not decide.
    pub const fn slow_name(self) -> Option<&'static str> {
        match self {
            Self::FromContainer => Some(crate::abi::names::FROM_CONTAINER_SLOW),
            Self::FromUplink => Some(crate::abi::names::FROM_UPLINK_SLOW),
            Self::ToUplink => Some(crate::abi::names::TO_UPLINK_SLOW),
            Self::ToContainer | Self::UplinkXdp | Self::Socket | Self::FromHost => None,
        }
    }
}

/// What to do with a packet, in one word: an outcome and, for the outcomes
/// that leave by a link, its index.
///
/// An enum with fields would do, but for the kernel's verifier: a function
/// that returns one leaves the fields of the other variants undefined, and
/// their registers unreadable.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Verdict(u64);

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a packet was dropped. Numbers are kept for ever: append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl DropReason {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As `netd stats` prints it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// A header is cut short or contradicts itself.
    Malformed = 0, "malformed";
    /// The source address is not the container's.
    SpoofedAddress = 1, "spoofed_address";
    /// The source MAC is not the container's.
    SpoofedMac = 2, "spoofed_mac";
    /// The sender of an ARP message is not the container.
    SpoofedArp = 3, "spoofed_arp";
    /// A protocol over Ethernet that netd's networks don't carry.
    UnknownEthertype = 4, "unknown_ethertype";
    /// IPv6 on a network that has none.
    Ipv6Disabled = 5, "ipv6_disabled";
    /// To or from a container of another network.
    Isolated = 6, "isolated";
    /// Between containers of a network with `enable_icc=false`.
    IccDisabled = 7, "icc_disabled";
    /// Out of or into an internal network.
    Internal = 8, "internal_network";
    /// From outside to a container's own address.
    DirectAccess = 9, "direct_access";
    /// From outside, with a source that can't be outside.
    Martian = 10, "martian_source";
    /// No free port for SNAT towards this destination.
    PortsExhausted = 11, "snat_ports_exhausted";
    /// The route leads to a link that netd does not translate on.
    NoUplink = 12, "no_uplink";
    /// A protocol that can't be translated.
    UnsupportedProtocol = 13, "unsupported_protocol";
    /// A fragment, where its ports are needed.
    Fragment = 14, "fragment";
    /// The packet would have to be answered with "time exceeded".
    TtlExpired = 15, "ttl_expired";
    /// It belongs to no flow and can't open one.
    NoFlow = 16, "no_flow";
    /// The published port's container is gone.
    NoEndpoint = 17, "no_endpoint";
    /// The kernel refused an edit of the packet.
    EditFailed = 18, "edit_failed";
    /// The agent has not written its configuration.
    NotConfigured = 19, "not_configured";
    /// The published port's allow-list does not have the source.
    NotAllowed = 20, "source_not_allowed";
    /// More SYNs to a published port than its rate.
    SynRate = 21, "syn_rate_exceeded";
    /// A fragment that came before the first one of its datagram, or after
    /// such a one.
    FragmentOrder = 22, "fragment_out_of_order";
    /// Two containers talk to one address by a protocol without ports.
    TupleTaken = 23, "tuple_taken";
    /// An ICMP error about a packet of no flow.
    UnrelatedError = 24, "unrelated_icmp_error";
    /// A neighbour message that does not speak for its sender.
    SpoofedNdp = 25, "spoofed_ndp";
    /// A container that plays the router.
    RogueRouter = 26, "rogue_router";
    /// From the host to a network that it is no member of.
    HostIsolated = 27, "host_isolated";
    /// An answer to a flow that the flow table has no room for.
    FlowTableFull = 28, "flow_table_full";
    /// A container has as many flows as its network lets it have.
    FlowQuota = 29, "flow_quota_exceeded";
}

/// Outcomes below are not drops.
const FIRST_DROP: u32 = 16;
const UNDECIDED: u32 = u32::MAX;
const UNKNOWN: u32 = UNDECIDED - 1;

/// The names of the outcomes that are not drops, by number.
pub const FORWARDED: [&str; 4] = ["pass", "translated", "deliver", "forward"];

impl Verdict {
    /// On to the kernel's own stack (at egress: on to the wire).
    pub const PASS: Self = Self::new(0, 0);
    /// As `PASS`, for a packet that was translated.
    pub const TRANSLATED: Self = Self::new(1, 0);
    /// Nothing yet: another function, or program, has to say.
    pub const UNDECIDED: Self = Self::new(UNDECIDED, 0);
    /// Nothing yet, and the packet is of no answered flow.
    pub const UNKNOWN: Self = Self::new(UNKNOWN, 0);

    const DELIVER: u32 = 2;
    const FORWARD: u32 = 3;

    #[inline(always)]
    const fn new(outcome: u32, ifindex: u32) -> Self {
        Self((ifindex as u64) << 32 | outcome as u64)
    }

    /// As `PASS`, but past the bridge between a container and the host: from the
    /// container as if it had come by this link, to the container out of this
    /// one. 0: no short cut.
    #[inline(always)]
    pub const fn past_bridge(ifindex: u32) -> Self {
        Self::new(0, ifindex)
    }

    /// Into the container behind this host-side veth.
    #[inline(always)]
    pub const fn deliver(ifindex: u32) -> Self {
        Self::new(Self::DELIVER, ifindex)
    }

    /// Out of this uplink, to the next hop that the packet was given.
    #[inline(always)]
    pub const fn forward(ifindex: u32) -> Self {
        Self::new(Self::FORWARD, ifindex)
    }

    #[inline(always)]
    pub const fn drop(reason: DropReason) -> Self {
        Self::new(FIRST_DROP + reason as u32, 0)
    }

    #[inline(always)]
    pub const fn is_decided(self) -> bool {
        self.outcome() < UNKNOWN
    }

    /// `self`, or else what `next` says.
    #[inline(always)]
    #[must_use]
    pub fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        if self.is_decided() { self } else { next() }
    }

    /// Index within a hook's counters, below [`OUTCOMES`].
    #[inline(always)]
    pub const fn outcome(self) -> u32 {
        #[allow(clippy::cast_possible_truncation)] // the low half
        {
            self.0 as u32
        }
    }

    #[inline(always)]
    pub const fn ifindex(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub const fn is_past_bridge(self) -> bool {
        self.outcome() == Self::PASS.outcome() && self.ifindex() != 0
    }

    #[inline(always)]
    pub const fn is_deliver(self) -> bool {
        self.outcome() == Self::DELIVER
    }

    #[inline(always)]
    pub const fn is_forward(self) -> bool {
        self.outcome() == Self::FORWARD
    }

    #[inline(always)]
    pub const fn is_drop(self) -> bool {
        self.outcome() >= FIRST_DROP && self.is_decided()
    }
}

impl From<DropReason> for Verdict {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        Self::drop(reason)
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = outcome_name(self.outcome()).map_or("undecided", |(name, _)| name);
        match self.ifindex() {
            0 => f.write_str(name),
            ifindex => write!(f, "{name} to {ifindex}"),
        }
    }
}

/// The name of an outcome's number, and whether it is a drop.
pub fn outcome_name(outcome: u32) -> Option<(&'static str, bool)> {
    if let Some(name) = FORWARDED.get(outcome as usize) {
        return Some((name, false));
    }
    let reason = outcome.checked_sub(FIRST_DROP)?;
    let reason = DropReason::ALL.iter().find(|r| **r as u32 == reason)?;
    Some((reason.name(), true))
}

const _: () = assert!(FIRST_DROP as usize + DropReason::ALL.len() <= OUTCOMES as usize);
