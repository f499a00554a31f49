//! The maps that the agent writes and the datapath reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, lpm_trie::Key},
};
use ipnetwork::IpNetwork;
use netd_common::{
    abi::{
        self, ABI_VERSION, Address, Config, Counter, Endpoint, EventSlot, Family, Link, Network,
        NetworkKey, PortKey, PortTarget, TrustedKey, Uplink, names,
        stats::{HOOKS, OUTCOMES},
        wire::PROTO_UDP,
    },
    verdict::{DropReason, Hook, Verdict, outcome_name},
};

use super::Error;
use crate::model::Mac;

/// What the datapath is told of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkFacts {
    pub ifindex: u32,
    /// Sources of masqueraded packets where the route names none.
    pub address4: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Addr>,
    /// [`Uplink::FIXED_SOURCE6`].
    pub fixed_source6: bool,
    pub mac: Option<Mac>,
    /// Its packets go through the XDP program.
    pub xdp: bool,
    /// Another's containers or virtual machines are behind it.
    pub guests: bool,
}

/// What the datapath is told of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    pub addresses: BTreeSet<IpAddr>,
    pub uplinks: Vec<UplinkFacts>,
    /// The host's `ip_local_port_range`.
    pub ephemeral: (u16, u16),
    pub fib_source: bool,
    /// Cookie of the agent's network namespace; 0 where the kernel tells none.
    pub netns_cookie: u64,
}

/// Whether programs tell of their drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    On,
    Off,
}

pub struct Tables {
    endpoints: HashMap<MapData, Address, Endpoint>,
    links: HashMap<MapData, u32, Link>,
    networks: HashMap<MapData, NetworkKey, Network>,
    trusted: HashMap<MapData, TrustedKey, u32>,
    subnets: LpmTrie<MapData, Address, u32>,
    ports: HashMap<MapData, PortKey, PortTarget>,
    host_addresses: HashMap<MapData, Address, u32>,
    uplinks: HashMap<MapData, u32, Uplink>,
    reserved_ports: Array<MapData, u64>,
    /// The mappings by which each port is reserved.
    published: BTreeMap<u16, BTreeSet<PortKey>>,
    /// UDP ports that have an allow-list.
    listed: BTreeSet<PortKey>,
    stats: PerCpuArray<MapData, Counter>,
    config: Array<MapData, Config>,
    event_slots: PerCpuArray<MapData, EventSlot>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

pub(super) fn failed(name: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { name, source: Box::new(source) }
}

/// A failed look-up or removal of what is not there is no failure.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}

pub(super) fn take<T: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, Error> {
    ebpf.take_map(name).ok_or(Error::Missing(name))?.try_into().map_err(failed(name))
}

impl Tables {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let mut tables = Self {
            endpoints: take(ebpf, names::ENDPOINTS)?,
            links: take(ebpf, names::LINKS)?,
            networks: take(ebpf, names::NETWORKS)?,
            trusted: take(ebpf, names::TRUSTED)?,
            subnets: take(ebpf, names::SUBNETS)?,
            ports: take(ebpf, names::PORTS)?,
            host_addresses: take(ebpf, names::HOST_ADDRS)?,
            uplinks: take(ebpf, names::UPLINKS)?,
            reserved_ports: take(ebpf, names::RESERVED_PORTS)?,
            published: BTreeMap::new(),
            listed: BTreeSet::new(),
            stats: take(ebpf, names::STATS)?,
            config: take(ebpf, names::CONFIG)?,
            event_slots: take(ebpf, names::EVENT_SLOTS)?,
        };
        // Whoever listened was an earlier agent's.
        tables.tell_events(Telling::Off)?;
        Ok(tables)
    }

    /// The endpoint by each of its addresses, and its host side as a link of
    /// the network.
    pub fn put_endpoint(&mut self, addresses: &[IpAddr], endpoint: Endpoint) -> Result<(), Error> {
        let ipv6 = addresses.iter().any(IpAddr::is_ipv6);
        let link = Link { network: endpoint.network, flags: if ipv6 { Link::IPV6 } else { 0 } };
        self.links.insert(endpoint.ifindex, link, 0).map_err(failed(names::LINKS))?;
        for address in addresses {
            let key = Address::from(*address);
            let last_seen = match self.endpoints.get(&key, 0) {
                Ok(old) if old.ifindex == endpoint.ifindex => old.last_seen,
                Ok(old) => {
                    gone(self.links.remove(&old.ifindex)).map_err(failed(names::LINKS))?;
                    0
                }
                Err(_) => 0,
            };
            let endpoint = Endpoint { last_seen, ..endpoint };
            self.endpoints.insert(key, endpoint, 0).map_err(failed(names::ENDPOINTS))?;
        }
        Ok(())
    }

    /// Gives the links that the endpoint was behind.
    pub fn remove_endpoint(&mut self, addresses: &[IpAddr]) -> Result<BTreeSet<u32>, Error> {
        let mut links = BTreeSet::new();
        for address in addresses {
            let key = Address::from(*address);
            if let Ok(endpoint) = self.endpoints.get(&key, 0) {
                gone(self.links.remove(&endpoint.ifindex)).map_err(failed(names::LINKS))?;
                links.insert(endpoint.ifindex);
            }
            gone(self.endpoints.remove(&key)).map_err(failed(names::ENDPOINTS))?;
        }
        Ok(links)
    }

    /// Whether an endpoint is behind a link.
    pub fn has_link(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex, 0).is_ok()
    }

    /// The bridge's index, of one family of a network.
    pub fn bridge(&self, index: u32, family: Family) -> Option<u32> {
        let network = self.networks.get(&NetworkKey::new(index, family), 0).ok()?;
        Some(network.bridge_ifindex)
    }

    pub fn endpoint(&self, address: IpAddr) -> Option<Endpoint> {
        self.endpoints.get(&address.into(), 0).ok()
    }

    /// One family of a network, that of `subnet`.
    pub fn put_network(
        &mut self,
        index: u32,
        network: Network,
        subnet: IpNetwork,
    ) -> Result<(), Error> {
        let key = NetworkKey::new(index, family(subnet));
        self.networks.insert(key, network, 0).map_err(failed(names::NETWORKS))?;
        self.subnets.insert(&prefix(subnet), index, 0).map_err(failed(names::SUBNETS))
    }

    pub fn remove_network(&mut self, index: u32, subnet: IpNetwork) -> Result<(), Error> {
        gone(self.subnets.remove(&prefix(subnet))).map_err(failed(names::SUBNETS))?;
        let key = NetworkKey::new(index, family(subnet));
        gone(self.networks.remove(&key)).map_err(failed(names::NETWORKS))
    }

    pub fn put_port(&mut self, key: PortKey, target: PortTarget) -> Result<(), Error> {
        let port = key.port.to_host();
        let mappings = self.published.entry(port).or_default();
        let first = mappings.is_empty();
        mappings.insert(key);
        if first {
            self.reserve(port, true)?;
        }
        self.write_port(key, target)
    }

    /// Gives a port another allow-list, in one write; one that is not there
    /// gets none.
    pub fn set_allow(&mut self, key: &PortKey, allow: u32) -> Result<(), Error> {
        match self.ports.get(key, 0) {
            Ok(target) => self.write_port(*key, PortTarget { allow, ..target }),
            Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(failed(names::PORTS)(error)),
        }
    }

    fn write_port(&mut self, key: PortKey, target: PortTarget) -> Result<(), Error> {
        let listed = target.allow != 0 && key.proto == PROTO_UDP;
        if listed {
            self.listed.insert(key);
            self.set_feature(Config::UDP_LISTED, true)?;
        }
        self.ports.insert(key, target, 0).map_err(failed(names::PORTS))?;
        if !listed && self.listed.remove(&key) {
            self.set_feature(Config::UDP_LISTED, !self.listed.is_empty())?;
        }
        Ok(())
    }

    /// Sets or clears a bit of [`Config::features`].
    fn set_feature(&mut self, feature: u32, on: bool) -> Result<(), Error> {
        let mut config = self.config.get(&0, 0).map_err(failed(names::CONFIG))?;
        let features = if on { config.features | feature } else { config.features & !feature };
        if config.features != features {
            config.features = features;
            self.config.set(0, config, 0).map_err(failed(names::CONFIG))?;
        }
        Ok(())
    }

    pub fn port(&self, key: &PortKey) -> Option<PortTarget> {
        self.ports.get(key, 0).ok()
    }

    pub fn remove_port(&mut self, key: &PortKey) -> Result<(), Error> {
        gone(self.ports.remove(key)).map_err(failed(names::PORTS))?;
        if self.listed.remove(key) {
            self.set_feature(Config::UDP_LISTED, !self.listed.is_empty())?;
        }
        let port = key.port.to_host();
        let mappings = self.published.entry(port).or_default();
        mappings.remove(key);
        if mappings.is_empty() {
            self.published.remove(&port);
            self.reserve(port, false)?;
        }
        Ok(())
    }

    /// Keeps SNAT off a port, or gives it back.
    fn reserve(&mut self, port: u16, reserved: bool) -> Result<(), Error> {
        let index = u32::from(port) >> 6;
        let bit = 1u64 << (port & 63);
        let bits = self.reserved_ports.get(&index, 0).map_err(failed(names::RESERVED_PORTS))?;
        let bits = if reserved { bits | bit } else { bits & !bit };
        self.reserved_ports.set(index, bits, 0).map_err(failed(names::RESERVED_PORTS))
    }

    /// Tells the datapath of the host's addresses, uplinks and port range.
    pub fn sync_host(&mut self, facts: &HostFacts) -> Result<(), Error> {
        let wanted: BTreeSet<Address> =
            facts.addresses.iter().map(|address| Address::from(*address)).collect();
        for address in &wanted {
            self.host_addresses.insert(address, 1, 0).map_err(failed(names::HOST_ADDRS))?;
        }
        let stale: Vec<_> =
            self.host_addresses.keys().flatten().filter(|key| !wanted.contains(key)).collect();
        for address in stale {
            gone(self.host_addresses.remove(&address)).map_err(failed(names::HOST_ADDRS))?;
        }
        for uplink in &facts.uplinks {
            let value = Uplink {
                addr4: uplink.address4.map_or(Address::ANY, Address::from),
                addr6: uplink.address6.map_or(Address::ANY, Address::from),
                flags: [
                    (uplink.xdp, Uplink::XDP),
                    (uplink.guests, Uplink::GUESTS),
                    (uplink.fixed_source6, Uplink::FIXED_SOURCE6),
                ]
                .into_iter()
                .filter_map(|(holds, flag)| holds.then_some(flag))
                .sum(),
                mac: uplink.mac.map_or(abi::Mac::default(), |mac| abi::Mac::from_octets(mac.0)),
                pad: 0,
            };
            self.uplinks.insert(uplink.ifindex, value, 0).map_err(failed(names::UPLINKS))?;
        }
        let known = |ifindex: &u32| facts.uplinks.iter().any(|uplink| uplink.ifindex == *ifindex);
        let stale: Vec<_> = self.uplinks.keys().flatten().filter(|key| !known(key)).collect();
        for ifindex in stale {
            gone(self.uplinks.remove(&ifindex)).map_err(failed(names::UPLINKS))?;
        }
        let before = self.config.get(&0, 0).map_err(failed(names::CONFIG))?;
        let mut config = before;
        config.leave_ports(facts.ephemeral);
        if config.features != before.features {
            // A write is not one moment to the programs: none may trust the old
            // flag and read the new ranges.
            let told = Config { features: config.features, ..before };
            self.config.set(0, told, 0).map_err(failed(names::CONFIG))?;
        }
        config.features &= !Config::FIB_SRC;
        if facts.fib_source {
            config.features |= Config::FIB_SRC;
        }
        if config.seed == 0 {
            config.seed = random_seed();
        }
        config.netns_cookie = facts.netns_cookie;
        config.abi = ABI_VERSION;
        // A route may have changed with any of it.
        config.route_generation = config.route_generation.wrapping_add(1);
        self.config.set(0, config, 0).map_err(failed(names::CONFIG))
    }

    /// Whether no agent has told the datapath of its host yet.
    pub(super) fn is_new(&self) -> Result<bool, Error> {
        let config = self.config.get(&0, 0).map_err(failed(names::CONFIG))?;
        Ok(config.abi == 0)
    }

    /// Whether programs tell of their drops.
    pub fn tell_events(&mut self, telling: Telling) -> Result<(), Error> {
        let mut config = self.config.get(&0, 0).map_err(failed(names::CONFIG))?;
        match telling {
            Telling::On => config.features |= Config::MONITOR,
            Telling::Off => config.features &= !Config::MONITOR,
        }
        self.config.set(0, config, 0).map_err(failed(names::CONFIG))
    }

    /// Drops that programs did not tell of while they were to, ever.
    pub fn events_left_out(&self) -> Result<u64, Error> {
        let slots = self.event_slots.get(&0, 0).map_err(failed(names::EVENT_SLOTS))?;
        Ok(slots.iter().map(|slot| slot.left_out).sum())
    }

    /// By which links who may reach the containers of which networks directly.
    pub fn sync_trusted(&mut self, wanted: &BTreeSet<TrustedKey>) -> Result<(), Error> {
        for key in wanted {
            self.trusted.insert(key, 1, 0).map_err(failed(names::TRUSTED))?;
        }
        let stale: Vec<_> =
            self.trusted.keys().flatten().filter(|key| !wanted.contains(key)).collect();
        for key in stale {
            gone(self.trusted.remove(&key)).map_err(failed(names::TRUSTED))?;
        }
        Ok(())
    }

    /// Removes what is not among the wanted: what an earlier run left. A
    /// network is wanted by its index and family.
    pub fn retain(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        ports: &BTreeSet<PortKey>,
        networks: &BTreeSet<NetworkKey>,
    ) -> Result<(), Error> {
        let stale: Vec<_> = self
            .endpoints
            .keys()
            .flatten()
            .filter(|key| !addresses.contains(&IpAddr::from(*key)))
            .collect();
        for key in stale {
            gone(self.endpoints.remove(&key)).map_err(failed(names::ENDPOINTS))?;
        }
        let linked: BTreeSet<u32> =
            self.endpoints.iter().flatten().map(|(_, endpoint)| endpoint.ifindex).collect();
        let stale: Vec<_> =
            self.links.keys().flatten().filter(|key| !linked.contains(key)).collect();
        for key in stale {
            gone(self.links.remove(&key)).map_err(failed(names::LINKS))?;
        }
        let stale: Vec<_> =
            self.ports.keys().flatten().filter(|key| !ports.contains(key)).collect();
        for key in stale {
            self.remove_port(&key)?;
        }
        self.set_feature(Config::UDP_LISTED, !self.listed.is_empty())?;
        self.retain_reserved()?;
        let stale: Vec<_> = self
            .subnets
            .iter()
            .flatten()
            .filter(|(key, index)| {
                let family = key.data().family();
                !networks.contains(&NetworkKey::new(*index, family))
            })
            .map(|(key, _)| key)
            .collect();
        for key in stale {
            gone(self.subnets.remove(&key)).map_err(failed(names::SUBNETS))?;
        }
        let stale: Vec<_> =
            self.networks.keys().flatten().filter(|key| !networks.contains(key)).collect();
        for key in stale {
            gone(self.networks.remove(&key)).map_err(failed(names::NETWORKS))?;
        }
        Ok(())
    }

    /// Gives back the ports that an earlier run kept SNAT off, and was killed
    /// before it could.
    fn retain_reserved(&mut self) -> Result<(), Error> {
        let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
        for port in self.published.keys() {
            *wanted.entry(u32::from(*port) >> 6).or_default() |= 1 << (port & 63);
        }
        for index in 0..self.reserved_ports.len() {
            let bits = wanted.get(&index).copied().unwrap_or_default();
            let now = self.reserved_ports.get(&index, 0).map_err(failed(names::RESERVED_PORTS))?;
            if now != bits {
                self.reserved_ports.set(index, bits, 0).map_err(failed(names::RESERVED_PORTS))?;
            }
        }
        Ok(())
    }

    /// Packets and bytes by program and outcome, all CPUs added up.
    pub fn stats(&self) -> Result<Vec<(Hook, &'static str, bool, Counter)>, Error> {
        let mut rows = Vec::new();
        for hook in Hook::ALL {
            for outcome in 0..OUTCOMES {
                let Some((name, drop)) = outcome_name(outcome) else {
                    continue;
                };
                rows.push((hook, name, drop, self.counter(hook, outcome)?));
            }
        }
        Ok(rows)
    }

    /// Packets that any program has dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> Result<u64, Error> {
        let outcome = Verdict::drop(reason).outcome();
        Hook::ALL.into_iter().map(|hook| Ok(self.counter(hook, outcome)?.packets)).sum()
    }

    fn counter(&self, hook: Hook, outcome: u32) -> Result<Counter, Error> {
        let index = hook as u32 * OUTCOMES + outcome;
        debug_assert!(index < HOOKS * OUTCOMES);
        let values = self.stats.get(&index, 0).map_err(failed(names::STATS))?;
        Ok(values.iter().fold(Counter::default(), |sum, one| Counter {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        }))
    }
}

fn prefix(subnet: IpNetwork) -> Key<Address> {
    let (address, bits) = match subnet {
        IpNetwork::V4(subnet) => (Address::from(subnet.network()), u32::from(subnet.prefix()) + 96),
        IpNetwork::V6(subnet) => (Address::from(subnet.network()), u32::from(subnet.prefix())),
    };
    Key::new(bits, address)
}

pub(crate) fn family(subnet: IpNetwork) -> Family {
    if subnet.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn random_seed() -> u32 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library seeds this from the kernel.
    let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_possible_truncation, reason = "half of the bits are enough")]
    let seed = seed as u32;
    seed | 1
}

/// Lets a map of another run be read by its pin.
pub(super) fn pinned(pins: &Path, name: &'static str) -> Result<MapData, Error> {
    MapData::from_pin(pins.join(name)).map_err(failed(name))
}
