//! netd's eBPF programs: context in, pipeline, action out.
//!
//! All logic is in `netd_common::pipeline`; packets are touched in [`packet`]
//! only, maps in [`maps`] only, and the host's routes and clock in [`env`].
#![no_std]
#![no_main]
// For the one instruction in `packet`; `asm!` is stable for other targets only.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
// As in netd-common.
#![allow(clippy::inline_always)]
// Helpers take sizes and answer in widths of their own; each cast is of a
// value that fits, and a checked one would cost a branch.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
// `#[classifier]` hands the context over by value.
#![allow(clippy::needless_pass_by_value)]

mod env;
mod events;
mod maps;
mod packet;
mod socket;
mod xdp;

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};
use netd_common::{
    abi::{Address, Family},
    packet::Packet as _,
    pipeline,
    verdict::{DropReason, Hook, Verdict},
};

use crate::{env::Host, packet::Skb};

#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::from_container(&mut skb, &mut Host::new(&ctx));
    act_or_go_on(&ctx, &skb, Hook::FromContainer, verdict)
}

#[classifier]
fn from_container_slow(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let Some(scratch) = maps::scratch() else { return TC_ACT_SHOT };
    let verdict = pipeline::from_container_slow(&mut skb, &mut Host::new(&ctx), scratch);
    act(&skb, Hook::FromContainer, verdict)
}

#[classifier]
fn to_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::to_container(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::ToContainer, verdict)
}

#[classifier]
fn from_host(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::from_host(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::FromHost, verdict)
}

#[classifier]
fn from_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::from_uplink(&mut skb, &mut Host::new(&ctx));
    act_or_go_on(&ctx, &skb, Hook::FromUplink, verdict)
}

#[classifier]
fn from_uplink_slow(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let Some(scratch) = maps::scratch() else { return TC_ACT_SHOT };
    let verdict = pipeline::from_uplink_slow(&mut skb, &mut Host::new(&ctx), scratch);
    act(&skb, Hook::FromUplink, verdict)
}

#[classifier]
fn to_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::to_uplink(&mut skb, &mut Host::new(&ctx));
    act_or_go_on(&ctx, &skb, Hook::ToUplink, verdict)
}

#[classifier]
fn to_uplink_slow(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let Some(scratch) = maps::scratch() else { return TC_ACT_SHOT };
    let verdict = pipeline::to_uplink_slow(&mut skb, &mut Host::new(&ctx), scratch);
    act(&skb, Hook::ToUplink, verdict)
}

#[inline(always)]
fn act_or_go_on(ctx: &TcContext, skb: &Skb, hook: Hook, verdict: Verdict) -> i32 {
    let verdict = verdict.or_else(|| {
        maps::continue_slowly(ctx, hook);
        Verdict::drop(DropReason::NotConfigured)
    });
    act(skb, hook, verdict)
}

/// Counts the verdict and turns it into what the kernel is to do. Packets that
/// go on are left to the programs of others behind ours (`TC_ACT_UNSPEC`); but
/// where behind ours is ours once more, it must not see them twice.
#[inline(always)]
fn act(skb: &Skb, hook: Hook, verdict: Verdict) -> i32 {
    maps::count(hook, verdict.outcome(), skb.len() as u64);
    if verdict.is_deliver() {
        // SAFETY: a plain helper call without pointers.
        return unsafe { bpf_redirect_peer(verdict.ifindex(), 0) as i32 };
    }
    if verdict.is_forward() {
        return redirect_neigh(verdict.ifindex(), skb.next_hop());
    }
    if verdict.is_drop() {
        events::report(*skb, hook, verdict.outcome());
        return TC_ACT_SHOT;
    }
    if verdict.is_past_bridge() {
        let flags = if matches!(hook, Hook::FromContainer) { BPF_F_INGRESS } else { 0 };
        // SAFETY: as above.
        return unsafe { bpf_redirect(verdict.ifindex(), u64::from(flags)) as i32 };
    }
    if matches!(hook, Hook::FromContainer | Hook::ToContainer) && maps::is_settling(skb.ifindex()) {
        skb.clear_class();
        return TC_ACT_OK;
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn redirect_neigh(ifindex: u32, next_hop: Address) -> i32 {
    if next_hop == Address::ANY {
        // SAFETY: a plain helper call; without a next hop it takes none.
        return unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 };
    }
    let [.., v4] = next_hop.words();
    let mut params = match next_hop.family() {
        Family::V4 => env::RedirNeigh { family: u32::from(env::AF_INET), address: [v4, 0, 0, 0] },
        Family::V6 => {
            env::RedirNeigh { family: u32::from(env::AF_INET6), address: next_hop.words() }
        }
    };
    // SAFETY: `params` is laid out as `struct bpf_redir_neigh` and outlives
    // the call.
    unsafe {
        bpf_redirect_neigh(
            ifindex,
            (&raw mut params).cast(),
            size_of::<env::RedirNeigh>() as i32,
            0,
        ) as i32
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing above can panic: the verifier would refuse this loop.
    loop {}
}

/// The helpers that edit packets are for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
