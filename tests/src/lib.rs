//! The fixtures of netd's tests, one vocabulary for all of them: a [`Topology`]
//! of namespaces, an [`Agent`] and a [`Docker`] in its host namespace,
//! [`Container`]s, programs and traffic inside any [`NetNs`], and [`Snapshot`]s
//! to compare.
//!
//! Knows netd by its interfaces alone: the command line, the JSON, the files
//! under `--root`, and the names of maps. Only [`Kernel`] knows the datapath: it
//! runs single packets through its programs. A fixture that can't be set up
//! panics: the test then fails and says why.
#![allow(clippy::missing_panics_doc, reason = "fixtures report to the test by panicking")]

use std::{
    thread,
    time::{Duration, Instant},
};

pub mod agent;
pub mod api;
pub mod build;
pub mod container;
pub mod crowd;
pub mod crr;
pub mod dir;
pub mod docker;
pub mod family;
pub mod flood;
pub mod frame;
pub mod hop;
pub mod json;
pub mod kernel;
pub mod libnetwork;
pub mod load;
pub mod machine;
pub mod netns;
pub mod probe;
pub mod program;
pub mod random;
pub mod raw;
pub mod snapshot;
pub mod syn;
pub mod topology;
pub mod traffic;

pub use agent::Agent;
pub use api::Api;
pub use container::Container;
pub use crowd::Crowd;
pub use dir::TestDir;
pub use docker::Docker;
pub use family::Family;
pub use hop::Hop;
pub use kernel::Kernel;
pub use libnetwork::Libnetwork;
pub use machine::Machine;
pub use netns::NetNs;
pub use program::{Output, Process, Program, netd, netd_path};
pub use random::Random;
pub use raw::RawSocket;
pub use snapshot::Snapshot;
pub use topology::{Offload, Topology};
pub use traffic::{Echo, exchange};

/// How long anything that should happen may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How long we look before we call it "does not get through".
pub const SILENCE: Duration = Duration::from_millis(700);

const PROBE_EVERY: Duration = Duration::from_millis(5);

/// Asks `probe` until it has an answer; panics when `within` has passed.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(PROBE_EVERY);
    }
}

/// Whether the long tests are asked for (`cargo xtask test --soak`).
pub fn soaks() -> bool {
    std::env::var_os("NETD_SOAK").is_some()
}

/// Ends the test when it is not run by root.
#[track_caller]
pub fn require_root() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test makes network namespaces: run it as root (`cargo xtask test` asks for it)"
    );
}
