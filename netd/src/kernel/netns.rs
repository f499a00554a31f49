//! Network namespaces: made, entered, furnished, removed. A namespace is a
//! file that nsfs is bound on; the file's path is all that others know of it.
//!
//! A thread goes to a namespace and comes back before it does anything else:
//! what it does there waits for nobody. What it opened there stays there.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use ipnetwork::IpNetwork;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use rtnetlink::{RouteMessageBuilder, packet_route::route::RouteMessage};

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
    let netlink = Visit::to_new().and_then(|_back| {
        bind(path)?;
        sysctl::enable_loopback_ipv6().map_err(io::Error::other)?;
        Netlink::open().map_err(io::Error::other)
    });
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

/// Runs `work` in the namespace of `path`, on the calling thread: not on a
/// process's first, by which others find the process's own ([`own`]).
pub fn run_in<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, Error> {
    let visit =
        Visit::to(path).map_err(|source| Error::EnterNetns { path: path.to_owned(), source })?;
    let result = work();
    drop(visit);
    Ok(result)
}

/// The calling thread is in another namespace; dropped, it is back in the one
/// that it came from.
struct Visit {
    home: File,
}

impl Visit {
    fn to(path: &Path) -> io::Result<Self> {
        let namespace = File::open(path)?;
        let visit = Self::begin()?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(visit)
    }

    /// To one that nobody has seen yet.
    fn to_new() -> io::Result<Self> {
        let visit = Self::begin()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(visit)
    }

    fn begin() -> io::Result<Self> {
        Ok(Self { home: File::open("/proc/thread-self/ns/net")? })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.home, CloneFlags::CLONE_NEWNET) {
            // It would go on to do to a container what is meant for the host.
            tracing::error!("a thread did not come back from a network namespace: {error}");
            process::abort();
        }
    }
}

impl Interface<'_> {
    /// Addresses the container's side of a veth pair, brings it up and
    /// announces it. Gives the index of the host's side.
    pub async fn create(&self) -> Result<Option<u32>, Error> {
        let inside = self.prepare()?;
        let result = self.configure(&inside).await;
        inside.close().await;
        result
    }

    /// What must be so before the link comes up, and a socket inside.
    fn prepare(&self) -> Result<Netlink, Error> {
        run_in(self.netns, || {
            if nix::net::if_::if_nametoindex(self.name.as_str()).is_err() {
                return Err(Error::NoLink(self.name.clone()));
            }
            sysctl::enable_arp_notify(self.name)?;
            if link::set_ipv6(self.name, self.addresses)? == link::Ipv6::On {
                sysctl::enable_ndisc_notify(self.name)?;
            }
            Netlink::open()
        })?
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
        let Some(inside) = open_if_there(self.netns)? else { return Ok(()) };
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
    let Some(inside) = open_if_there(netns)? else { return Ok(()) };
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
fn open_if_there(path: &Path) -> Result<Option<Netlink>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    match run_in(path, Netlink::open) {
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

/// The file of the calling process's own namespace, which is its first
/// thread's: for processes that come to it from elsewhere.
pub fn own() -> PathBuf {
    format!("/proc/{}/ns/net", std::process::id()).into()
}
