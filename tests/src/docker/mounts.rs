//! A mount namespace that is Docker's alone: its `/run`, `/etc/docker` and
//! `/sys`. Docker looks for plugins and keeps its shims' sockets at fixed
//! paths below `/run`, and asks `/sys` for the links of its own namespace.
//!
//! What Docker mounts itself is to be seen outside, so that [`TestDir`] ends
//! it: its directory is one mount that both sides share.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{NetNs, Program, TestDir};

/// Programs run inside by [`Mounts::command`].
#[derive(Debug)]
pub(super) struct Mounts {
    file: File,
    host: NetNs,
}

impl Mounts {
    /// Makes `shared`, below the test's directory, a file system in memory
    /// that both sides see; inside, `/run/docker/plugins` is `plugins`.
    pub(super) fn new(dir: &TestDir, host: &NetNs, shared: &Path, plugins: &Path) -> Self {
        fs::create_dir_all(shared).expect("create Docker's directory");
        fs::create_dir_all(plugins).expect("create the directory of plugins");
        mount(Some("netd-docker"), shared, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .expect("mount Docker's directory");
        change(shared, MsFlags::MS_SHARED);
        let make = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
            for at in mount_points().iter().filter(|at| !at.starts_with(dir.path())) {
                change(at, MsFlags::MS_PRIVATE);
            }
            replace_run(dir.path(), shared, plugins);
            replace_sys();
            let configuration = shared.join("etc");
            fs::create_dir(&configuration).expect("create Docker's configuration");
            bind(&configuration, Path::new("/etc/docker"), MsFlags::empty());
            File::open("/proc/thread-self/ns/mnt").expect("open the mount namespace")
        };
        Self { file: host.run(make), host: host.clone() }
    }

    /// A program to run inside, and in the host's network namespace.
    pub(super) fn command(&self, program: &str) -> Program {
        use std::os::fd::AsRawFd as _;
        let namespace = format!("--mount=/proc/{}/fd/{}", process::id(), self.file.as_raw_fd());
        Program::new("nsenter").args([&namespace, "--", program]).inside(&self.host)
    }
}

/// An empty `/run` with no more in it than the test's directory.
fn replace_run(dir: &Path, shared: &Path, plugins: &Path) {
    let run = Path::new("/run");
    let stage = dir.join("stage");
    fs::create_dir(&stage).expect("create a place for /run");
    mount(Some("run"), &stage, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .expect("mount another /run");
    let staged = |path: &Path| stage.join(path.strip_prefix(run).expect("a path below /run"));
    fs::create_dir_all(staged(dir)).expect("create a place for the test's directory");
    bind(dir, &staged(dir), MsFlags::empty());
    bind(shared, &staged(shared), MsFlags::empty());
    let seen = stage.join("docker/plugins");
    fs::create_dir_all(&seen).expect("create a place for plugins");
    bind(plugins, &seen, MsFlags::empty());
    mount(Some(&stage), run, None::<&str>, MsFlags::MS_MOVE, None::<&str>).expect("move /run");
    fs::remove_dir(&stage).expect("the place for /run is empty");
}

/// The links that `/sys` shows are those of the namespace that mounts it.
fn replace_sys() {
    let stage = Path::new("/run/sys");
    fs::create_dir(stage).expect("create a place for /sys");
    mount(Some("sysfs"), stage, Some("sysfs"), MsFlags::empty(), None::<&str>)
        .expect("mount another /sys");
    let groups = Path::new("/sys/fs/cgroup");
    bind(groups, &stage.join("fs/cgroup"), MsFlags::MS_REC);
    mount(Some(stage), Path::new("/sys"), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .expect("move /sys");
}

fn bind(from: &Path, to: &Path, further: MsFlags) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | further, None::<&str>)
        .unwrap_or_else(|e| panic!("bind {} to {}: {e}", from.display(), to.display()));
}

/// Who sees what is mounted below.
fn change(at: &Path, propagation: MsFlags) {
    mount(None::<&str>, at, None::<&str>, propagation, None::<&str>)
        .unwrap_or_else(|e| panic!("change the mount {}: {e}", at.display()));
}

fn mount_points() -> Vec<PathBuf> {
    let table =
        fs::read_to_string("/proc/thread-self/mountinfo").expect("read the table of mounts");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(|point| PathBuf::from(point.replace("\\040", " "))).collect()
}
