//! Network namespaces: made, entered, furnished, removed. A namespace is a
//! file that nsfs is bound on; the file's path is all that others know of it.
//!
//! A thread that changed its namespace never goes back to the runtime: what
//! runs in a namespace has a thread of its own, which ends with it.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use ipnetwork::IpNetwork;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use rtnetlink::{RouteMessageBuilder, packet_route::route::RouteMessage};
use tokio::{runtime::Handle, sync::oneshot};

use super::{Error, Netlink, link, nl::Request, sys, sysctl};
use crate::model::{IfName, Mac};

/// The container's side of an endpoint, as it shall be.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    pub netns: &'a Path,
    pub name: &'a IfName,
    pub mac: Mac,
    pub addresses: &'a [IpNetwork],
    /// The default routes, by their gateways' families.
    pub gateways: &'a [IpAddr],
}

/// Creates a namespace bound to `path`, with `lo` up, IPv6 on it too. One that is there
/// already is left as it is.
pub async fn create(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::CreateNetns { path: path.to_owned(), source };
    if exists(path) {
        return Ok(());
    }
    // 0444 as `ip netns` does: its content is the kernel's.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .open(path)
        .map_err(failed)?;
    let runtime = Handle::current();
    let target = path.to_owned();
    let netlink = on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        bind(&target)?;
        sysctl::enable_loopback_ipv6().map_err(io::Error::other)?;
        let _runtime = runtime.enter();
        Ok(Netlink::open())
    })
    .await
    .and_then(|netlink| netlink.map_err(io::Error::other));
    let result = match netlink {
        Ok(netlink) => {
            // `lo` is the first link of every namespace.
            let result = netlink.pipeline(vec![Request::set_link(link::up(1))]).await;
            netlink.close().await;
            result
        }
        Err(error) => Err(error),
    };
    if result.is_err() {
        // The first error is the one that counts.
        let _ = remove(path);
    }
    result.map_err(failed)
}

fn bind(target: &Path) -> io::Result<()> {
    mount(Some("/proc/thread-self/ns/net"), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// Whether a network namespace is bound to `path`.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

/// Lets go of a namespace; it ends when its last process has. One that is not
/// there is removed already.
pub fn remove(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::RemoveNetns { path: path.to_owned(), source };
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a file, but no mount.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread of its own in the namespace of `path`.
pub async fn run_in<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let entered = path.to_owned();
    on_thread(move || {
        enter(&entered)?;
        Ok(work())
    })
    .await
    .map_err(|source| Error::EnterNetns { path: path.to_owned(), source })
}

/// Moves the calling thread to the namespace of `path`, for good: for threads
/// that end with their work, and for processes about to run a command.
pub fn enter(path: &Path) -> io::Result<()> {
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name("netns".to_owned()).spawn(move || {
        // The receiver is gone only when nobody wants the answer.
        let _ = done.send(work());
    })?;
    result.await.unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
}

impl Interface<'_> {
    /// Addresses the container's side of a veth pair, brings it up and
    /// announces it. Gives the index of the host's side.
    pub async fn create(&self) -> Result<Option<u32>, Error> {
        let inside = self.prepare().await?;
        let result = self.configure(&inside).await;
        inside.close().await;
        result
    }

    /// What must be so before the link comes up, and a socket inside.
    async fn prepare(&self) -> Result<Netlink, Error> {
        let runtime = Handle::current();
        let name = self.name.clone();
        let addresses = self.addresses.to_vec();
        run_in(self.netns, move || {
            if nix::net::if_::if_nametoindex(name.as_str()).is_err() {
                return Err(Error::NoLink(name));
            }
            sysctl::enable_arp_notify(&name)?;
            if link::set_ipv6(&name, &addresses)? == link::Ipv6::On {
                sysctl::enable_ndisc_notify(&name)?;
            }
            let _runtime = runtime.enter();
            Netlink::open()
        })
        .await?
    }

    async fn configure(&self, inside: &Netlink) -> Result<Option<u32>, Error> {
        let found = inside.link(self.name).await?;
        let link = match found {
            Some(link) if link.kind == "veth" && link.mac == Some(self.mac) => link,
            Some(_) => return Err(Error::Foreign(self.name.clone())),
            None => return Err(Error::NoLink(self.name.clone())),
        };
        let mut requests: Vec<_> = self
            .addresses
            .iter()
            .map(|address| Request::add_address(link::address_message(link.index, *address)))
            .collect();
        requests.push(Request::set_link(link::up(link.index)));
        let routes = self.gateways.iter().map(|gateway| default_route(*gateway, link.index));
        requests.extend(routes.map(Request::set_route));
        inside
            .pipeline(requests)
            .await
            .map_err(|source| Error::Configure { name: self.name.clone(), source })?;
        Ok(link.peer)
    }

    /// Deletes the link, and the host's side with it. Nothing to do when the
    /// namespace, or the link in it, is gone.
    pub async fn delete(&self) -> Result<(), Error> {
        let Some(inside) = open_if_there(self.netns).await? else { return Ok(()) };
        let result = match inside.link(self.name).await {
            Ok(Some(found)) if found.kind == "veth" && found.mac == Some(self.mac) => {
                link::delete(&inside, self.name, found.index).await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        inside.close().await;
        result
    }
}

/// Sets the MTU of a container's side of a veth pair, whatever its name: its
/// runtime may have given it another. Nothing to do when the namespace, or the
/// link in it, is gone.
pub async fn set_mtu(netns: &Path, mac: Mac, mtu: u32) -> Result<(), Error> {
    let Some(inside) = open_if_there(netns).await? else { return Ok(()) };
    let result = match inside.links().await {
        Ok(links) => {
            let own = links.iter().find(|link| link.kind == "veth" && link.mac == Some(mac));
            match own.map(|link| (link.name.parse::<IfName>(), link.index)) {
                Some((Ok(name), index)) => link::set_mtu(&inside, &name, index, mtu).await,
                _ => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    inside.close().await;
    result
}

/// A socket in the namespace of `path`, if there is one.
async fn open_if_there(path: &Path) -> Result<Option<Netlink>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let runtime = Handle::current();
    let opened = run_in(path, move || {
        let _runtime = runtime.enter();
        Netlink::open()
    });
    match opened.await {
        Ok(inside) => inside.map(Some),
        // A file that is no namespace (EINVAL), or none any more.
        Err(Error::EnterNetns { source, .. })
            if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ESRCH)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn default_route(gateway: IpAddr, link: u32) -> RouteMessage {
    match gateway {
        IpAddr::V4(gateway) => {
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(link).build()
        }
        IpAddr::V6(gateway) => {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(link).build()
        }
    }
}

/// The kernel's number of the calling thread's namespace, never used twice; 0
/// where it tells none (before Linux 5.14).
pub fn cookie() -> u64 {
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    any.and_then(|socket| sys::netns_cookie(socket.as_fd())).unwrap_or(0)
}

/// The file of the calling process's own namespace, for processes that come
/// to it from elsewhere.
pub fn own() -> PathBuf {
    format!("/proc/{}/ns/net", std::process::id()).into()
}
