//! The maps, the routes and the clock in ordinary memory.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{scene::Dual, std};
use crate::{
    abi::{
        ABI_VERSION, Address, Config, Counter, Endpoint, Family, Flow, FlowKey, Fragment,
        FragmentKey, Link, Network, NetworkKey, PortKey, PortRange, PortTarget, Prefix, Quota,
        SocketKey, SocketPeer, SynRate, Tally, TrustedKey, Uplink,
    },
    pipeline::Scratch,
    tables::{Env, Journey, Repeat, Tables, Turn},
    verdict::{Hook, Verdict},
};

/// A route of the host's; the longest prefix counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: Prefix,
    /// `None`: a local, broadcast or unreachable destination.
    pub by: Option<Hop>,
}

impl Route {
    pub fn is_default(&self, family: Family) -> bool {
        self.to.family() == family && self.to.bits == if family == Family::V4 { 96 } else { 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub ifindex: u32,
    /// `None`: on-link.
    pub gateway: Option<Address>,
    /// Source of what the host itself sends that way.
    pub source: Address,
    pub mtu: u32,
}

/// A socket of the host's, bound to a port: a TCP listener, or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// IP protocol number.
    pub proto: u8,
    /// `None`: any address, of both families.
    pub at: Option<Dual>,
    pub port: u16,
}

impl Socket {
    pub const fn bound(proto: u8, at: Option<Dual>, port: u16) -> Self {
        Self { proto, at, port }
    }

    fn takes(&self, key: &FlowKey) -> bool {
        let is_at = |at: Dual| key.dst == Address::from(at[key.dst.family()]);
        self.proto == key.proto && self.port == key.dport.to_host() && self.at.is_none_or(is_at)
    }
}

/// Everything that the pipeline asks for besides the packet.
#[derive(Clone, Debug)]
pub struct World {
    /// `None`: the agent has not written it.
    pub config: Option<Config>,
    pub flows: HashMap<FlowKey, Flow>,
    /// Entries that `flows` has room for.
    pub flows_capacity: usize,
    /// Never evicts by itself: tests do.
    pub embryonic: HashMap<FlowKey, Flow>,
    /// By link.
    pub quotas: HashMap<u32, Quota>,
    /// As `quotas`.
    pub tallies: HashMap<u32, Tally>,
    pub endpoints: HashMap<Address, Endpoint>,
    pub links: HashMap<u32, Link>,
    pub networks: HashMap<NetworkKey, Network>,
    pub trusted: HashSet<TrustedKey>,
    pub subnets: std::vec::Vec<(Prefix, u32)>,
    pub ports: HashMap<PortKey, PortTarget>,
    /// By list: what it allows.
    pub allow: std::vec::Vec<(u32, Prefix)>,
    pub syn_rates: HashMap<PortKey, SynRate>,
    pub fragments: HashMap<FragmentKey, Fragment>,
    pub host_addresses: HashSet<Address>,
    pub sockets: std::vec::Vec<Socket>,
    /// What the host's sockets asked for, by where they were sent to.
    pub peers: HashMap<SocketKey, SocketPeer>,
    pub uplinks: HashMap<u32, Uplink>,
    pub reserved_ports: HashSet<u16>,
    pub routes: std::vec::Vec<Route>,
    /// Seconds.
    pub now: u32,
    /// By hook and outcome.
    pub stats: BTreeMap<(u32, u32), Counter>,
    /// Operations on maps so far: what a packet costs, whatever the machine.
    pub map_operations: Cell<u64>,
    pub(super) scratch: Scratch,
}

impl Default for World {
    /// Nothing in it but a configuration: SNAT may take ports 1024–32767 and
    /// 61000–65535.
    fn default() -> Self {
        let config = Config {
            abi: ABI_VERSION,
            snat_low: PortRange { first: 1024, last: 32_767 },
            snat_high: PortRange { first: 61_000, last: 65_535 },
            route_generation: 1,
            seed: 0x5eed,
            features: Config::FIB_SRC | Config::SNAT_PORTS_KEPT,
            netns_cookie: 1,
            pad: 0,
        };
        Self {
            config: Some(config),
            flows: HashMap::new(),
            flows_capacity: usize::MAX,
            embryonic: HashMap::new(),
            quotas: HashMap::new(),
            tallies: HashMap::new(),
            endpoints: HashMap::new(),
            links: HashMap::new(),
            networks: HashMap::new(),
            trusted: HashSet::new(),
            subnets: std::vec![],
            ports: HashMap::new(),
            allow: std::vec![],
            syn_rates: HashMap::new(),
            fragments: HashMap::new(),
            host_addresses: HashSet::new(),
            sockets: std::vec![],
            peers: HashMap::new(),
            uplinks: HashMap::new(),
            reserved_ports: HashSet::new(),
            routes: std::vec![],
            now: 1_000,
            stats: BTreeMap::new(),
            map_operations: Cell::new(0),
            scratch: Scratch::default(),
        }
    }
}

impl World {
    /// The configuration, which must be there.
    pub fn config_mut(&mut self) -> &mut Config {
        self.config.as_mut().expect("a configuration")
    }

    /// Publishes a port, as the agent does.
    pub fn publish(&mut self, key: PortKey, target: PortTarget) {
        self.reserved_ports.insert(key.port.to_host());
        self.ports.insert(key, target);
    }

    /// Says that the host's routes have changed.
    pub fn raise_generation(&mut self) {
        let config = self.config_mut();
        config.route_generation = config.route_generation.wrapping_add(1);
    }

    pub fn counter(&self, hook: Hook, outcome: u32) -> Counter {
        self.stats.get(&(hook as u32, outcome)).copied().unwrap_or_default()
    }

    /// Counts an operation on a map.
    fn touch(&self) {
        self.map_operations.set(self.map_operations.get() + 1);
    }

    pub(super) fn count(&mut self, hook: Hook, verdict: Verdict, bytes: u64) {
        let counter = self.stats.entry((hook as u32, verdict.outcome())).or_default();
        counter.packets += 1;
        counter.bytes += bytes;
    }
}

impl Prefix {
    /// An IPv4 prefix of `len` bits.
    pub const fn v4(octets: [u8; 4], len: u32) -> Self {
        Self { bits: 96 + len, addr: Address::v4(octets) }
    }

    fn family(&self) -> Family {
        if self.bits >= 96 { self.addr.family() } else { Family::V6 }
    }

    fn holds(&self, address: &Address) -> bool {
        let (own, other) = (self.addr.octets(), address.octets());
        (0..self.bits as usize)
            .all(|bit| (own[bit / 8] ^ other[bit / 8]) & (0x80 >> (bit % 8)) == 0)
    }
}

/// Multicast, link-local, loopback (`rt6_need_strict`).
fn is_strict(address: &Address) -> bool {
    let bits = u128::from_be_bytes(address.octets());
    bits >> 120 == 0xff || bits >> 118 == 0xfe80 >> 6 || bits == 1
}

impl Tables for World {
    fn config(&self) -> Option<Config> {
        self.touch();
        self.config
    }

    fn route_generation(&self) -> u16 {
        self.touch();
        self.config.map_or(0, |config| config.route_generation)
    }

    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.touch();
        self.flows.get_mut(key)
    }

    fn embryo(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.touch();
        self.embryonic.get_mut(key)
    }

    fn any_flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.touch();
        if !self.flows.contains_key(key) {
            self.touch();
        }
        self.flows.get_mut(key).or_else(|| self.embryonic.get_mut(key))
    }

    fn claim_embryo(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        self.touch();
        if self.embryonic.contains_key(key) {
            return false;
        }
        self.embryonic.insert(*key, *flow);
        true
    }

    fn put_embryo(&mut self, key: &FlowKey, flow: &Flow) {
        self.touch();
        self.embryonic.insert(*key, *flow);
    }

    fn claim_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        self.touch();
        if self.flows.len() >= self.flows_capacity || self.flows.contains_key(key) {
            return false;
        }
        self.flows.insert(*key, *flow);
        true
    }

    fn has_room(&mut self, _: &FlowKey) -> bool {
        self.touch();
        self.flows.len() < self.flows_capacity
    }

    fn is_quota_used_up(&self, ifindex: u32) -> bool {
        let (quota, tally) = (self.quotas.get(&ifindex), self.tallies.get(&ifindex));
        quota.zip(tally).is_some_and(|(quota, tally)| quota.is_used_up(tally))
    }

    fn count_flow(&mut self, ifindex: u32, change: i64) {
        if let Some(tally) = self.tallies.get_mut(&ifindex) {
            tally.answered = tally.answered.wrapping_add_signed(change);
        }
    }

    fn remove_flow(&mut self, key: &FlowKey) {
        self.touch();
        self.flows.remove(key);
    }

    fn remove_embryo(&mut self, key: &FlowKey) {
        self.touch();
        self.embryonic.remove(key);
    }

    fn endpoint(&mut self, address: &Address) -> Option<&mut Endpoint> {
        self.touch();
        self.endpoints.get_mut(address)
    }

    fn link(&self, ifindex: u32) -> Option<Link> {
        self.touch();
        self.links.get(&ifindex).copied()
    }

    fn network(&self, index: u32, family: Family) -> Option<Network> {
        self.touch();
        self.networks.get(&NetworkKey::new(index, family)).copied()
    }

    fn is_trusted(&self, network: u32, ifindex: u32) -> bool {
        self.touch();
        self.trusted.contains(&TrustedKey { network, ifindex })
    }

    fn subnet(&self, address: &Address) -> Option<u32> {
        self.touch();
        let holding = self.subnets.iter().filter(|(prefix, _)| prefix.holds(address));
        holding.max_by_key(|(prefix, _)| prefix.bits).map(|(_, index)| *index)
    }

    fn is_host_address(&self, address: &Address) -> bool {
        self.touch();
        self.host_addresses.contains(address)
    }

    fn port(&self, key: &PortKey) -> Option<PortTarget> {
        self.touch();
        self.ports.get(key).copied()
    }

    fn is_allowed(&self, list: u32, source: &Address) -> bool {
        self.touch();
        self.allow.iter().any(|(own, prefix)| *own == list && prefix.holds(source))
    }

    fn syn_rate(&mut self, key: &PortKey) -> Option<&mut SynRate> {
        self.touch();
        Some(self.syn_rates.entry(*key).or_default())
    }

    fn fragment(&mut self, key: &FragmentKey) -> Option<&mut Fragment> {
        self.touch();
        self.fragments.get_mut(key)
    }

    fn put_fragment(&mut self, key: &FragmentKey, fragment: &Fragment) {
        self.touch();
        self.fragments.insert(*key, *fragment);
    }

    fn remove_fragment(&mut self, key: &FragmentKey) {
        self.touch();
        self.fragments.remove(key);
    }

    fn peer(&self, key: &SocketKey) -> Option<SocketPeer> {
        self.touch();
        self.peers.get(key).copied()
    }

    fn put_peer(&mut self, key: &SocketKey, peer: &SocketPeer) {
        self.touch();
        self.peers.insert(*key, *peer);
    }

    fn uplink(&self, ifindex: u32) -> Option<Uplink> {
        self.touch();
        self.uplinks.get(&ifindex).copied()
    }

    fn is_reserved_port(&self, port: u16) -> bool {
        self.touch();
        self.reserved_ports.contains(&port)
    }
}

impl Repeat for World {
    fn repeat<T: Turn<Self>>(&mut self, times: u32, turn: &mut T) {
        for n in 0..times {
            if turn.turn(self, n) {
                return;
            }
        }
    }
}

impl Env for World {
    fn now(&self) -> u32 {
        self.now
    }

    fn has_socket(&self, key: &FlowKey) -> bool {
        self.sockets.iter().any(|socket| socket.takes(key))
    }

    /// As `bpf_fib_lookup` does (net/core/filter.c): IPv6 forwards nothing that
    /// a link's scope holds.
    fn route(&self, journey: &mut Journey) {
        let family = journey.dst.family();
        let matching = self
            .routes
            .iter()
            .filter(|route| route.to.family() == family && route.to.holds(&journey.dst));
        let hop = matching.max_by_key(|route| route.to.bits).and_then(|route| route.by);
        journey.ifindex = 0;
        if family == Family::V6 && [journey.src, journey.dst].iter().any(is_strict) {
            return;
        }
        let Some(hop) = hop else { return };
        journey.ifindex = hop.ifindex;
        journey.mtu = hop.mtu;
        journey.next_hop = hop.gateway.unwrap_or(journey.dst);
        let tells_source = journey.wants_source != 0
            && self.config.is_some_and(|c| c.features & Config::FIB_SRC != 0);
        journey.source =
            if tells_source && hop.source != journey.src { hop.source } else { Address::ANY };
    }
}
