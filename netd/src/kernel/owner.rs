//! Who holds a port: the kernel's socket tables, then every process's
//! descriptors. Slow; only asked after a bind was refused.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::model::Protocol;

/// The owner of a socket on `address`:`port`, as a hint has it. `None`: it has
/// no process that we may see, or the socket is not in the tables (one that
/// is bound to a TCP port and doesn't listen is in none).
pub(super) fn hint(address: IpAddr, port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    // `thread-self`: the table is that of the caller's namespace.
    let inode = tables
        .into_iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .find_map(|table| find(&table, address, port))?;
    let (pid, name) = process(inode)?;
    Some(format!("by process `{name}` (pid {pid})"))
}

/// The inode of the socket in `table` that is in the way of `address`:`port`;
/// one that listens before one that is connected.
fn find(table: &str, address: IpAddr, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut sockets: Vec<(&str, u64)> = table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let (local, local_port) = words.get(1)?.split_once(':')?;
            let local = parse_address(local)?;
            let meets = local.is_unspecified() || address.is_unspecified() || local == address;
            let same_port = u16::from_str_radix(local_port, 16).ok()? == port;
            let inode = words.get(9)?.parse().ok()?;
            (meets && same_port && inode != 0).then_some((*words.get(3)?, inode))
        })
        .collect();
    sockets.sort_by_key(|(state, _)| *state != LISTEN);
    sockets.first().map(|(_, inode)| *inode)
}

/// The kernel prints addresses as 32-bit words in the host's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    let bytes = |at: usize| word(at).map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(bytes(0)?).into());
    }
    let mut address = [0; 16];
    for (n, part) in address.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&bytes(n * 8)?);
    }
    Some(Ipv6Addr::from(address).to_canonical())
}

fn process(inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*socket));
        let name = || fs::read_to_string(entry.path().join("comm")).ok();
        holds.then(name)?.map(|name| (pid, name.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_listener_in_the_way_is_found() {
        let any = Ipv4Addr::UNSPECIFIED.into();
        let local = Ipv4Addr::LOCALHOST.into();
        let other = Ipv4Addr::new(10, 0, 0, 1).into();
        assert_eq!(find(TABLE, any, 8080), Some(22));
        assert_eq!(find(TABLE, local, 8080), Some(22));
        assert_eq!(find(TABLE, other, 8080), None);
        assert_eq!(find(TABLE, other, 22), Some(33));
        assert_eq!(find(TABLE, any, 23), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn mapped_addresses_are_those_they_map() {
        assert_eq!(
            parse_address("0000000000000000FFFF00000100007F"),
            Some(Ipv4Addr::LOCALHOST.into())
        );
        assert_eq!(
            parse_address("00000000000000000000000001000000"),
            Some(Ipv6Addr::LOCALHOST.into())
        );
        assert_eq!(parse_address("xx"), None);
    }
}
