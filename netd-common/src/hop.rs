//! The next hop of a flow in two words. Sixteen bytes of every entry would be
//! an address that nearly always follows from the flow's others.
//!
//! IPv4: the address, and 0. IPv6: the lower half of the address, where the
//! upper one is a link-local address's or that of the packet's new source
//! ([`Flow::NEAR`]); 0: the packet's own destination; ones: the kernel looks
//! the next hop up, as it can't be said so shortly.

use crate::{
    abi::{Address, Flow, FlowKey},
    nat::translated,
};

/// `fe80::/64` (RFC 4291 §2.5.6).
const LINK_LOCAL: [u32; 2] = [u32::from_ne_bytes([0xfe, 0x80, 0, 0]), 0];

impl Flow {
    /// Sets the next hop of packets that go from `src` to `dst`, both after
    /// translation.
    #[inline(always)]
    pub fn set_next_hop(&mut self, hop: &Address, src: &Address, dst: &Address) {
        let ([a, b, c, d], [e, f, ..]) = (hop.words(), src.words());
        self.flags &= !Self::NEAR;
        let (first, second) = if hop.is_v4() {
            (d, 0)
        } else if hop == dst {
            (0, 0)
        } else if [a, b] == LINK_LOCAL {
            (c, d)
        } else if a == e && b == f {
            self.flags |= Self::NEAR;
            (c, d)
        } else {
            (u32::MAX, u32::MAX)
        };
        (self.way[0], self.way[1]) = (first, second);
    }

    /// Where a packet of `key` goes next; [`Address::ANY`]: the kernel knows.
    #[inline(always)]
    pub fn next_hop(&self, key: &FlowKey) -> Address {
        let [first, second, _] = self.way;
        if key.src.is_v4() {
            return Address::v4_word(first);
        }
        let (src, dst) = translated(key, self);
        if first | second == 0 {
            return dst;
        }
        if first & second == u32::MAX {
            return Address::ANY;
        }
        let [a, b, ..] = src.words();
        let [a, b] = if self.has(Self::NEAR) { [a, b] } else { LINK_LOCAL };
        Address::from_words([a, b, first, second])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Address =
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
    const DST: Address =
        Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

    fn kept(hop: Address, src: Address, dst: Address) -> Address {
        let key = FlowKey {
            src: Address::from(core::net::Ipv6Addr::LOCALHOST),
            dst,
            ..FlowKey::default()
        };
        let key = if dst.is_v4() { FlowKey { src, ..key } } else { key };
        let mut flow = Flow { addr: src, flags: Flow::REWRITE_SRC, ..Flow::default() };
        flow.set_next_hop(&hop, &src, &dst);
        flow.next_hop(&key)
    }

    fn v6(text: &str) -> Address {
        text.parse::<core::net::Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn an_ipv4_address_is_kept_as_it_is() {
        let (src, dst) = (Address::v4([192, 0, 2, 1]), Address::v4([203, 0, 113, 1]));
        for hop in [Address::v4([192, 0, 2, 2]), dst, Address::v4([10, 0, 0, 0])] {
            assert_eq!(kept(hop, src, dst), hop);
        }
    }

    #[test]
    fn an_ipv6_gateway_is_known_by_its_lower_half() {
        for hop in [v6("fe80::2"), v6("2001:db8:0:7::fffe"), v6("2001:db8:0:7:1::"), DST] {
            assert_eq!(kept(hop, SRC, DST), hop);
        }
    }

    #[test]
    fn a_gateway_that_shares_no_prefix_is_the_kernels_to_find() {
        assert_eq!(kept(v6("2001:db8:0:8::1"), SRC, DST), Address::ANY);
        assert_eq!(kept(v6("fe80:1::1"), SRC, DST), Address::ANY);
    }

    #[test]
    fn a_new_next_hop_replaces_all_of_the_old() {
        let key = FlowKey { src: SRC, dst: DST, ..FlowKey::default() };
        let mut flow = Flow::default();
        flow.set_next_hop(&v6("2001:db8:0:7::2"), &SRC, &DST);
        flow.set_next_hop(&v6("fe80::2"), &SRC, &DST);
        assert_eq!(flow.next_hop(&key), v6("fe80::2"));
        assert!(!flow.has(Flow::NEAR));
    }
}
