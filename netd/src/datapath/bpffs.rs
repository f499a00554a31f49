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

use super::{Error, Others};

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
    pub(super) fn open(base: &Path, others: Others) -> Result<Self, Error> {
        let system = Path::new(SYSTEM);
        let point = if base.starts_with(system) { system } else { base };
        let path = base.join(format!("v{ABI_VERSION}"));
        let mount = (point != system).then(|| point.to_owned());
        let pins = Self { mount, base: base.to_owned(), path };
        // Before ours is made, which the other version would find.
        if let (Some(other), Others::Refuse) = (pins.others()?.pop(), others) {
            return Err(Error::OtherVersion(other));
        }
        pins.ensure()?;
        Ok(pins)
    }

    /// Mounts and makes what is not there. Whether anything had to be.
    pub(super) fn ensure(&self) -> Result<bool, Error> {
        let point = self.mount.as_deref().unwrap_or(Path::new(SYSTEM));
        let links = self.links();
        let mounted = is_bpffs(point);
        if mounted && links.is_dir() {
            return Ok(false);
        }
        fs::create_dir_all(point).map_err(failed(point))?;
        if !mounted {
            mount(Some("bpf"), point, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|source| Error::Mount { path: point.to_owned(), source })?;
        }
        fs::create_dir_all(&links).map_err(failed(&links))?;
        Ok(true)
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

    /// The directories of other ABI versions.
    pub(super) fn others(&self) -> Result<Vec<PathBuf>, Error> {
        let is_version = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.strip_prefix('v')?.parse::<u32>().ok()).is_some()
        };
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries.flatten(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.base)(error)),
        };
        let versions = entries.map(|entry| entry.path()).filter(|path| is_version(path));
        Ok(versions.filter(|path| *path != self.path).collect())
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

/// Removes a directory of pins with all that is in it.
pub(super) fn remove_all(directory: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(failed(directory))?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&path)?;
        } else {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    fs::remove_dir(directory).map_err(failed(directory))
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Pins { path: path.clone(), source }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == MAGIC)
}
