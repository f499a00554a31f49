//! bpf(2), and its commands on maps that aya does not have: batches (Linux 5.6),
//! and to take an entry out, which in hash maps is one step since Linux 5.14.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const LOOKUP_AND_DELETE: libc::c_long = 21;
const LOOKUP_BATCH: libc::c_long = 24;
const DELETE_BATCH: libc::c_long = 27;

/// Only where there is none, only where there is one.
pub(super) const NOEXIST: u64 = 1;
pub(super) const EXIST: u64 = 2;

/// `union bpf_attr`, the member of `BPF_MAP_*_ELEM`.
#[repr(C)]
struct Entry {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr`, member `batch`.
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

/// A member of `union bpf_attr`, laid out as the kernel has it. What it points at
/// lives, and is as large as it says, until the call with it returns.
pub(super) trait Attr {}
impl Attr for Entry {}
impl Attr for Batch {}

/// What the command answers: a descriptor, if it makes one.
pub(super) fn bpf<A: Attr>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is what `Attr` promises.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(answer).map_err(io::Error::other)
}

/// The value under `key`, if any.
pub(super) fn get<K: Pod, V: Pod + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    fetch(LOOKUP, map, key)
}

/// Takes out of a hash map what is under `key`, if anything: the value is what
/// was there to the last.
pub(super) fn take<K: Pod, V: Pod + Default>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    fetch(LOOKUP_AND_DELETE, map, key)
}

fn fetch<K: Pod, V: Pod + Default>(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = V::default();
    match bpf(command, &mut entry(map, key, (&raw mut value) as u64, 0)) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts `value` in; `false`: there is one already, which stays.
pub(super) fn put_new<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<bool> {
    match bpf(UPDATE, &mut entry(map, key, std::ptr::from_ref(value) as u64, NOEXIST)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn entry<K>(map: BorrowedFd<'_>, key: &K, value: u64, flags: u64) -> Entry {
    let map_fd = map.as_raw_fd().cast_unsigned();
    Entry { map_fd, pad: 0, key: std::ptr::from_ref(key) as u64, value, flags }
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
            Ok(_) => false,
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
            Ok(_) => return Ok(()),
            // Stopped at a key that was not there: go on behind it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                rest = &rest[(attr.count as usize + 1).min(rest.len())..];
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
