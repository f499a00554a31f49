//! A test's own directory, and the end of everything that is bound in it:
//! mounts, namespaces and the processes in those namespaces, and their control
//! groups.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{DEADLINE, eventually, require_root};

const PREFIX: &str = "netd-test-";

/// `/run/netd-test-<pid>-<n>`. On drop, nothing of it is left.
#[derive(Debug)]
pub struct TestDir(PathBuf);

impl TestDir {
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        require_root();
        SWEEP.call_once(sweep);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/run/{PREFIX}{}-{n}", process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The control group, of each hierarchy, for what a container engine of the
    /// test's puts into groups. It goes with the directory.
    pub fn control_group(&self) -> PathBuf {
        Path::new("/").join(self.0.file_name().expect("the directory has a name"))
    }

    /// Processes whose network namespace is bound somewhere below.
    pub fn processes(&self) -> Vec<Pid> {
        processes_in(&namespaces_below(&self.0))
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Mount points at or below `dir`, the innermost last.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    mount_lines(dir).into_iter().map(|(_, at)| at).collect()
}

/// The mount's root within its file system (`net:[4026532281]` for a
/// namespace) and its mount point.
fn mount_lines(dir: &Path) -> Vec<(String, PathBuf)> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let root = fields.next()?.to_owned();
            let at = PathBuf::from(fields.next()?);
            at.starts_with(dir).then_some((root, at))
        })
        .collect()
}

/// `net:[inode]` of each network namespace bound below `dir`, never our own.
fn namespaces_below(dir: &Path) -> Vec<String> {
    let own = namespace_of(Path::new("/proc/self/ns/net"));
    mount_lines(dir)
        .into_iter()
        .map(|(root, _)| root)
        .filter(|root| root.starts_with("net:[") && Some(root) != own.as_ref())
        .collect()
}

fn namespace_of(file: &Path) -> Option<String> {
    Some(fs::read_link(file).ok()?.to_str()?.to_owned())
}

fn processes_in(namespaces: &[String]) -> Vec<Pid> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let entries = fs::read_dir("/proc").expect("read /proc");
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let namespace = namespace_of(&PathBuf::from(format!("/proc/{pid}/ns/net")))?;
            namespaces.contains(&namespace).then_some(Pid::from_raw(pid))
        })
        .collect()
}

/// Removes the groups of this name, in every hierarchy: a folder below
/// `/sys/fs/cgroup` with version 1, and itself with version 2.
fn remove_control_groups(name: &OsStr) {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.chain([top.to_owned()]).map(|hierarchy| hierarchy.join(name)) {
        eventually(DEADLINE, "the test's control groups go", || {
            remove_groups_below(&group);
            (!group.exists()).then_some(())
        });
    }
}

/// A group can be removed once its processes have ended and are reaped.
fn remove_groups_below(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn clear(dir: &Path) {
    let namespaces = namespaces_below(dir);
    eventually(DEADLINE, "the test's processes end", || {
        let left = processes_in(&namespaces);
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    });
    dir.file_name().into_iter().for_each(remove_control_groups);
    for mount in mounts_below(dir).iter().rev() {
        if let Err(e) = umount2(mount, MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", mount.display());
        }
    }
    // A mount that stayed must not be emptied through us.
    let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).ok();
    if mounts_below(dir).is_empty() && device(dir) == device(Path::new("/run")) {
        let _ = fs::remove_dir_all(dir);
    }
}

/// Clears what tests that were killed left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if let Some(pid) = pid
            && !Path::new("/proc").join(pid).exists()
        {
            clear(&entry.path());
        }
    }
}
