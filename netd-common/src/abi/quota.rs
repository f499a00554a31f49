//! `QUOTAS` and `TALLIES`: how many answered flows a container may have, and
//! has. Only containers of networks with a quota are in them.
//!
//! Each map has one writer, so that neither undoes what the other counts: the
//! datapath counts in `TALLIES`, the agent says in `QUOTAS` how many of those
//! it has forgotten since.

use super::pod;

/// Value of `QUOTAS`, by the ifindex of an endpoint's host-side veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Quota {
    /// Of what the datapath has counted, the flows that are no more.
    pub forgotten: u64,
    /// Answered flows that the container may have at a time.
    pub max: u32,
    pub pad: u32,
}

/// Value of `TALLIES`, by the same. 64 bits wide, as the kernel's programs
/// count atomically in nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tally {
    /// Flows that have been answered, less those that a new one of the same
    /// tuple has replaced.
    pub answered: u64,
}

impl Quota {
    /// Flows that are there now. The agent's part is a moment old, so that it
    /// may be a little too low, even below zero, or too high.
    #[inline(always)]
    pub const fn used(&self, tally: &Tally) -> i64 {
        tally.answered.wrapping_sub(self.forgotten).cast_signed()
    }

    #[inline(always)]
    pub const fn is_used_up(&self, tally: &Tally) -> bool {
        self.used(tally) >= self.max as i64
    }
}

pod!(Quota: 16, Tally: 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_used_up_by_what_is_left_of_what_was_counted() {
        let quota = Quota { max: 2, pad: 0, forgotten: 10 };
        let used_up = |answered| quota.is_used_up(&Tally { answered });
        assert!(!used_up(11));
        assert!(used_up(12));
        assert!(!used_up(9), "the agent's part is of a moment later");
    }
}
