//! netd's eBPF programs: context in, pipeline, action out.
//!
//! All logic is in `netd_common::pipeline`; packets are touched in [`packet`]
//! only, maps in [`maps`] only, and the host's routes and clock in [`env`].
#![no_std]
#![no_main]

mod env;
mod maps;
mod packet;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_redirect_neigh, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};
use netd_common::{
    abi::Address,
    packet::Packet as _,
    pipeline,
    verdict::{Hook, Verdict},
};

use crate::{env::Host, packet::Skb};

#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::from_container(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::FromContainer, &verdict)
}

#[classifier]
fn to_container(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::to_container(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::ToContainer, &verdict)
}

#[classifier]
fn from_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::from_uplink(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::FromUplink, &verdict)
}

#[classifier]
fn to_uplink(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(&ctx);
    let verdict = pipeline::to_uplink(&mut skb, &mut Host::new(&ctx));
    act(&skb, Hook::ToUplink, &verdict)
}

/// Counts the verdict and turns it into what the kernel is to do. Packets that
/// go on are left to the programs of others behind ours (`TC_ACT_UNSPEC`).
#[inline(always)]
fn act(skb: &Skb, hook: Hook, verdict: &Verdict) -> i32 {
    maps::count(hook, verdict.outcome(), skb.len() as u64);
    match verdict {
        Verdict::Pass | Verdict::Translated => TC_ACT_UNSPEC,
        Verdict::Drop(_) => TC_ACT_SHOT,
        // SAFETY: plain helper calls without pointers.
        Verdict::Deliver { ifindex } => unsafe { bpf_redirect_peer(*ifindex, 0) as i32 },
        Verdict::Forward { ifindex, next_hop } => redirect_neigh(*ifindex, next_hop),
    }
}

#[inline(always)]
fn redirect_neigh(ifindex: u32, next_hop: &Address) -> i32 {
    const AF_INET: u32 = 2;
    let [_, _, _, v4] = next_hop.words();
    let mut params = env::RedirNeigh { family: AF_INET, address: [v4, 0, 0, 0] };
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
