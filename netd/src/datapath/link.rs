//! Taking over a pinned link of a cgroup: bpf(2)'s `BPF_OBJ_GET` and
//! `BPF_LINK_UPDATE` (Linux 5.7), which aya has for other kinds of links only.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const OBJ_GET: libc::c_long = 7;
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

/// The object that is pinned at `path`.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: `attr` is the kernel's layout; the path in it, which ends in a
    // zero, lives until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const attr, size_of::<Object>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in place of the one that `link` runs, in one step.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = Update {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: `attr` is the kernel's layout and holds two open descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, LINK_UPDATE, &raw const attr, size_of::<Update>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
