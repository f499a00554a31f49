//! The one place that touches packet memory.
//!
//! Pointers into the packet are made anew for each access: every helper that
//! changes the packet invalidates them, and the verifier holds us to it.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{bpf_csum_update, bpf_l4_csum_replace, bpf_skb_pull_data},
    programs::TcContext,
};
use netd_common::{
    abi::{
        Address,
        wire::{PROTO_UDP, Wire},
    },
    packet::{Covered, Packet, PacketMut},
};

/// `__sk_buff::tc_index` of a packet that netd translated and sent: nothing
/// else reads or writes that field between the two programs.
const TRANSLATED: u32 = 0x6e64;

/// `PACKET_OTHERHOST` (`include/uapi/linux/if_packet.h`).
const OTHER_HOST: u32 = 3;
/// `BPF_F_IPV6` of `bpf_l4_csum_replace` (Linux 6.16, commit ead7f9b8de65).
const BPF_F_IPV6: u64 = 1 << 7;
const EINVAL: i64 = -22;

/// Longest header chain that is ever read, so that the verifier can bound
/// every offset.
const MAX_OFFSET: usize = 0xff;

#[derive(Clone, Copy)]
pub(crate) struct Skb {
    skb: *mut __sk_buff,
    next_hop: Address,
}

impl Skb {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.as_ptr().cast(), next_hop: Address::ANY }
    }

    /// What a link's program returns `TC_ACT_OK` with becomes `tc_index`
    /// (`tcx_action_code`, net/core/dev.c), our own mark: what the sender left
    /// there is not to.
    #[inline(always)]
    pub(crate) fn clear_class(&self) {
        // SAFETY: as in `bounds`; programs of TC may write this member.
        unsafe { (*self.skb).tc_classid = 0 };
    }

    #[inline(always)]
    pub(crate) fn next_hop(&self) -> Address {
        self.next_hop
    }

    /// Where the part of the packet begins and ends that can be read.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) }
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        at(self.bounds(), offset)
    }
}

/// A pointer to `T` at `offset` of the packet between `data` and `end`, if all
/// of it is there.
#[inline(always)]
pub(crate) fn at<T>((data, end): (usize, usize), offset: usize) -> Option<*mut T> {
    if offset > MAX_OFFSET {
        return None;
    }
    let start = opaque(data + bounded(offset));
    if start + size_of::<T>() > end {
        return None;
    }
    Some(start as *mut T)
}

/// Whether the first `len` bytes are there.
#[inline(always)]
pub(crate) fn holds((data, end): (usize, usize), len: usize) -> bool {
    len <= MAX_OFFSET && data + bounded(len) <= end
}

/// Hides where a pointer came from. The compiler would otherwise check
/// `data + (offset + size)` and then use `data + offset`, and the verifier
/// knows only the pointer that was checked.
#[inline(always)]
fn opaque(pointer: usize) -> usize {
    let mut pointer = pointer;
    // SAFETY: a move to itself. (An empty text would leave two line records for
    // one instruction, which the kernel refuses.)
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack)) };
    pointer
}

/// Shows the verifier the bound of an offset that was checked. The compiler may
/// check one copy of it and use another, out of a stack slot, and before Linux
/// 6.8 the verifier takes the two for strangers.
#[inline(always)]
fn bounded(offset: usize) -> usize {
    let mut offset = offset;
    // SAFETY: arithmetic on a register; no bit of a checked offset is lost.
    unsafe {
        core::arch::asm!(
            "{0} &= {1}", inout(reg) offset, const MAX_OFFSET,
            options(pure, nomem, nostack)
        );
    }
    offset
}

impl Packet for Skb {
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn ensure(&mut self, len: usize) -> bool {
        if len > MAX_OFFSET {
            return false;
        }
        if holds(self.bounds(), len) {
            return true;
        }
        // SAFETY: a plain helper call on the context.
        len <= self.len() && unsafe { bpf_skb_pull_data(self.skb, len as u32) } == 0
    }

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: bounds were checked in `at`; any bytes are a valid `T`. The
        // kernel aligns headers as their types want (or allows otherwise).
        self.at::<T>(offset).map(|pointer| unsafe { *pointer })
    }

    #[inline(always)]
    fn forget(&self, offset: usize) -> usize {
        let mut offset = offset;
        // Any number that the verifier does not know.
        let unknown = self.len();
        // SAFETY: arithmetic on registers, which leaves the value as it was.
        unsafe {
            core::arch::asm!(
                "{0} ^= {1}", "{0} ^= {1}",
                inout(reg) offset, in(reg) unknown, options(pure, nomem, nostack)
            );
        }
        offset
    }

    #[inline(always)]
    fn is_burst(&self) -> bool {
        self.gso_size() != 0
    }
}

impl PacketMut for Skb {
    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).gso_size }
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn is_for_another(&self) -> bool {
        // SAFETY: as in `bounds`.
        unsafe { (*self.skb).pkt_type == OTHER_HOST }
    }

    #[inline(always)]
    fn mark_translated(&mut self) {
        // SAFETY: as in `bounds`; the field is writable for classifiers.
        unsafe { (*self.skb).tc_index = TRANSLATED }
    }

    #[inline(always)]
    fn take_translated(&mut self) -> bool {
        // SAFETY: as in `mark_translated`.
        unsafe {
            let marked = (*self.skb).tc_index == TRANSLATED;
            if marked {
                (*self.skb).tc_index = 0;
            }
            marked
        }
    }

    #[inline(always)]
    fn set_next_hop(&mut self, next_hop: Address) {
        self.next_hop = next_hop;
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> bool {
        let Some(pointer) = self.at::<T>(offset) else {
            return false;
        };
        // SAFETY: as in `read`; the kernel makes the headers of a program that
        // writes them its own first.
        unsafe { *pointer = *value };
        true
    }

    #[inline(always)]
    fn update_checksum(&mut self, offset: usize, proto: u8, covered: Covered, diff: u32) -> bool {
        if offset > MAX_OFFSET {
            return false;
        }
        // A size of 0: `to` is the difference.
        let mut flags = match covered {
            Covered::Segment => 0,
            Covered::PseudoHeader4 => u64::from(BPF_F_PSEUDO_HDR),
            Covered::PseudoHeader6 => u64::from(BPF_F_PSEUDO_HDR) | BPF_F_IPV6,
        };
        if proto == PROTO_UDP {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        let update = |flags| {
            // SAFETY: a plain helper call on the context.
            unsafe { bpf_l4_csum_replace(self.skb, offset as u32, 0, u64::from(diff), flags) }
        };
        let mut answer = update(flags);
        if covered == Covered::PseudoHeader6 && answer == EINVAL {
            // A kernel without the flag takes the address for IPv4's.
            answer = update(flags & !BPF_F_IPV6);
            self.changed_uncovered(diff);
        }
        answer == 0
    }

    #[inline(always)]
    fn changed_uncovered(&mut self, diff: u32) {
        // SAFETY: a plain helper call on the context. It fails where there is
        // no checksum over the whole frame, and none is to be updated.
        unsafe { bpf_csum_update(self.skb, diff) };
    }
}
