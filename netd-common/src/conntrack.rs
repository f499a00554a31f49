//! The life of a flow: its states, what moves it between them, and how long
//! it may be silent in each.
//!
//! There is no window tracking, so a RST that might lie outside the window
//! only shortens the flow's time: the next packet that is not a RST brings it
//! back (RFC 5961 attacks then cost nothing).

use crate::abi::wire::{PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// `Flow::state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not answered yet (TCP: `SYN_SENT`).
    New = 0,
    /// Answered.
    Established = 1,
    /// One side has sent its FIN.
    HalfClosed = 2,
    /// Both sides have.
    Closing = 3,
    /// A RST went by, valid or not.
    Reset = 4,
    /// Answered once, which may have been all: whoever asked has not spoken
    /// again (TCP: `SYN_RECV`).
    Answered = 5,
    /// A SYN has begun a connection in the place of one that was over (TCP:
    /// `SYN_SENT`, until its hands are shaken).
    Reopened = 6,
}

impl State {
    /// Whether a flow in `state` is not known to be more than a packet and an
    /// answer to it: its place is `EMBRYONIC`.
    #[inline(always)]
    pub const fn is_embryonic(state: u8) -> bool {
        state == Self::New as u8 || state == Self::Answered as u8
    }

    #[inline(always)]
    pub const fn from_u8(state: u8) -> Self {
        match state {
            0 => Self::New,
            2 => Self::HalfClosed,
            3 => Self::Closing,
            4 => Self::Reset,
            5 => Self::Answered,
            6 => Self::Reopened,
            _ => Self::Established,
        }
    }

    /// As `netd flows` prints it, in Linux's words where they fit.
    pub const fn name(self, proto: u8) -> &'static str {
        match (self, proto) {
            (Self::New | Self::Reopened, PROTO_TCP) => "SYN_SENT",
            (Self::New, _) => "UNREPLIED",
            (Self::Answered, PROTO_TCP) => "SYN_RECV",
            (Self::Answered | Self::Established | Self::Reopened, _) => "ESTABLISHED",
            (Self::HalfClosed, _) => "HALF_CLOSED",
            (Self::Closing, _) => "CLOSING",
            (Self::Reset, _) => "RESET",
        }
    }
}

/// What a TCP segment does to the flow it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Stay,
    /// Both directions take this state; `fin`: this direction has now ended.
    Become {
        state: State,
        fin: bool,
    },
}

/// Whether a flow in `state` (a [`State`]) makes way for a new one.
#[inline(always)]
pub const fn is_over(state: u8) -> bool {
    state == State::Closing as u8 || state == State::Reset as u8
}

/// Whether a segment ends a flow in `state` (a [`State`]): a new one begins under
/// its tuple.
#[inline(always)]
pub const fn restarts(state: u8, tcp_flags: u8) -> bool {
    is_over(state) && tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
}

/// Whether a segment that [`restarts`] nothing can move a flow in `state` (a
/// [`State`]): by all others it stays ([`Next::Stay`]).
#[inline(always)]
pub const fn may_move(state: u8, tcp_flags: u8) -> bool {
    tcp_flags & (TCP_FIN | TCP_RST) != 0
        || state == State::Reset as u8
        || state == State::Reopened as u8 && tcp_flags & TCP_SYN == 0
}

/// Of a segment that [`restarts`] nothing. `own_fin`, `twin_fin`: whether this and
/// the other direction sent a FIN.
#[inline(always)]
pub const fn next(state: State, tcp_flags: u8, own_fin: bool, twin_fin: bool) -> Next {
    let (rst, fin) = (tcp_flags & TCP_RST != 0, tcp_flags & TCP_FIN != 0);
    let shakes_hands = tcp_flags & TCP_SYN != 0;
    match state {
        _ if rst => Next::Become { state: State::Reset, fin: own_fin },
        _ if fin && twin_fin => Next::Become { state: State::Closing, fin: true },
        State::Closing => Next::Stay,
        _ if fin => Next::Become { state: State::HalfClosed, fin: true },
        State::Reset if own_fin && twin_fin => Next::Become { state: State::Closing, fin: true },
        State::Reset if own_fin || twin_fin => {
            Next::Become { state: State::HalfClosed, fin: own_fin }
        }
        State::Reopened if shakes_hands => Next::Stay,
        State::Reset | State::Reopened => Next::Become { state: State::Established, fin: false },
        State::New | State::Answered | State::Established | State::HalfClosed => Next::Stay,
    }
}

/// Seconds of silence in each state after which a flow is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp_new: u32,
    pub tcp_established: u32,
    pub tcp_half_closed: u32,
    pub tcp_closing: u32,
    pub new: u32,
    pub established: u32,
    pub icmp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_new: 60,
            tcp_established: 8000,
            tcp_half_closed: 120,
            tcp_closing: 10,
            new: 30,
            established: 120,
            icmp: 30,
        }
    }
}

impl Timeouts {
    pub const fn of(&self, proto: u8, state: State) -> u32 {
        match (proto, state) {
            (PROTO_TCP, State::New | State::Answered) => self.tcp_new,
            (PROTO_TCP, State::Established) => self.tcp_established,
            (PROTO_TCP, State::HalfClosed) => self.tcp_half_closed,
            // A SYN gives what was over no more time than it had.
            (PROTO_TCP, State::Closing | State::Reset | State::Reopened) => self.tcp_closing,
            (1 | 58, _) => self.icmp,
            (_, State::New) => self.new,
            (_, _) => self.established,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_forgotten_when_the_flow_goes_on() {
        let reset = next(State::Established, TCP_RST, false, false);
        assert_eq!(reset, Next::Become { state: State::Reset, fin: false });
        let back = next(State::Reset, TCP_ACK, false, false);
        assert_eq!(back, Next::Become { state: State::Established, fin: false });
    }

    #[test]
    fn what_cannot_move_a_flow_leaves_it_as_it_is() {
        for (state, flags) in (0..=6).flat_map(|state| (0..64).map(move |flags| (state, flags))) {
            let moves = [(false, false), (false, true), (true, false), (true, true)]
                .iter()
                .any(|(own, twin)| next(State::from_u8(state), flags, *own, *twin) != Next::Stay);
            assert!(may_move(state, flags) || !moves, "{state} {flags:#x}");
        }
    }

    #[test]
    fn a_syn_on_a_closing_or_reset_flow_starts_a_new_one() {
        for state in [State::Closing, State::Reset] {
            assert!(restarts(state as u8, TCP_SYN));
            assert!(!restarts(state as u8, TCP_SYN | TCP_ACK));
            assert!(!restarts(state as u8, TCP_SYN | TCP_RST));
        }
        assert!(!restarts(State::Established as u8, TCP_SYN));
        assert_eq!(next(State::Established, TCP_SYN, false, false), Next::Stay);
        assert_eq!(next(State::Closing, TCP_SYN | TCP_ACK, true, true), Next::Stay);
    }

    #[test]
    fn a_reopened_flow_is_established_when_its_hands_are_shaken() {
        for flags in [TCP_SYN, TCP_SYN | TCP_ACK] {
            assert_eq!(next(State::Reopened, flags, false, false), Next::Stay);
        }
        let goes_on = next(State::Reopened, TCP_ACK, false, false);
        assert_eq!(goes_on, Next::Become { state: State::Established, fin: false });
        assert!(!restarts(State::Reopened as u8, TCP_SYN));
    }

    #[test]
    fn a_flow_closes_when_both_sides_have_sent_their_fin() {
        let half = next(State::Established, TCP_FIN | TCP_ACK, false, false);
        assert_eq!(half, Next::Become { state: State::HalfClosed, fin: true });
        let closing = next(State::HalfClosed, TCP_FIN | TCP_ACK, false, true);
        assert_eq!(closing, Next::Become { state: State::Closing, fin: true });
    }
}
