//! Published ports: which one is asked for, and who may have it. One meaning
//! for every way in: from outside (XDP, TC), from a container, from a process
//! of the host's.

use crate::{
    abi::{Address, Be16, Family, PortKey, PortTarget},
    tables::Tables,
    verdict::DropReason,
};

/// The published port at `addr` and `port`, if any, and its key in `PORTS`:
/// for packets, which have no business at a loopback address.
#[inline(always)]
pub fn find<T: Tables>(
    tables: &T,
    proto: u8,
    addr: &Address,
    port: Be16,
) -> Option<(PortKey, PortTarget)> {
    if addr.is_loopback() {
        return None;
    }
    find_locally(tables, proto, addr, port)
}

/// As [`find`], for a process of the host's: the loopback addresses are the
/// host's, too.
#[inline(always)]
pub fn find_locally<T: Tables>(
    tables: &T,
    proto: u8,
    addr: &Address,
    port: Be16,
) -> Option<(PortKey, PortTarget)> {
    // Most ask for none, which a bit tells.
    if !tables.is_reserved_port(port.to_host()) {
        return None;
    }
    let [exact, any] = keys(proto, addr, port);
    if let Some(target) = tables.port(&exact) {
        return Some((exact, target));
    }
    let target = tables.port(&any)?;
    (addr.is_loopback() || tables.is_host_address(addr)).then_some((any, target))
}

/// Where `PORTS` may have the port at `addr`: under the address itself, or
/// under any address of its family.
#[inline(always)]
pub const fn keys(proto: u8, addr: &Address, port: Be16) -> [PortKey; 2] {
    let any = match addr.family() {
        Family::V4 => Address::ANY,
        Family::V6 => Address::ANY6,
    };
    [PortKey { addr: *addr, port, proto, pad: 0 }, PortKey { addr: any, port, proto, pad: 0 }]
}

/// Where it may have a port of IPv4 that a process of the host's asks for by
/// `::1`, the first that `localhost` stands for.
#[inline(always)]
pub const fn by_loopback6(proto: u8, port: Be16) -> PortKey {
    PortKey { addr: Address::ANY, port, proto, pad: 0 }
}

/// Whether the port's allow-list has `source`.
#[inline(always)]
pub fn admits<T: Tables>(tables: &T, target: &PortTarget, source: &Address) -> bool {
    target.allow == 0 || tables.is_allowed(target.allow, source)
}

/// Counts a SYN; refuses it when the port has had more than its rate in this
/// second. `now` in seconds.
#[inline(always)]
pub fn count_syn<T: Tables>(
    tables: &mut T,
    key: &PortKey,
    target: &PortTarget,
    now: u32,
) -> Result<(), DropReason> {
    if target.syn_rate == 0 {
        return Ok(());
    }
    let Some(rate) = tables.syn_rate(key) else { return Ok(()) };
    if rate.second != now {
        (rate.second, rate.count) = (now, 0);
    }
    rate.count += 1;
    if rate.count > target.syn_rate { Err(DropReason::SynRate) } else { Ok(()) }
}
