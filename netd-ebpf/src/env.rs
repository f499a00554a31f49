//! The host's routes and clock.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_fib_lookup as FibLookup, bpf_sock_tuple as SocketTuple},
    cty::{c_long, c_void},
    helpers::{
        bpf_check_mtu, bpf_fib_lookup, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_loop,
        bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
    programs::{SockAddrContext, TcContext, XdpContext},
};
use netd_common::{
    abi::{
        Address, Config, Family, FlowKey,
        wire::{PROTO_TCP, PROTO_UDP},
    },
    tables::{Env, Journey, Repeat, Tables as _, Turn},
};

use crate::maps;

/// `struct bpf_redir_neigh` (include/uapi/linux/bpf.h).
#[repr(C)]
pub(crate) struct RedirNeigh {
    pub(crate) family: u32,
    pub(crate) address: [u32; 4],
}

pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;
/// Linux 6.3: the neighbour is `redirect_neigh`'s to find.
const SKIP_NEIGH: u32 = 1 << 2;
/// Linux 6.7: also tell the route's preferred source.
const SOURCE: u32 = 1 << 4;
/// The clock is read once in 16 jiffies: 16 to 160 ms.
const CLOCK_SHIFT: u32 = 4;
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

    /// Before there is a packet. It has no routes and no sockets then.
    #[inline(always)]
    pub(crate) fn early(ctx: &XdpContext) -> Self {
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
    /// The clock costs what a third of a look-up does; jiffies are one load
    /// (`do_misc_fixups`, kernel/bpf/verifier.c).
    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a plain helper call.
        let time = (unsafe { bpf_jiffies64() } >> CLOCK_SHIFT) as u32;
        maps::second(time, || {
            // SAFETY: as above.
            (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
        })
    }

    #[inline(never)]
    fn has_socket(&self, key: &FlowKey) -> bool {
        // SAFETY: all of it is integers, for which zero is valid.
        let mut tuple: SocketTuple = unsafe { core::mem::zeroed() };
        let len = match key.src.family() {
            Family::V4 => {
                let ([.., src], [.., dst]) = (key.src.words(), key.dst.words());
                // SAFETY: integers, all bytes of which are set.
                let it = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
                (it.saddr, it.daddr, it.sport, it.dport) = (src, dst, key.sport.0, key.dport.0);
                size_of_val(it)
            }
            Family::V6 => {
                // SAFETY: as above.
                let it = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
                (it.saddr, it.daddr) = (key.src.words(), key.dst.words());
                (it.sport, it.dport) = (key.sport.0, key.dport.0);
                size_of_val(it)
            }
        };
        // SAFETY: `tuple` outlives the calls, and a socket that was found is
        // given back.
        unsafe {
            let socket = match key.proto {
                PROTO_TCP => {
                    bpf_skc_lookup_tcp(self.ctx, &raw mut tuple, len as u32, CURRENT_NETNS, 0)
                }
                PROTO_UDP => {
                    bpf_sk_lookup_udp(self.ctx, &raw mut tuple, len as u32, CURRENT_NETNS, 0)
                }
                _ => return false,
            };
            if socket.is_null() {
                return false;
            }
            bpf_sk_release(socket.cast());
        }
        true
    }

    #[inline(never)]
    fn route(&self, journey: &mut Journey) {
        // SAFETY: all of it is integers, for which zero is valid.
        let mut params: FibLookup = unsafe { core::mem::zeroed() };
        let family = journey.dst.family();
        params.l4_protocol = journey.proto as u8;
        params.ifindex = journey.from;
        // 1 byte fits every path: the answer is the path's MTU, and a burst
        // of segments is not taken for one long packet.
        params.__bindgen_anon_1.tot_len = 1;
        let ([.., source], [.., destination]) = (journey.src.words(), journey.dst.words());
        match family {
            Family::V4 => {
                params.family = AF_INET;
                params.__bindgen_anon_3.ipv4_src = source;
                params.__bindgen_anon_4.ipv4_dst = destination;
            }
            Family::V6 => {
                params.family = AF_INET6;
                params.__bindgen_anon_3.ipv6_src = journey.src.words();
                params.__bindgen_anon_4.ipv6_dst = journey.dst.words();
            }
        }
        let asked = params.family;
        let tells_source = journey.wants_source != 0
            && self.config().is_some_and(|config| config.features & Config::FIB_SRC != 0);
        let flags = if tells_source { SKIP_NEIGH | SOURCE } else { SKIP_NEIGH };
        let mut answer = self.look_up(&mut params, flags);
        if answer == EINVAL {
            answer = self.look_up(&mut params, 0);
        }
        journey.ifindex = 0;
        if answer != FOUND && answer != NO_NEIGHBOUR || params.family != asked {
            return;
        }
        journey.ifindex = params.ifindex;
        // Without a neighbour the kernel stops before it tells the path's MTU.
        journey.mtu = if answer == FOUND {
            // SAFETY: of the union, the member that the kernel wrote last.
            u32::from(unsafe { params.__bindgen_anon_1.mtu_result })
        } else {
            self.link_mtu(params.ifindex)
        };
        // SAFETY: as above; the family tells which.
        let (next_hop, preferred) = unsafe {
            match family {
                Family::V4 => (
                    Address::v4_word(params.__bindgen_anon_4.ipv4_dst),
                    Address::v4_word(params.__bindgen_anon_3.ipv4_src),
                ),
                Family::V6 => (
                    Address::from_words(params.__bindgen_anon_4.ipv6_dst),
                    Address::from_words(params.__bindgen_anon_3.ipv6_src),
                ),
            }
        };
        journey.next_hop = next_hop;
        journey.source =
            if tells_source && preferred != journey.src { preferred } else { Address::ANY };
    }
}

impl Repeat for Host {
    #[inline(always)]
    fn repeat<T: Turn<Self>>(&mut self, times: u32, turn: &mut T) {
        let mut state = (&raw mut *self, &raw mut *turn);
        // SAFETY: the callback gets `state`, whose pointers outlive the call.
        unsafe { bpf_loop(times, take_turn::<T> as *mut c_void, (&raw mut state).cast(), 0) };
    }
}

/// `bpf_loop`'s callback; 1 ends the loop.
unsafe extern "C" fn take_turn<T: Turn<Host>>(n: u32, state: *mut (*mut Host, *mut T)) -> c_long {
    // SAFETY: `repeat` made it of two references that it holds.
    let (host, turn) = unsafe { (&mut *(*state).0, &mut *(*state).1) };
    c_long::from(turn.turn(host, n))
}
