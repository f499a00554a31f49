//! The host model: the kernel's part played in ordinary memory, so that the
//! pipeline runs under `cargo test`. What it says of a packet, the loaded
//! programs must say too.
//!
//! [`Frame`] is a packet, [`World`] the maps, the routes and the clock,
//! [`Datagram`] makes
//! frames of both families, and [`scene`] is a host to try them on.
#![allow(clippy::missing_panics_doc, reason = "a model in doubt reports to its test")]

extern crate std;

mod call;
pub mod cases;
mod craft;
mod frame;
pub mod fuzz;
pub mod scene;
mod world;

pub use call::Call;
pub use craft::{
    Arp, Complaint, DESTINATION, Datagram, Extension, HOP_BY_HOP, Layer4, Ndp, ROUTING, checksums,
};
pub use frame::Frame;
pub use world::{Hop, Route, Socket, World};

use crate::{
    pipeline,
    verdict::{Hook, Verdict},
};

/// Sends `frame` through a hook's fast program and, where that one does not
/// decide, its slow one. The verdict is counted, as in the kernel.
pub fn run(hook: Hook, frame: &mut Frame, world: &mut World) -> Verdict {
    let verdict = fast(hook, frame, world).or_else(|| slow(hook, frame, world));
    assert!(verdict.is_decided(), "{} left a packet undecided: {frame:02x?}", hook.name());
    world.count(hook, verdict, frame.bytes.len() as u64);
    verdict
}

/// What a hook's fast program says.
pub fn fast(hook: Hook, frame: &mut Frame, world: &mut World) -> Verdict {
    match hook {
        Hook::FromContainer => pipeline::from_container(frame, world),
        Hook::ToContainer => pipeline::to_container(frame, world),
        Hook::FromUplink => pipeline::from_uplink(frame, world),
        Hook::ToUplink => pipeline::to_uplink(frame, world),
        Hook::UplinkXdp => pipeline::uplink_xdp(frame, world),
        Hook::Socket => Verdict::PASS,
        Hook::FromHost => pipeline::from_host(frame, world),
    }
}

/// What a hook's slow program says; undecided where there is none.
pub fn slow(hook: Hook, frame: &mut Frame, world: &mut World) -> Verdict {
    // As in the kernel, it still holds what the packet before left in it.
    let mut scratch = world.scratch;
    let verdict = match hook {
        Hook::FromContainer => pipeline::from_container_slow(frame, world, &mut scratch),
        Hook::FromUplink => pipeline::from_uplink_slow(frame, world, &mut scratch),
        Hook::ToUplink => pipeline::to_uplink_slow(frame, world, &mut scratch),
        Hook::ToContainer | Hook::UplinkXdp | Hook::Socket | Hook::FromHost => Verdict::UNDECIDED,
    };
    world.scratch = scratch;
    verdict
}
