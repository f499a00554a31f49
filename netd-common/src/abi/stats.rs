//! `STATS`: per-CPU counters, by program and outcome.

use super::pod;

/// Outcomes per program: `STATS` has `HOOKS * OUTCOMES` entries.
pub const OUTCOMES: u32 = 64;
/// Programs that count ([`crate::verdict::Hook`]), with room to grow.
pub const HOOKS: u32 = 8;

/// Value of `STATS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

pod!(Counter: 16);
