//! The layout of everything that crosses the border between the kernel and
//! the agent: map keys, map values, map names and their version.
//!
//! Every type is `repr(C)`, has no implicit padding (asserted by size), and is
//! valid for any bit pattern. Addresses are 16 bytes in network order, IPv4 as
//! `::ffff:a.b.c.d`; ports are in network order wherever they stand in a key.
//! A change of any layout raises [`ABI_VERSION`], which is part of every pin's
//! path, so that two layouts never meet in one map.

pub mod addr;
pub mod config;
pub mod endpoint;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod names;
pub mod port;
pub mod quota;
pub mod socket;
pub mod stats;
pub mod wire;

pub use addr::{Address, Be16, Mac};
pub use config::{Config, PortRange, Uplink};
pub use endpoint::{Endpoint, Family, Link, Network, NetworkKey, Prefix, TrustedKey};
pub use event::{Event, EventSlot};
pub use flow::{Flow, FlowKey, Zone};
pub use fragment::{Fragment, FragmentKey};
pub use port::{AllowKey, PortKey, PortTarget, SynRate};
pub use quota::{Quota, Tally};
pub use socket::{SocketKey, SocketPeer};
pub use stats::Counter;

/// The version of every layout in this module.
pub const ABI_VERSION: u32 = 3;

/// Marks a type as plain old data for aya's typed maps (feature `user`).
macro_rules! pod {
    ($($t:ty: $size:literal),+ $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$t>() == $size);
        // SAFETY: `repr(C)`, no implicit padding (the size is asserted and the
        // fields add up to it), every bit pattern is valid, no pointers.
        #[cfg(feature = "user")]
        #[allow(unsafe_code)]
        unsafe impl aya::Pod for $t {}
    )+};
}
pub(crate) use pod;
