//! TC egress of a network's bridge: what the host's own stack sends to its
//! containers.

use super::to_container::admit;
use crate::{packet::PacketMut, tables::World, verdict::Verdict};

/// Sends what a container may have out of its host-side veth: the bridge between
/// would only look its port up. All else is the bridge's, and what may not come
/// in is [`super::to_container`]'s to drop.
#[inline(always)]
pub fn from_host<P: PacketMut, W: World>(packet: &mut P, world: &mut W) -> Verdict {
    // Whoever sent it could have set it.
    packet.take_translated();
    let verdict = admit(packet, world);
    if !verdict.is_past_bridge() {
        return Verdict::PASS;
    }
    packet.mark_translated();
    verdict
}
