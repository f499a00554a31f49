//! The sysctls of links, and the ports that the host keeps for itself. Never
//! a knob that concerns more than one link: a host must not become a router
//! because it runs containers.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens it,
//! so these calls are not to be handed to another thread. To find a file there
//! takes the kernel the longer the more namespaces there are (one chain of its
//! hash has the files of all that are named alike): each is opened once.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    ops::RangeInclusive,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::Error;
use crate::model::IfName;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Of the calling thread's namespace, as the sysctls are.
const IPV6_ROUTES: &str = "/proc/thread-self/net/ipv6_route";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Lets IPv4 packets that come in over this link be forwarded.
pub fn enable_forwarding(link: &IfName) -> Result<(), Error> {
    write(&conf("ipv4", link, "forwarding"), "1")
}

/// Whether IPv4 packets that come in over this link are forwarded; of a link
/// that has just gone or got another name, that is not said.
pub fn forwards(link: &IfName) -> bool {
    is_unless_gone(&conf("ipv4", link, "forwarding"))
}

/// As [`forwards`], of IPv6.
pub fn forwards6(link: &IfName) -> bool {
    ["forwarding", "force_forwarding"].iter().all(|key| is_unless_gone(&conf("ipv6", link, key)))
}

fn is_unless_gone(key: &Path) -> bool {
    match now(key) {
        Ok(now) => now.trim() == "1",
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Announces the link's addresses when it comes up (gratuitous ARP).
pub fn enable_arp_notify(link: &IfName) -> Result<(), Error> {
    write(&conf("ipv4", link, "arp_notify"), "1")
}

/// Switches IPv6 off on a link; on a host without IPv6, or with an MTU that
/// is too small for it, it is off already.
pub fn disable_ipv6(link: &IfName) -> Result<(), Error> {
    write_if_there(&conf("ipv6", link, "disable_ipv6"), "1")
}

/// Switches IPv6 on, whatever `net.ipv6.conf.default` says of new links. The
/// link has its link-local address as soon as it is up, the one that is made
/// of its MAC, and listens to no router.
pub fn enable_ipv6(link: &IfName) -> Result<(), Error> {
    let wanted =
        [("accept_ra", "0"), ("accept_dad", "0"), ("addr_gen_mode", "0"), ("disable_ipv6", "0")];
    wanted.iter().try_for_each(|(key, value)| write(&conf("ipv6", link, key), value))
}

/// Gives the loopback its `::1`, where `net.ipv6.conf.default` has IPv6 off
/// and the host has it at all.
pub fn enable_loopback_ipv6() -> Result<(), Error> {
    write_if_there(Path::new("/proc/sys/net/ipv6/conf/lo/disable_ipv6"), "0")
}

/// Lets IPv6 packets that come in over this link be forwarded.
///
/// When it is switched on, the kernel forgets the routes that *any* link has
/// learnt from a router, the host's default route among them
/// (`addrconf_fixup_forwarding`, net/ipv6/addrconf.c), except those of links
/// whose `accept_ra` is 2. On a link that doesn't forward, 2 means what 1
/// does: links that are at 1, and have such a route, are at 2 for that moment.
pub fn enable_forwarding6(link: &IfName) -> Result<(), Error> {
    let key = conf("ipv6", link, "forwarding");
    if !is(&key, "1") {
        let listening = listening_to_routers(link)?;
        let set = |value| listening.iter().try_for_each(|key| write(key, value));
        let done = set("2").and_then(|()| write(&key, "1"));
        set("1").and(done)?;
    }
    // Since Linux 6.17. Before, only `conf.all` counts in the stack; the
    // datapath's route look-ups ask the link alone.
    write_if_there(&conf("ipv6", link, "force_forwarding"), "1")
}

/// `accept_ra` of every other link where it is 1 and a router was heard.
fn listening_to_routers(besides: &IfName) -> Result<Vec<PathBuf>, Error> {
    const LINKS: &str = "/proc/sys/net/ipv6/conf";
    let routes = read(IPV6_ROUTES)?;
    let taught = taught_by_routers(&routes);
    let failed = |source| Error::Read { path: LINKS.into(), source };
    let mut keys = vec![];
    for entry in fs::read_dir(LINKS).map_err(failed)? {
        let link = entry.map_err(failed)?.file_name();
        let heard = link.to_str().is_some_and(|link| taught.contains(link));
        let key = Path::new(LINKS).join(&link).join("accept_ra");
        if heard && link != besides.as_str() && is(&key, "1") {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The links of routes that a router advertised, in a table as `/proc` has it:
/// the flags and the link are its last columns (`rt6_info_route`,
/// net/ipv6/route.c).
fn taught_by_routers(table: &str) -> BTreeSet<&str> {
    /// `RTF_DEFAULT | RTF_ADDRCONF` (`include/uapi/linux/ipv6_route.h`).
    const ADVERTISED: u32 = 0x0001_0000 | 0x0004_0000;
    let mut links = BTreeSet::new();
    for line in table.lines() {
        let mut words = line.split_whitespace().rev();
        let (Some(link), Some(flags)) = (words.next(), words.next()) else { continue };
        if u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & ADVERTISED != 0) {
            links.insert(link);
        }
    }
    links
}

/// Announces the link's IPv6 addresses when it comes up (unsolicited
/// neighbour advertisements), so that no one keeps the MAC of an earlier owner.
pub fn enable_ndisc_notify(link: &IfName) -> Result<(), Error> {
    write(&conf("ipv6", link, "ndisc_notify"), "1")
}

/// The ports that the kernel gives to sockets that name none, and those that it
/// gives to nobody who doesn't name them: as they are at the time of asking, of
/// the namespace that this was opened in.
#[derive(Debug)]
pub struct LocalPorts {
    range: File,
    reserved: File,
}

impl LocalPorts {
    pub fn open() -> Result<Self, Error> {
        let open = |path: &'static str| File::open(path).map_err(unreadable(path));
        Ok(Self { range: open(PORT_RANGE)?, reserved: open(RESERVED_PORTS)? })
    }

    /// The first and the last.
    pub fn ephemeral(&self) -> Result<(u16, u16), Error> {
        let text = text(&self.range).map_err(unreadable(PORT_RANGE))?;
        parse_pair(&text).ok_or_else(|| Error::Parse { path: PORT_RANGE.into(), text })
    }

    pub fn reserved(&self) -> Result<Vec<RangeInclusive<u16>>, Error> {
        let text = text(&self.reserved).map_err(unreadable(RESERVED_PORTS))?;
        parse_ranges(&text).ok_or_else(|| Error::Parse { path: RESERVED_PORTS.into(), text })
    }
}

/// The id of the host's current boot.
pub fn boot_id() -> Result<String, Error> {
    read("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

// By path, for a link's name may have dots, which dotted keys mean as slashes.
fn conf(family: &str, link: &IfName, key: &str) -> PathBuf {
    format!("/proc/sys/net/{family}/conf/{link}/{key}").into()
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    set(path, value).map_err(|source| Error::Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// As [`write`], if the kernel has such a knob.
fn write_if_there(path: &Path, value: &str) -> Result<(), Error> {
    match write(path, value) {
        Err(Error::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Reading first spares the write where nothing changes, and lets a read-only
/// `/proc/sys` do that says what we want already.
fn set(path: &Path, value: &str) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(_) if is(path, value) => return Ok(()),
        opened => opened?,
    };
    if text(&file)?.trim() == value {
        return Ok(());
    }
    file.write_all_at(value.as_bytes(), 0)
}

fn is(path: &Path, value: &str) -> bool {
    now(path).is_ok_and(|now| now.trim() == value)
}

fn now(path: &Path) -> io::Result<String> {
    text(&File::open(path)?)
}

/// What a sysctl says now. The kernel tells all of it in one read and nothing
/// to one that goes on (`proc_do_large_bitmap`, kernel/sysctl.c).
fn text(file: &File) -> io::Result<String> {
    let mut buffer = vec![0; 256];
    loop {
        let length = file.read_at(&mut buffer, 0)?;
        if length < buffer.len() {
            buffer.truncate(length);
            return String::from_utf8(buffer).map_err(io::Error::other);
        }
        buffer.resize(buffer.len() * 8, 0);
    }
}

fn read(path: &'static str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(unreadable(path))
}

fn unreadable(path: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read { path: path.into(), source }
}

fn parse_pair(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next()?, words.next()?, words.next()) {
        (Ok(first), Ok(last), None) => Some((first, last)),
        _ => None,
    }
}

fn parse_ranges(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    text.trim()
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_pair("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(parse_pair("32768"), None);
        assert_eq!(parse_ranges("\n"), Some(vec![]));
        assert_eq!(parse_ranges("8080,9000-9010\n"), Some(vec![8080..=8080, 9000..=9010]));
        assert_eq!(parse_ranges("x"), None);
    }

    #[test]
    fn only_links_that_a_router_was_heard_on_have_learnt_routes() {
        let zero = "0".repeat(32);
        let line = |flags: &str, link: &str| {
            format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 {flags}     {link}\n")
        };
        let table =
            line("00450003", "eth0") + &line("00000001", "eth1") + &line("00040001", "eth2");
        assert_eq!(Vec::from_iter(taught_by_routers(&table)), ["eth0", "eth2"]);
        assert!(taught_by_routers("").is_empty());
    }

    #[test]
    fn a_dot_in_a_link_name_stays_in_the_name() {
        let link = "eth0.100".parse().unwrap();
        assert_eq!(
            conf("ipv4", &link, "forwarding"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.100/forwarding")
        );
    }
}
