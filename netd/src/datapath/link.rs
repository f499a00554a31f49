//! Links of programs (`bpf_link`), whatever they are attached to: bpf(2)'s
//! `BPF_OBJ_PIN`, `BPF_OBJ_GET`, `BPF_LINK_UPDATE` (Linux 5.7) and
//! `BPF_OBJ_GET_INFO_BY_FD`.
//!
//! A link lives as long as its pin or a descriptor does. The agent keeps both:
//! the pin for the agent after it, and a descriptor so that nothing happens
//! when somebody removes the pin. What nobody can keep is an attachment that is
//! taken off by force (`bpftool link detach`), or whose device has gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    Error,
    bpf::{Attr, bpf},
    bpffs::failed,
};

const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO: libc::c_long = 15;
const LINK_UPDATE: libc::c_long = 29;

/// `union bpf_attr`, the member of `BPF_OBJ_*` (include/uapi/linux/bpf.h).
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr`, member `link_update`.
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

impl Attr for Object {}
impl Attr for Update {}
impl Attr for InfoRequest {}

/// The object that is pinned at `path`.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in place of the one that `link` runs, in one step.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Update {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

/// `union bpf_attr`, member `info`.
#[repr(C)]
struct InfoRequest {
    object: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`. What a link is attached to comes first
/// in its union: an interface's index, or a cgroup's id.
#[derive(Default)]
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    target: u64,
}

/// Whether a link is attached still; the kernel clears what it was attached to
/// when that is no more.
fn is_attached(link: BorrowedFd<'_>) -> io::Result<bool> {
    let mut info = Info::default();
    let mut attr = InfoRequest {
        object: link.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO, &mut attr)?;
    if info.kind == CGROUP {
        return Ok(info.target != 0);
    }
    // An interface's index is the lower half, and another member follows it.
    let target = info.target.to_ne_bytes();
    Ok(target[..4] != [0; 4])
}

/// `BPF_LINK_TYPE_CGROUP`.
const CGROUP: u32 = 3;

/// Pins an object at `path`.
fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr =
        Object { path: path.as_ptr() as u64, fd: object.as_raw_fd().cast_unsigned(), flags: 0 };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

/// The links of one directory of pins, each with a descriptor of the agent's.
#[derive(Debug)]
pub(super) struct Held {
    pins: PathBuf,
    links: BTreeMap<OsString, OwnedFd>,
}

/// What was amiss with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amiss {
    /// Its pin was gone; it is pinned again.
    Unpinned,
    /// It is attached to nothing any more, and forgotten.
    Detached,
}

impl Held {
    pub(super) fn new(pins: PathBuf) -> Self {
        Self { pins, links: BTreeMap::new() }
    }

    pub(super) fn pins(&self) -> &Path {
        &self.pins
    }

    /// Whether this run has the link, and it is attached.
    pub(super) fn is_in_place(&self, name: &str) -> bool {
        let link = self.links.get(OsStr::new(name));
        link.is_some_and(|link| is_attached(link.as_fd()).unwrap_or(false))
    }

    /// Takes the link over that an earlier agent pinned: `program` runs in the
    /// place of its own, in one step. `false`: there is none that is of use.
    pub(super) fn take_over(&mut self, name: &str, program: BorrowedFd<'_>) -> Result<bool, Error> {
        let pin = self.pins.join(name);
        let Ok(link) = pinned(&pin) else { return Ok(false) };
        if update(link.as_fd(), program).is_err() {
            // Its device has gone, or somebody took it off.
            self.let_go(name)?;
            return Ok(false);
        }
        self.links.insert(name.into(), link);
        Ok(true)
    }

    /// Holds the link that has just been pinned under `name`.
    pub(super) fn hold(&mut self, name: &str) -> io::Result<()> {
        let link = pinned(&self.pins.join(name))?;
        self.links.insert(name.into(), link);
        Ok(())
    }

    /// Removes a pin. Its link is gone when this returns: with the last
    /// descriptor, and not some time after the pin.
    pub(super) fn let_go(&mut self, name: impl Into<OsString>) -> Result<(), Error> {
        let name = name.into();
        let pin = self.pins.join(&name);
        let link = self.links.remove(&name).or_else(|| pinned(&pin).ok());
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&pin)(error)),
            _ => {
                drop(link);
                Ok(())
            }
        }
    }

    /// The names of the links that are held or pinned.
    pub(super) fn names(&self) -> Result<BTreeSet<OsString>, Error> {
        let mut names = self.pinned_names()?;
        names.extend(self.links.keys().cloned());
        Ok(names)
    }

    fn pinned_names(&self) -> Result<BTreeSet<OsString>, Error> {
        match fs::read_dir(&self.pins) {
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.file_name()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(failed(&self.pins)(error)),
        }
    }

    /// Pins again what was unpinned, and forgets what was taken off: whoever
    /// attached it is to do so again.
    pub(super) fn mend(&mut self) -> Result<Vec<(String, Amiss)>, Error> {
        let pinned = self.pinned_names()?;
        let mut found = Vec::new();
        let mut detached = Vec::new();
        for (name, link) in &self.links {
            let shown = || name.to_string_lossy().into_owned();
            if !is_attached(link.as_fd()).map_err(failed(&self.pins))? {
                detached.push(name.clone());
                found.push((shown(), Amiss::Detached));
            } else if !pinned.contains(name) {
                let path = self.pins.join(name);
                pin(link.as_fd(), &path).map_err(failed(&path))?;
                found.push((shown(), Amiss::Unpinned));
            }
        }
        for name in detached {
            self.let_go(name)?;
        }
        Ok(found)
    }
}
