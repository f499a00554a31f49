//! The programs of the cgroup: what a process says to its socket, and is told.
//!
//! `connect` and `sendmsg` may be refused (0, `EPERM`); the kernel takes only 1
//! from the others.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use netd_common::{
    abi::{Address, Be16},
    pipeline::socket::{self, SocketCall},
    verdict::{Hook, Verdict},
};

use crate::{env::Host, events, maps};

#[cgroup_sock_addr(connect4)]
fn sock_connect4(ctx: SockAddrContext) -> i32 {
    let mut call = Call4::connecting(&ctx);
    let verdict = socket::connect(&mut call, &mut Host::of_call(&ctx));
    act(&call, verdict)
}

#[cgroup_sock_addr(connect6)]
fn sock_connect6(ctx: SockAddrContext) -> i32 {
    let mut call = Call6::connecting(&ctx);
    let verdict = socket::connect(&mut call, &mut Host::of_call(&ctx));
    act(&call, verdict)
}

#[cgroup_sock_addr(sendmsg4)]
fn sock_sendmsg4(ctx: SockAddrContext) -> i32 {
    let mut call = Call4::sending(&ctx);
    let verdict = socket::send(&mut call, &mut Host::of_call(&ctx));
    act(&call, verdict)
}

#[cgroup_sock_addr(sendmsg6)]
fn sock_sendmsg6(ctx: SockAddrContext) -> i32 {
    let mut call = Call6::sending(&ctx);
    let verdict = socket::send(&mut call, &mut Host::of_call(&ctx));
    act(&call, verdict)
}

#[cgroup_sock_addr(recvmsg4)]
fn sock_recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::restore(&mut Call4::told(&ctx), &Host::of_call(&ctx));
    1
}

#[cgroup_sock_addr(recvmsg6)]
fn sock_recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::restore(&mut Call6::told(&ctx), &Host::of_call(&ctx));
    1
}

#[cgroup_sock_addr(getpeername4)]
fn sock_getpeername4(ctx: SockAddrContext) -> i32 {
    socket::restore(&mut Call4::told(&ctx), &Host::of_call(&ctx));
    1
}

#[cgroup_sock_addr(getpeername6)]
fn sock_getpeername6(ctx: SockAddrContext) -> i32 {
    socket::restore(&mut Call6::told(&ctx), &Host::of_call(&ctx));
    1
}

/// Counts what netd had a word in: the other calls of the host are none of
/// its business.
#[inline(always)]
fn act<C: SocketCall>(call: &C, verdict: Verdict) -> i32 {
    if verdict == Verdict::PASS {
        return 1;
    }
    maps::count(Hook::Socket, verdict.outcome(), 0);
    if verdict.is_drop() {
        events::report_call(call, verdict.outcome());
        return 0;
    }
    1
}

/// A field of the context, or of its socket: each read by itself and as wide
/// as it is, or the verifier refuses it.
macro_rules! field {
    ($at:expr, $($field:tt)+) => {
        // SAFETY: the kernel's context, and the socket in it, are there for
        // the program's run.
        unsafe { read_volatile(&raw const (*$at).$($field)+) }
    };
}

macro_rules! set_field {
    ($at:expr, $field:ident $([$index:literal])?, $value:expr) => {
        // SAFETY: as in `field`, and the kernel lets these fields be written.
        unsafe { write_volatile(&raw mut (*$at).$field $([$index])?, $value) }
    };
}

/// A call with an IPv4 address.
struct Call4 {
    at: *mut bpf_sock_addr,
    source: Address,
}

/// A call with an IPv6 address, which may be a mapped IPv4 one.
struct Call6 {
    at: *mut bpf_sock_addr,
    source: Address,
}

impl Call4 {
    #[inline(always)]
    fn connecting(ctx: &SockAddrContext) -> Self {
        let socket = field!(ctx.sock_addr, __bindgen_anon_1.sk);
        Self { at: ctx.sock_addr, source: v4(field!(socket, src_ip4)) }
    }

    #[inline(always)]
    fn sending(ctx: &SockAddrContext) -> Self {
        Self { at: ctx.sock_addr, source: v4(field!(ctx.sock_addr, msg_src_ip4)) }
    }

    /// For calls in which the process does not send.
    #[inline(always)]
    fn told(ctx: &SockAddrContext) -> Self {
        Self { at: ctx.sock_addr, source: Address::ANY }
    }
}

impl Call6 {
    #[inline(always)]
    fn connecting(ctx: &SockAddrContext) -> Self {
        let socket = field!(ctx.sock_addr, __bindgen_anon_1.sk);
        let source = Address::from_words([
            field!(socket, src_ip6[0]),
            field!(socket, src_ip6[1]),
            field!(socket, src_ip6[2]),
            field!(socket, src_ip6[3]),
        ]);
        Self { at: ctx.sock_addr, source }
    }

    #[inline(always)]
    fn sending(ctx: &SockAddrContext) -> Self {
        let source = Address::from_words([
            field!(ctx.sock_addr, msg_src_ip6[0]),
            field!(ctx.sock_addr, msg_src_ip6[1]),
            field!(ctx.sock_addr, msg_src_ip6[2]),
            field!(ctx.sock_addr, msg_src_ip6[3]),
        ]);
        Self { at: ctx.sock_addr, source }
    }

    #[inline(always)]
    fn told(ctx: &SockAddrContext) -> Self {
        Self { at: ctx.sock_addr, source: Address::ANY }
    }
}

#[inline(always)]
fn v4(word: u32) -> Address {
    if word == 0 { Address::ANY } else { Address::v4_word(word) }
}

/// What both kinds of call have in common.
macro_rules! common {
    () => {
        #[inline(always)]
        fn netns(&self) -> u64 {
            // SAFETY: a plain helper call with the kernel's context.
            unsafe { bpf_get_netns_cookie(self.at.cast()) }
        }

        #[inline(always)]
        fn cookie(&self) -> u64 {
            // SAFETY: as in `netns`.
            unsafe { bpf_get_socket_cookie(self.at.cast()) }
        }

        #[inline(always)]
        fn proto(&self) -> u8 {
            // Multipath TCP has a number beyond those of IP.
            u8::try_from(field!(self.at, protocol)).unwrap_or(0)
        }

        #[inline(always)]
        fn source(&self) -> Address {
            self.source
        }

        #[inline(always)]
        fn is_bound_to_link(&self) -> bool {
            let socket = field!(self.at, __bindgen_anon_1.sk);
            field!(socket, bound_dev_if) != 0
        }
    };
}

impl SocketCall for Call4 {
    common!();

    #[inline(always)]
    fn peer(&self) -> (Address, Be16) {
        (Address::v4_word(field!(self.at, user_ip4)), Be16(field!(self.at, user_port) as u16))
    }

    #[inline(always)]
    fn set_peer(&mut self, addr: &Address, port: Be16) {
        let [_, _, _, word] = addr.words();
        set_field!(self.at, user_ip4, word);
        set_field!(self.at, user_port, u32::from(port.0));
    }
}

impl SocketCall for Call6 {
    common!();

    #[inline(always)]
    fn peer(&self) -> (Address, Be16) {
        let addr = Address::from_words([
            field!(self.at, user_ip6[0]),
            field!(self.at, user_ip6[1]),
            field!(self.at, user_ip6[2]),
            field!(self.at, user_ip6[3]),
        ]);
        (addr, Be16(field!(self.at, user_port) as u16))
    }

    #[inline(always)]
    fn set_peer(&mut self, addr: &Address, port: Be16) {
        let [a, b, c, d] = addr.words();
        set_field!(self.at, user_ip6[0], a);
        set_field!(self.at, user_ip6[1], b);
        set_field!(self.at, user_ip6[2], c);
        set_field!(self.at, user_ip6[3], d);
        set_field!(self.at, user_port, u32::from(port.0));
    }
}
