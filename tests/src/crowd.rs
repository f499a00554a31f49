//! Flows in great number on which nobody speaks: written into the tables as
//! the datapath would have, in both directions.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData};
use netd_common::{
    abi::{Address, Be16, Flow, FlowKey, Zone, names, wire::PROTO_TCP},
    conntrack::State,
};
use nix::time::{ClockId, clock_gettime};

/// A table of flows, by its pin.
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Crowd {
    table: HashMap<MapData, FlowKey, Flow>,
}

const HOST: Address = Address::v4([192, 0, 2, 1]);
const CONTAINER: Address = Address::v4([172, 31, 255, 254]);
const PER_CLIENT: u32 = 50_000;

/// Both directions of the `n`th connection to a published port.
pub fn pair(n: u32, last_seen: u32) -> [(FlowKey, Flow); 2] {
    let [_, b, c, d] = (n / PER_CLIENT).to_be_bytes();
    let client = Address::v4([100, 64 + b, c, d]);
    let port = u16::try_from(n % PER_CLIENT).expect("less than 2^16") + 1024;
    let (port, published, inner) =
        (Be16::from_host(port), Be16::from_host(8443), Be16::from_host(443));
    let key = |src, sport, dst, dport, zone| FlowKey {
        src,
        dst,
        sport,
        dport,
        proto: PROTO_TCP,
        zone: zone as u8,
        pad: 0,
    };
    let state = State::Established as u8;
    let original = Flow {
        addr: CONTAINER,
        sport: port,
        dport: inner,
        flags: Flow::ORIGINAL | Flow::REWRITE_DST | Flow::LOCAL,
        out_ifindex: u32::MAX,
        state,
        last_seen,
        ..Flow::default()
    };
    let reply = Flow {
        addr: HOST,
        sport: published,
        dport: port,
        flags: Flow::REWRITE_SRC,
        in_ifindex: u32::MAX,
        state,
        last_seen,
        ..Flow::default()
    };
    [
        (key(client, port, HOST, published, Zone::Uplink), original),
        (key(CONTAINER, inner, client, port, Zone::Container), reply),
    ]
}

/// Seconds of `CLOCK_MONOTONIC`.
pub fn now() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    u32::try_from(time.tv_sec()).expect("less than a century")
}

impl Crowd {
    /// `pins`: the directory of an agent's maps.
    pub fn of(pins: &Path) -> Self {
        let data = MapData::from_pin(pins.join(names::FLOWS)).expect("FLOWS is pinned");
        let table = HashMap::try_from(Map::HashMap(data)).expect("FLOWS is a hash");
        Self { table }
    }

    /// Puts in so many flows, two entries each.
    pub fn put(&mut self, flows: u32) {
        let now = now();
        for (key, flow) in (0..flows).flat_map(|n| pair(n, now)) {
            self.table.insert(key, flow, 0).expect("there is room");
        }
    }

    pub fn remove(&mut self, flows: u32) {
        for (key, _) in (0..flows).flat_map(|n| pair(n, 0)) {
            self.table.remove(&key).expect("it is still there");
        }
    }

    /// How many of the first so many flows are whole.
    pub fn left(&self, flows: u32) -> u32 {
        let is_there = |n: &u32| pair(*n, 0).iter().all(|(key, _)| self.table.get(key, 0).is_ok());
        u32::try_from((0..flows).filter(is_there).count()).expect("at most `flows`")
    }
}
