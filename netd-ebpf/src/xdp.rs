//! The program in front of an uplink's stack.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::bpf_xdp_get_buff_len,
    macros::xdp,
    programs::XdpContext,
};
use netd_common::{
    abi::wire::Wire,
    packet::Packet,
    pipeline,
    verdict::{Hook, Verdict},
};

use crate::{
    env::Host,
    events, maps,
    packet::{at, holds},
};

/// For drivers. `frags`: a frame of a large MTU comes in pieces, of which the
/// first has the headers (Linux 5.18).
#[xdp(frags)]
fn uplink_xdp(ctx: XdpContext) -> u32 {
    run(&ctx)
}

/// For generic XDP, which copies packets for a program that takes pieces, and
/// forgets the length of the copy's link header: TC then sees none (Linux 6.18).
#[xdp]
fn uplink_xdp_skb(ctx: XdpContext) -> u32 {
    run(&ctx)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> u32 {
    let mut frame = Frame { md: ctx.ctx };
    let verdict = pipeline::uplink_xdp(&mut frame, &mut Host::early(ctx));
    act(frame, verdict)
}

#[inline(always)]
fn act(frame: Frame, verdict: Verdict) -> u32 {
    maps::count(Hook::UplinkXdp, verdict.outcome(), frame.len() as u64);
    if verdict.is_drop() {
        events::report(frame, Hook::UplinkXdp, verdict.outcome());
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_PASS
}

/// A frame that is no packet of the kernel's yet.
#[derive(Clone, Copy)]
struct Frame {
    md: *mut xdp_md,
}

impl Frame {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { ((*self.md).data as usize, (*self.md).data_end as usize) }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as in `bounds`.
        unsafe { (*self.md).ingress_ifindex }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: a plain helper call on the context.
        unsafe { bpf_xdp_get_buff_len(self.md) as usize }
    }

    #[inline(always)]
    fn ensure(&mut self, len: usize) -> bool {
        holds(self.bounds(), len)
    }

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: bounds were checked in `at`; any bytes are a valid `T`.
        at::<T>(self.bounds(), offset).map(|pointer| unsafe { *pointer })
    }

    /// What does not say how long it is is left to the programs behind.
    #[inline(always)]
    fn is_burst(&self) -> bool {
        false
    }
}
