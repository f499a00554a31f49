//! netd's own links: how they are named and how they are recognised. Pure; no
//! other module makes or recognises such a name.
//!
//! A link is netd's own when it carries netd's alias. The alias can't be set
//! in the request that creates a link, so an agent that is killed in between
//! leaves one without it: for exactly the operation that would have created
//! it, the hardware address netd made for it is proof enough.

use std::net::Ipv4Addr;

use crate::model::{Id, IfName, Mac};

const ALIAS: &str = "netd ";
/// Gateways: the datapath takes a frame to this prefix as one to be routed.
const BRIDGE_PREFIX: [u8; 3] = [0x02, 0x6e, 0x64];
const HOST_VETH_PREFIX: [u8; 3] = [0x02, 0x6e, 0x65];

/// The host's side of an endpoint's veth pair.
pub fn host_veth(endpoint: &Id) -> IfName {
    made("nd", &endpoint.as_str()[..10])
}

/// The container's side, for as long as it is in the host's namespace.
pub fn peer_veth(endpoint: &Id) -> IfName {
    made("nc", &endpoint.as_str()[..10])
}

/// A network's bridge, unless an option names it.
pub fn bridge(network: &Id) -> IfName {
    made("br-", network.short())
}

/// What a bridge and the gateways of its network answer ARP with.
pub fn bridge_mac(network: &Id) -> Mac {
    prefixed(BRIDGE_PREFIX, network)
}

/// The host side's own address: never seen by a container, only proof of who
/// made the link.
pub fn host_veth_mac(endpoint: &Id) -> Mac {
    prefixed(HOST_VETH_PREFIX, endpoint)
}

/// Follows from the address, so that a neighbour's cache stays true when an
/// address goes to another container.
pub fn container_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([0x02, 0x42, a, b, c, d])
}

/// The alias of an endpoint's veth pair, both sides.
pub fn veth_alias(endpoint: &Id) -> String {
    format!("{ALIAS}{endpoint}")
}

/// The alias of a bridge: what its hardware address has of the network's id.
pub fn bridge_alias(mac: Mac) -> String {
    let [.., a, b, c] = mac.0;
    format!("{ALIAS}{a:02x}{b:02x}{c:02x}")
}

/// The near end's own address of the pair that joins an annex to its network.
pub fn trunk_mac(annex: Mac) -> Mac {
    let [a, b, _, c, d, e] = annex.0;
    Mac([a, b, 0x67, c, d, e])
}

/// The alias of that pair, both ends.
pub fn annex_alias(annex: Mac) -> String {
    let [.., a, b, c] = annex.0;
    format!("{ALIAS}annex {a:02x}{b:02x}{c:02x}")
}

/// Whether a link with this hardware address is a bridge that netd made: only
/// to show it, what is changed is recognised by its alias.
pub fn is_bridge_mac(mac: [u8; 6]) -> bool {
    mac.starts_with(&BRIDGE_PREFIX)
}

/// Whether a link with this alias is netd's own.
pub fn is_own(alias: Option<&str>) -> bool {
    alias.is_some_and(|alias| alias.starts_with(ALIAS))
}

fn made(prefix: &str, rest: &str) -> IfName {
    IfName::try_from(format!("{prefix}{rest}"))
        .unwrap_or_else(|_| unreachable!("hex digits of an id are valid in a name"))
}

fn prefixed(prefix: [u8; 3], id: &Id) -> Mac {
    let byte = |at: usize| {
        u8::from_str_radix(&id.as_str()[at..at + 2], 16)
            .unwrap_or_else(|_| unreachable!("an id is 64 hex digits"))
    };
    let [a, b, c] = prefix;
    Mac([a, b, c, byte(0), byte(2), byte(4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Id {
        Id::from_bytes([0xab; 32])
    }

    #[test]
    fn names_fit_the_kernel_and_tell_the_id() {
        assert_eq!(host_veth(&id()).as_str(), "ndababababab");
        assert_eq!(peer_veth(&id()).as_str(), "ncababababab");
        assert_eq!(bridge(&id()).as_str(), "br-abababababab");
    }

    #[test]
    fn hardware_addresses_follow_from_ids_and_addresses() {
        assert_eq!(bridge_mac(&id()).to_string(), "02:6e:64:ab:ab:ab");
        assert!(is_bridge_mac(bridge_mac(&id()).0));
        assert!(!is_bridge_mac(host_veth_mac(&id()).0));
        assert_eq!(container_mac(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn only_the_alias_makes_a_link_ones_own() {
        assert!(is_own(Some(&veth_alias(&id()))));
        assert!(is_own(Some(&bridge_alias(bridge_mac(&id())))));
        for alias in [None, Some(""), Some("netd"), Some("netdata 1"), Some("docker")] {
            assert!(!is_own(alias), "{alias:?}");
        }
    }
}
