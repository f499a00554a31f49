//! Where programs and maps are pinned: a bpffs, mounted if none is there, and
//! a directory in it that carries the ABI version.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use netd_common::abi::ABI_VERSION;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::statfs,
};

use super::Error;

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const MAGIC: i64 = 0xcafe_4a11;
/// The system's own bpffs, which netd mounts but never unmounts.
const SYSTEM: &str = "/sys/fs/bpf";

#[derive(Debug)]
pub(super) struct Pins {
    /// The mount point, where it is netd's own.
    mount: Option<PathBuf>,
    base: PathBuf,
    path: PathBuf,
}

impl Pins {
    /// `base` is `/sys/fs/bpf/netd`, or a directory of the agent's own on
    /// which a bpffs of its own is mounted.
    pub(super) fn open(base: &Path) -> Result<Self, Error> {
        let system = Path::new(SYSTEM);
        let point = if base.starts_with(system) { system } else { base };
        fs::create_dir_all(point).map_err(failed(point))?;
        if !is_bpffs(point) {
            mount(Some("bpf"), point, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|source| Error::Mount { path: point.to_owned(), source })?;
        }
        let path = base.join(format!("v{ABI_VERSION}"));
        let links = path.join("links");
        fs::create_dir_all(&links).map_err(failed(&links))?;
        let mount = (point != system).then(|| point.to_owned());
        Ok(Self { mount, base: base.to_owned(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Where the links of the cgroup are pinned; made by whoever pins one.
    pub(super) fn cgroup(&self) -> PathBuf {
        self.path.join("cgroup")
    }

    pub(super) fn remove(self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.path).map_err(failed(&self.path))?.flatten() {
            if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
            }
        }
        for directory in [&self.links(), &self.path] {
            fs::remove_dir(directory).map_err(failed(directory))?;
        }
        match self.mount {
            Some(point) => umount2(&point, MntFlags::MNT_DETACH)
                .map_err(|source| Error::Mount { path: point, source }),
            // Another version's pins may be there too.
            None => match fs::remove_dir(&self.base) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    Err(failed(&self.base)(error))
                }
                _ => Ok(()),
            },
        }
    }
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Pins { path: path.clone(), source }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == MAGIC)
}
