//! The host's routes and clock.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_fib_lookup as FibLookup,
    helpers::{bpf_check_mtu, bpf_fib_lookup, bpf_ktime_get_coarse_ns},
    programs::{SockAddrContext, TcContext},
};
use netd_common::{
    abi::{Address, Config, FlowKey},
    tables::{Env, Journey, Tables as _},
};

/// `struct bpf_redir_neigh` (include/uapi/linux/bpf.h).
#[repr(C)]
pub(crate) struct RedirNeigh {
    pub(crate) family: u32,
    pub(crate) address: [u32; 4],
}

const AF_INET: u8 = 2;
/// Linux 6.3: the neighbour is `redirect_neigh`'s to find.
const SKIP_NEIGH: u32 = 1 << 2;
/// Linux 6.7: also tell the route's preferred source.
const SOURCE: u32 = 1 << 4;
const EINVAL: i64 = -22;
const FOUND: i64 = 0;
const NO_NEIGHBOUR: i64 = 7;

/// The host as the pipeline's world: its maps (see [`crate::maps`]), its
/// routes and its clock.
pub(crate) struct Host {
    ctx: *mut core::ffi::c_void,
}

impl Host {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { ctx: ctx.as_ptr() }
    }

    #[inline(always)]
    pub(crate) fn of_call(ctx: &SockAddrContext) -> Self {
        Self { ctx: ctx.as_ptr() }
    }

    #[inline(always)]
    fn look_up(&self, params: &mut FibLookup, flags: u32) -> i64 {
        // SAFETY: `params` is the kernel's own type and outlives the call.
        unsafe { bpf_fib_lookup(self.ctx, params, size_of::<FibLookup>() as i32, flags) as i64 }
    }

    /// A link's own MTU; 0 if it is not known.
    #[inline(always)]
    fn link_mtu(&self, ifindex: u32) -> u32 {
        // In: a length to check, which fits every link. Out: the link's MTU.
        let mut mtu = 1;
        // SAFETY: `mtu` outlives the call.
        let answer = unsafe { bpf_check_mtu(self.ctx, ifindex, &raw mut mtu, 0, 0) };
        if answer == 0 { mtu } else { 0 }
    }
}

impl Env for Host {
    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a plain helper call.
        (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
    }

    #[inline(never)]
    fn has_socket(&self, _key: &FlowKey) -> bool {
        false
    }

    #[inline(never)]
    fn route(&self, journey: &mut Journey) {
        let ([_, _, _, source], [_, _, _, destination]) =
            (journey.src.words(), journey.dst.words());
        // SAFETY: all of it is integers, for which zero is valid.
        let mut params: FibLookup = unsafe { core::mem::zeroed() };
        params.family = AF_INET;
        params.l4_protocol = journey.proto as u8;
        params.ifindex = journey.from;
        // 1 byte fits every path: the answer is the path's MTU, and a burst
        // of segments is not taken for one long packet.
        params.__bindgen_anon_1.tot_len = 1;
        params.__bindgen_anon_3.ipv4_src = source;
        params.__bindgen_anon_4.ipv4_dst = destination;
        let tells_source =
            self.config().is_some_and(|config| config.features & Config::FIB_SRC != 0);
        let flags = if tells_source { SKIP_NEIGH | SOURCE } else { SKIP_NEIGH };
        let mut answer = self.look_up(&mut params, flags);
        if answer == EINVAL {
            answer = self.look_up(&mut params, 0);
        }
        journey.ifindex = 0;
        if answer != FOUND && answer != NO_NEIGHBOUR || params.family != AF_INET {
            return;
        }
        // SAFETY: of each union, the member that the kernel wrote last.
        let (next_hop, mtu, preferred) = unsafe {
            (
                params.__bindgen_anon_4.ipv4_dst,
                params.__bindgen_anon_1.mtu_result,
                params.__bindgen_anon_3.ipv4_src,
            )
        };
        journey.ifindex = params.ifindex;
        // Without a neighbour the kernel stops before it tells the path's MTU.
        journey.mtu = if answer == FOUND { u32::from(mtu) } else { self.link_mtu(params.ifindex) };
        journey.next_hop = Address::v4_word(next_hop);
        journey.source = if tells_source && preferred != source {
            Address::v4_word(preferred)
        } else {
            Address::ANY
        };
    }
}
