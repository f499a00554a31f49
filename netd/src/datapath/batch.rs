//! Batched map access: bpf(2)'s `BPF_MAP_LOOKUP_BATCH` and
//! `BPF_MAP_DELETE_BATCH` (Linux 5.6), which aya does not have.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

const LOOKUP_BATCH: libc::c_long = 24;
const DELETE_BATCH: libc::c_long = 27;

/// `union bpf_attr`, member `batch` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Batch {
    /// Where to begin: the kernel's `in_batch`.
    from: u64,
    /// Where to go on: `out_batch`.
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

fn bpf(command: libc::c_long, attr: &mut Batch) -> io::Result<()> {
    // SAFETY: `attr` is the kernel's layout; its pointers are the callers'
    // live buffers, `count` elements long.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Batch>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Calls `visit` with the entries of a hash map, some thousands at a time.
/// Entries that come or go meanwhile may be missed, none is seen twice unless
/// it was put in again.
pub(super) fn walk<K: Pod + Default, V: Pod + Default>(
    map: BorrowedFd<'_>,
    mut visit: impl FnMut(&[K], &[V]),
) -> io::Result<()> {
    let mut capacity = 4096;
    let mut keys = vec![K::default(); capacity];
    let mut values = vec![V::default(); capacity];
    // For hash maps the cursor is a bucket's number.
    let (mut cursor, mut started) = (0u32, false);
    loop {
        let mut next = 0u32;
        let mut attr = Batch {
            from: if started { (&raw const cursor) as u64 } else { 0 },
            next: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(capacity).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        let outcome = bpf(LOOKUP_BATCH, &mut attr);
        let end = match outcome {
            Ok(()) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => true,
                // A bucket with more entries than there was room for.
                Some(libc::ENOSPC) => {
                    capacity *= 2;
                    keys.resize(capacity, K::default());
                    values.resize(capacity, V::default());
                    continue;
                }
                Some(libc::EINTR | libc::EAGAIN) => continue,
                _ => return Err(error),
            },
        };
        let count = attr.count as usize;
        visit(&keys[..count], &values[..count]);
        if end {
            return Ok(());
        }
        (cursor, started) = (next, true);
    }
}

/// Removes `keys`; those that are gone already don't matter.
pub(super) fn delete<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut rest = keys;
    while !rest.is_empty() {
        let mut attr = Batch {
            keys: rest.as_ptr() as u64,
            count: u32::try_from(rest.len()).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        match bpf(DELETE_BATCH, &mut attr) {
            Ok(()) => return Ok(()),
            // Stopped at a key that was not there: go on behind it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                rest = &rest[(attr.count as usize + 1).min(rest.len())..];
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
