//! A network and a mount namespace for each test that needs root.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::{path::Path, process::Command, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs a test on a thread of its own, in a network namespace of its own, with
/// a directory of its own. What is left of it ends with the thread.
pub(crate) fn in_netns(test: impl AsyncFnOnce(&Path) + Send) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root; without it, run: cargo test -p netd --lib"
    );
    let result = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
                // So that a test that fails leaves no mount behind either.
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                let dir = tempfile::tempdir().unwrap();
                // One thread: the namespace is the thread's.
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(test(dir.path()));
            })
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's namespace, and returns what it says.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    text
}

/// A sysctl below `net`, of the calling thread's namespace.
pub(crate) fn sysctl(key: &str) -> String {
    let value = std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap();
    value.trim().to_owned()
}
