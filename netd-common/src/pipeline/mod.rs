//! The datapath's whole logic, generic over the packet and its world.
//!
//! A hook has a fast function, which decides for packets of answered flows and
//! for neighbours, and a slow one, which decides for all others and begins
//! anew with the packet. In the kernel each is a program of its own: the hot
//! code stays small, and the slow path has a whole stack to itself.
//!
//! [`Verdict::UNDECIDED`] of a fast function means: ask the slow one.

mod asked;
mod claim;
mod embryo;
mod errors;
mod flow;
mod fragments;
mod from_container;
mod from_host;
mod from_uplink;
mod mss;
mod ndp;
mod open;
pub mod published;
pub mod quota;
pub mod socket;
mod to_container;
mod to_uplink;
mod uplink_xdp;

use crate::{
    abi::{Family, Network},
    packet::{Headers, Kind, PacketMut, Part},
    tables::{Journey, World},
    verdict::{DropReason, Verdict},
};

pub use from_container::{from_container, from_container_slow};
pub use from_host::from_host;
pub use from_uplink::{from_uplink, from_uplink_slow};
pub use to_container::to_container;
pub use to_uplink::{to_uplink, to_uplink_slow};
pub use uplink_xdp::uplink_xdp;

/// What the slow path works on. In the kernel it is a per-CPU map value: it
/// would not fit the stack, and the verifier, which does not look into map
/// values, explores the search for a port once and not once per packet kind.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scratch {
    headers: Headers,
    draft: claim::Draft,
    journey: Journey,
    quoted: errors::Quoted,
    asked: asked::Asked,
    pair: flow::Pair,
    /// Of whoever sent the packet.
    network: Network,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            headers: Headers::NONE,
            draft: claim::Draft::default(),
            journey: Journey::default(),
            quoted: errors::Quoted::default(),
            asked: asked::Asked::default(),
            pair: flow::Pair::default(),
            network: Network::default(),
        }
    }
}

/// A packet of a known flow: itself, an ICMP error about one, or a later
/// fragment of one. Undecided: it is none.
#[inline(always)]
fn of_a_flow<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    if scratch.headers.part != Part::Whole
        && fragments::follow(world, &mut scratch.headers, fragments::Stage::Entering)
            == fragments::Datagram::Broken
        && open::concerns(world, scratch)
    {
        return Verdict::drop(DropReason::FragmentOrder);
    }
    if scratch.headers.kind == Kind::Error {
        errors::relate(packet, world, scratch)
    } else {
        flow::known(packet, world, scratch)
    }
}

/// Opens the flow that was drafted, and sends its first packet.
#[inline(always)]
fn begin_flow<P: PacketMut, W: World>(
    packet: &mut P,
    world: &mut W,
    scratch: &mut Scratch,
) -> Verdict {
    claim::claim(world, scratch).or_else(|| flow::send_first(packet, scratch))
}

/// The policy of a network; `false`: there is none.
#[inline(never)]
fn policy<W: World>(world: &W, index: u32, family: Family, network: &mut Network) -> bool {
    let Some(found) = world.network(index, family) else { return false };
    *network = found;
    true
}
