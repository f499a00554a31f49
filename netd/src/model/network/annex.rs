//! Annexes: further bridges of a network, for the endpoints that its own
//! bridge has no port for. The kernel gives a bridge 1,023 ports
//! (`BR_MAX_PORTS`, `net/bridge/br_private.h`); each annex takes one of them, by
//! a pair of links, so that the network stays one Ethernet: broadcasts,
//! multicast, ARP and neighbour discovery, duplicate address detection too, go
//! as they do on one bridge. What containers send each other by IP crosses no
//! bridge at all.

use super::Network;
use crate::model::{IfName, Mac};

/// Endpoints on each bridge, unless an option says fewer: the rest of the
/// 1,023 is for annexes, and for devices that others put there.
pub const MOST_ENDPOINTS: u16 = 1000;
/// Annexes of a network: as many as the rest has room for.
pub const MOST_ANNEXES: u8 = 16;

/// A further bridge, and the pair of links by which it is a part of the
/// network's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annex {
    pub bridge: IfName,
    pub mac: Mac,
    /// In the network's bridge.
    pub near: IfName,
    /// In the annex.
    pub far: IfName,
}

impl Network {
    /// Endpoints that each of its bridges takes.
    pub fn bridge_ports(&self) -> u16 {
        let given = self.options.get(super::options::BRIDGE_PORTS);
        given.and_then(|ports| ports.parse().ok()).unwrap_or(MOST_ENDPOINTS)
    }

    /// The annex of this number; 0 is none, for the network's own bridge.
    pub fn annex(&self, number: u8) -> Option<Annex> {
        if number == 0 {
            return None;
        }
        let name = |prefix| IfName::from_id(prefix, &self.id, 8).numbered(number);
        let [a, b, _, _] = self.id.seed().to_be_bytes();
        Some(Annex {
            bridge: name("nx"),
            // Not a gateway's prefix, which the datapath knows.
            mac: Mac([0x02, 0x6e, 0x66, a, b, number]),
            near: name("nt"),
            far: name("nu"),
        })
    }

    /// The bridge of endpoints that are in this annex, or in none.
    pub fn bridge_of(&self, number: u8) -> IfName {
        self.annex(number).map_or_else(|| self.bridge.clone(), |annex| annex.bridge)
    }
}
