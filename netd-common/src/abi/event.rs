//! `EVENTS`: packets that were dropped, for `netd monitor`, and `EVENT_SLOTS`,
//! which keeps a flood of them small.

use super::{Address, Be16, pod, wire::Wire};

/// A record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// [`Address::ANY`] where the packet has no IP header.
    pub src: Address,
    pub dst: Address,
    /// The link that the program ran on.
    pub ifindex: u32,
    /// A [`crate::verdict::Hook`].
    pub hook: u32,
    /// As in `STATS`.
    pub outcome: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// 0 where the packet has no ports, or they could not be read.
    pub sport: Be16,
    pub dport: Be16,
    /// 0 where the frame is cut short.
    pub ethertype: Be16,
    /// IP protocol number.
    pub proto: u8,
    pub pad: u8,
}

/// Value of `EVENT_SLOTS`, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventSlot {
    /// The event in the making: it would be much for a program's stack.
    pub event: Event,
    /// Drops that left no event, ever.
    pub left_out: u64,
    /// Seconds of `CLOCK_MONOTONIC` that `count` is of.
    pub second: u32,
    /// Events of this second.
    pub count: u32,
}

impl EventSlot {
    /// Events that a CPU tells in a second. What comes above only counts.
    pub const PER_SECOND: u32 = 500;

    /// Whether one more event may be told in `second`; if not, it is counted.
    #[inline(always)]
    pub const fn admits(&mut self, second: u32) -> bool {
        if self.second != second {
            self.second = second;
            self.count = 0;
        }
        if self.count >= Self::PER_SECOND {
            self.left_out += 1;
            return false;
        }
        self.count += 1;
        true
    }
}

pod!(Event: 64, EventSlot: 80);

// SAFETY: `repr(C)`, no padding (the size is asserted and the fields add up to
// it), every bit pattern is valid.
#[allow(unsafe_code)]
unsafe impl Wire for Event {}

#[cfg(test)]
mod tests {
    use super::EventSlot;

    #[test]
    fn a_second_has_its_share_and_the_rest_is_counted() {
        let mut slot = EventSlot::default();
        let told = |slot: &mut EventSlot, second, drops: u32| {
            (0..drops).filter(|_| slot.admits(second)).count()
        };
        assert_eq!(told(&mut slot, 7, EventSlot::PER_SECOND), 500);
        assert_eq!(slot.left_out, 0);
        assert_eq!(told(&mut slot, 7, 20), 0);
        assert_eq!(slot.left_out, 20);
        assert_eq!(told(&mut slot, 8, 501), 500);
        assert_eq!(slot.left_out, 21);
    }
}
