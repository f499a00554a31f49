//! The sysctls of links, and the ports that the host keeps for itself. Never
//! a knob that concerns more than one link: a host must not become a router
//! because it runs containers.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens it,
//! so these calls are not to be handed to another thread.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::Error;
use crate::model::IfName;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Lets IPv4 packets that come in over this link be forwarded.
pub fn enable_forwarding(link: &IfName) -> Result<(), Error> {
    write(&conf("ipv4", link, "forwarding"), "1")
}

/// Announces the link's addresses when it comes up (gratuitous ARP).
pub fn enable_arp_notify(link: &IfName) -> Result<(), Error> {
    write(&conf("ipv4", link, "arp_notify"), "1")
}

/// Switches IPv6 off on a link; on a host without IPv6 it is off already.
pub fn disable_ipv6(link: &IfName) -> Result<(), Error> {
    set_ipv6(link, "1")
}

/// Switches IPv6 on, where `net.ipv6.conf.default.disable_ipv6` has it off.
pub fn enable_ipv6(link: &IfName) -> Result<(), Error> {
    set_ipv6(link, "0")
}

fn set_ipv6(link: &IfName, disabled: &str) -> Result<(), Error> {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    write(&conf("ipv6", link, "disable_ipv6"), disabled)
}

/// The ports that the kernel gives to sockets that name none.
pub fn ephemeral_ports() -> Result<(u16, u16), Error> {
    let text = read(PORT_RANGE)?;
    parse_pair(&text).ok_or_else(|| Error::Parse { path: PORT_RANGE.into(), text })
}

/// The ports that the kernel gives to nobody who doesn't name them.
pub fn reserved_ports() -> Result<Vec<RangeInclusive<u16>>, Error> {
    let text = read(RESERVED_PORTS)?;
    parse_ranges(&text).ok_or_else(|| Error::Parse { path: RESERVED_PORTS.into(), text })
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
    // Reading first spares the write where nothing changes, and lets a
    // read-only /proc/sys do that says what we want already.
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(|source| Error::Sysctl {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source: io::Error| Error::Read { path: path.into(), source })
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
    fn a_dot_in_a_link_name_stays_in_the_name() {
        let link = "eth0.100".parse().unwrap();
        assert_eq!(
            conf("ipv4", &link, "forwarding"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.100/forwarding")
        );
    }
}
