//! How many answered flows a container takes part in, and may.

use crate::{abi::Flow, tables::World};

/// The links of the containers that take part in a flow; 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    one: u32,
    other: u32,
}

impl Parties {
    /// `flow` is either direction.
    #[inline(always)]
    pub fn of(flow: &Flow) -> Self {
        let (sender, receiver) = (flow.in_ifindex, flow.out_ifindex);
        let two = flow.has(Flow::LOCAL) && receiver != sender;
        Self { one: sender, other: if two { receiver } else { 0 } }
    }

    pub fn links(self) -> impl Iterator<Item = u32> {
        [self.one, self.other].into_iter().filter(|link| *link != 0)
    }
}

/// Whether one of them may have no further flow.
#[inline(always)]
pub(super) fn is_used_up<W: World>(world: &W, parties: Parties) -> bool {
    let Parties { one, other } = parties;
    one != 0 && world.is_quota_used_up(one) || other != 0 && world.is_quota_used_up(other)
}

/// Counts a flow that has been answered (1), or one that has been ended (-1).
#[inline(always)]
pub(super) fn count<W: World>(world: &mut W, parties: Parties, change: i64) {
    let Parties { one, other } = parties;
    if one != 0 {
        world.count_flow(one, change);
    }
    if other != 0 {
        world.count_flow(other, change);
    }
}
