//! The few system calls that no crate wraps.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Types whose `as_raw_fd` gives one open descriptor for as long as they
/// live.
pub(super) trait OneFd: AsRawFd {}

impl OneFd for OwnedFd {}
impl OneFd for rtnetlink::sys::Socket {}

/// Registers a descriptor with the runtime, for reading.
pub(super) fn async_readable<T: OneFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `OneFd`: the descriptor stays open and the same while `inner`
    // lives, and AsyncFd owns it.
    let registered = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    registered.map_err(Into::into)
}

/// Makes a socket drop everything that comes in: a classic BPF program that
/// accepts no byte of any packet.
pub(super) fn drop_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "it is 16 bytes")]
    const SIZE: libc::socklen_t = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let mut program = [libc::sock_filter {
        // BPF_RET | BPF_K: return the constant `k`.
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the descriptor is open; the option's value is a `sock_fprog` of
    // the size given, whose one instruction lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            SIZE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of a socket's network namespace (Linux 5.14).
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    #[expect(clippy::cast_possible_truncation, reason = "it is 8 bytes")]
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel writes at most `size` bytes
    // to `cookie`, and how many to `size`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of the process that has `pid` now.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: takes two integers. O_NONBLOCK's pidfd twin only concerns waitid.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: an open pidfd, an integer, no siginfo, no flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until every eBPF program that runs now has ended (an RCU grace
/// period, membarrier(2)): none goes on with what a map held before.
pub fn wait_for_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes three integers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
