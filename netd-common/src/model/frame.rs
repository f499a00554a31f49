//! A packet in ordinary memory.

use std::vec::Vec;

use super::std;
use crate::{
    abi::{
        Address,
        wire::{self, PROTO_UDP, Wire},
    },
    csum,
    packet::{Covered, Packet, PacketMut},
};

/// The kernel side reads no further into a packet.
const MAX_OFFSET: usize = 0xff;
/// A UDP checksum whose sum is zero (RFC 768).
const MANGLED_ZERO: u16 = 0xffff;

/// One frame, its checksums complete (`CHECKSUM_NONE`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a frame's metadata is a set of flags")]
pub struct Frame {
    pub bytes: Vec<u8>,
    /// The link whose program runs.
    pub ifindex: u32,
    /// The link that it came in by; 0: it was made here.
    pub ingress_ifindex: u32,
    /// Payload bytes of each segment; 0: no burst of segments.
    pub gso_size: u32,
    /// A VLAN tag was set aside.
    pub vlan: bool,
    /// It was sent to another MAC than its link's.
    pub for_another: bool,
    /// netd's own mark.
    pub translated: bool,
    /// Where a verdict of "forward" sends the frame.
    pub next_hop: Address,
    /// Edits fail, as they do in the kernel when memory runs out.
    pub refuses_edits: bool,
}

impl Frame {
    pub fn new(ifindex: u32, bytes: Vec<u8>) -> Self {
        Self { bytes, ifindex, ..Self::default() }
    }
}

impl Packet for Frame {
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn ensure(&mut self, len: usize) -> bool {
        len <= MAX_OFFSET && len <= self.bytes.len()
    }

    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        wire::read(&self.bytes, offset)
    }

    fn is_burst(&self) -> bool {
        self.gso_size != 0
    }
}

impl PacketMut for Frame {
    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn has_vlan(&self) -> bool {
        self.vlan
    }

    fn is_for_another(&self) -> bool {
        self.for_another
    }

    fn mark_translated(&mut self) {
        self.translated = true;
    }

    fn take_translated(&mut self) -> bool {
        core::mem::take(&mut self.translated)
    }

    fn set_next_hop(&mut self, next_hop: Address) {
        self.next_hop = next_hop;
    }

    fn write<T: Wire>(&mut self, offset: usize, value: &T) -> bool {
        offset <= MAX_OFFSET && !self.refuses_edits && wire::write(&mut self.bytes, offset, value)
    }

    /// As `bpf_l4_csum_replace` of a difference, with `BPF_F_MARK_MANGLED_0`
    /// for UDP (net/core/filter.c): no checksum stays none, and zero is sent as
    /// ffff.
    fn update_checksum(&mut self, offset: usize, proto: u8, _covered: Covered, diff: u32) -> bool {
        let Some([a, b]) = self.bytes.get(offset..).and_then(|rest| rest.first_chunk().copied())
        else {
            return false;
        };
        if self.refuses_edits || offset > MAX_OFFSET || !offset.is_multiple_of(2) {
            return false;
        }
        let old = u16::from_ne_bytes([a, b]);
        if proto == PROTO_UDP && old == 0 {
            return true;
        }
        let new = match csum_replace_by_diff(old, diff) {
            0 if proto == PROTO_UDP => MANGLED_ZERO,
            new => new,
        };
        self.bytes[offset..offset + 2].copy_from_slice(&new.to_ne_bytes());
        true
    }

    fn changed_uncovered(&mut self, _diff: u32) {}
}

/// The kernel's own steps (include/net/checksum.h), which differ from RFC
/// 1624's in which of its two zeroes they give.
fn csum_replace_by_diff(check: u16, diff: u32) -> u16 {
    !csum::fold(csum::add(diff, !u32::from(check)))
}
