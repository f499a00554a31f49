//! Tells of drops through `EVENTS`, while someone listens and no more often
//! than a reader can take.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use netd_common::{
    abi::Event,
    event::{describe, describe_call},
    packet::Packet,
    pipeline::socket::SocketCall,
    verdict::Hook,
};

use crate::maps;

const SECOND: u64 = 1_000_000_000;

/// Out of line, and called for drops alone: other packets pay nothing for it.
#[inline(never)]
pub(crate) fn report<P: Packet>(mut packet: P, hook: Hook, outcome: u32) {
    let Some(slot) = maps::event_slot() else { return };
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    if !slot.admits((now / SECOND) as u32) {
        return;
    }
    describe(&mut packet, &mut slot.event);
    slot.event.time = now;
    slot.event.hook = hook as u32;
    slot.event.outcome = outcome;
    if !maps::tell(&slot.event) {
        slot.left_out += 1;
    }
}

/// As [`report`], of a call that was refused.
#[inline(always)]
pub(crate) fn report_call<C: SocketCall>(call: &C, outcome: u32) {
    let Some(slot) = maps::event_slot() else { return };
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    if !slot.admits((now / SECOND) as u32) {
        return;
    }
    // Not made in the slot: a packet's program may cut in, and use it.
    let event = Event { time: now, hook: Hook::Socket as u32, outcome, ..describe_call(call) };
    if !maps::tell(&event) {
        slot.left_out += 1;
    }
}
