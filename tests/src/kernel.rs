//! The datapath in the kernel, one packet at a time (`BPF_PROG_TEST_RUN`).
//!
//! It runs in a namespace with the links and routes of the model's
//! [`scene`], so that the same world can be given to the programs and to the
//! model. What a test run can't show: the link that a packet is redirected
//! to, `tc_index` (netd's mark), and VLAN tags set aside.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aya::{
    Pod,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, ProgramArray, lpm_trie::Key,
    },
    programs::{TestRun as _, TestRunOptions},
};
use netd::datapath::{Datapath, Options, Others};
use netd_common::{
    abi::{
        Address, AllowKey, Config, Counter, Endpoint, Family, Flow, FlowKey, Fragment, FragmentKey,
        Link, Network, NetworkKey, PortKey, PortTarget, Quota, SynRate, Tally, TrustedKey, Uplink,
        names, stats::OUTCOMES, wire::PROTO_TCP,
    },
    model::{
        Frame, Socket, World,
        scene::{self, CONTAINERS},
    },
    verdict::{Hook, Verdict},
};

use crate::{NetNs, TestDir};

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// `TC_ACT_*`; of XDP what means the same.
    pub action: i32,
    pub bytes: Vec<u8>,
}

/// `TC_ACT_*` (`include/uapi/linux/pkt_cls.h`).
const UNSPEC: i32 = -1;
pub const SHOT: i32 = 2;
const REDIRECT: i32 = 7;
/// `XDP_*` (`include/uapi/linux/bpf.h`).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// What a program is to do for a verdict.
pub fn action(verdict: Verdict) -> i32 {
    if verdict.is_drop() {
        SHOT
    } else if verdict.is_deliver() || verdict.is_forward() || verdict.is_past_bridge() {
        REDIRECT
    } else {
        UNSPEC
    }
}

/// Offsets of `struct __sk_buff` (include/uapi/linux/bpf.h).
const SK_BUFF_LEN: usize = 192;
const SK_BUFF_INGRESS_IFINDEX: usize = 36;
const SK_BUFF_IFINDEX: usize = 40;
const SK_BUFF_GSO_SIZE: usize = 176;

/// The loaded programs and their maps.
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Kernel {
    datapath: Option<Datapath>,
    pins: PathBuf,
    config: Array<MapData, Config>,
    stats: PerCpuArray<MapData, Counter>,
    flows: HashMap<MapData, FlowKey, Flow>,
    embryonic: HashMap<MapData, FlowKey, Flow>,
    fragments: HashMap<MapData, FragmentKey, Fragment>,
}

/// A namespace with the links, routes and sockets of [`scene`].
#[derive(Debug)]
pub struct Host {
    ns: NetNs,
    _sockets: Vec<OwnedFd>,
}

/// Bound to the socket's addresses, and never read from.
fn bound(socket: &Socket) -> Vec<OwnedFd> {
    let at = |ip| SocketAddr::new(ip, socket.port);
    let addresses = match socket.at {
        Some(own) => vec![at(own[Family::V4]), at(own[Family::V6])],
        // Both families, as long as `net.ipv6.bindv6only` is 0.
        None => vec![at(Ipv6Addr::UNSPECIFIED.into())],
    };
    let bind = |at: SocketAddr| match socket.proto {
        PROTO_TCP => TcpListener::bind(at).map(OwnedFd::from),
        _ => UdpSocket::bind(at).map(OwnedFd::from),
    };
    addresses.into_iter().map(|at| bind(at).unwrap_or_else(|e| panic!("bind {at}: {e}"))).collect()
}

impl Host {
    pub fn new() -> Self {
        let ns = Kernel::links_and_routes();
        let sockets = ns.run(|| scene::SOCKETS.iter().flat_map(bound).collect());
        Self { ns, _sockets: sockets }
    }

    /// As [`NetNs::run`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.ns.run(work)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// Where the programs are to run.
    pub fn namespace() -> Host {
        Host::new()
    }

    fn links_and_routes() -> NetNs {
        let ns = NetNs::new(&Arc::new(TestDir::new()), "host");
        for container in CONTAINERS {
            let ifindex = container.ifindex;
            ns.ip(&format!("link add c{ifindex} index {ifindex} type veth"));
        }
        for command in scene::COMMANDS {
            ns.ip(command);
        }
        for link in scene::FORWARDING {
            for family in ["ipv4", "ipv6"] {
                ns.set_sysctl(&format!("net/{family}/conf/{link}/forwarding"), "1");
            }
        }
        ns
    }

    /// Loads the programs, with room for `flows` flows.
    pub fn load(flows: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = PathBuf::from(format!("/sys/fs/bpf/netd-test-{}-{n}", std::process::id()));
        let options = Options { flow_table_size: flows, attach: None, others: Others::Refuse };
        let datapath = Datapath::load(&base, &options).expect("the datapath loads");
        let pins = datapath.pins().to_owned();
        let kernel = |name| MapData::from_pin(pins.join(name)).expect("the map is pinned");
        Self {
            config: opened(Map::Array(kernel(names::CONFIG))),
            stats: opened(Map::PerCpuArray(kernel(names::STATS))),
            flows: opened(Map::HashMap(kernel(names::FLOWS))),
            embryonic: opened(Map::LruHashMap(kernel(names::EMBRYONIC))),
            fragments: opened(Map::LruHashMap(kernel(names::FRAGMENTS))),
            datapath: Some(datapath),
            pins,
        }
    }

    fn data(&self, name: &str) -> MapData {
        MapData::from_pin(self.pins.join(name)).expect("the map is pinned")
    }

    /// Makes the maps hold what `world` holds, and nothing else.
    pub fn mirror(&mut self, world: &World) {
        self.set_config(world.config.unwrap_or_default());
        let endpoints: HashMap<_, Address, Endpoint> = self.hash(names::ENDPOINTS);
        replace(endpoints, world.endpoints.iter().map(|(k, v)| (*k, *v)));
        let links: HashMap<_, u32, Link> = self.hash(names::LINKS);
        replace(links, world.links.iter().map(|(k, v)| (*k, *v)));
        let quotas: HashMap<_, u32, Quota> = self.hash(names::QUOTAS);
        replace(quotas, world.quotas.iter().map(|(k, v)| (*k, *v)));
        let tallies: HashMap<_, u32, Tally> = self.hash(names::TALLIES);
        replace(tallies, world.tallies.iter().map(|(k, v)| (*k, *v)));
        let trusted: HashMap<_, TrustedKey, u32> = self.hash(names::TRUSTED);
        replace(trusted, world.trusted.iter().map(|k| (*k, 1)));
        let networks: HashMap<_, NetworkKey, Network> = self.hash(names::NETWORKS);
        replace(networks, world.networks.iter().map(|(k, v)| (*k, *v)));
        let ports: HashMap<_, PortKey, PortTarget> = self.hash(names::PORTS);
        replace(ports, world.ports.iter().map(|(k, v)| (*k, *v)));
        let own: HashMap<_, Address, u32> = self.hash(names::HOST_ADDRS);
        replace(own, world.host_addresses.iter().map(|k| (*k, 1)));
        let uplinks: HashMap<_, u32, Uplink> = self.hash(names::UPLINKS);
        replace(uplinks, world.uplinks.iter().map(|(k, v)| (*k, *v)));

        let mut subnets: LpmTrie<_, Address, u32> = opened(Map::LpmTrie(self.data(names::SUBNETS)));
        let stale: Vec<_> = subnets.keys().map(|key| key.expect("a key")).collect();
        for key in &stale {
            subnets.remove(key).expect("remove a subnet");
        }
        for (prefix, index) in &world.subnets {
            subnets.insert(&Key::new(prefix.bits, prefix.addr), index, 0).expect("put a subnet");
        }
        let mut allow: LpmTrie<_, AllowKey, u32> = opened(Map::LpmTrie(self.data(names::ALLOW)));
        let stale: Vec<_> = allow.keys().map(|key| key.expect("a key")).collect();
        for key in &stale {
            allow.remove(key).expect("remove an allowed prefix");
        }
        for (list, prefix) in &world.allow {
            let key = AllowKey { list: *list, addr: prefix.addr };
            allow.insert(&Key::new(32 + prefix.bits, key), 1, 0).expect("allow a prefix");
        }
        let rates: HashMap<_, PortKey, SynRate> =
            opened(Map::LruHashMap(self.data(names::SYN_RATES)));
        replace(rates, world.syn_rates.iter().map(|(k, v)| (*k, *v)));
        let mut reserved: Array<_, u64> = opened(Map::Array(self.data(names::RESERVED_PORTS)));
        for index in 0..1024_u16 {
            let bit = |bit: &u16| world.reserved_ports.contains(&(index * 64 + bit));
            let bits = (0..64).filter(bit).fold(0, |bits, bit| bits | 1 << bit);
            reserved.set(u32::from(index), bits, 0).expect("reserve ports");
        }
        for table in [&mut self.flows, &mut self.embryonic] {
            let stale: Vec<_> = table.keys().map(|key| key.expect("a key")).collect();
            for key in &stale {
                table.remove(key).expect("remove a flow");
            }
        }
        let stale: Vec<_> = self.fragments.keys().map(|key| key.expect("a key")).collect();
        for key in &stale {
            self.fragments.remove(key).expect("remove a datagram");
        }
        for (key, fragment) in &world.fragments {
            self.fragments.insert(key, fragment, 0).expect("put a datagram");
        }
        for (key, flow) in &world.flows {
            self.flows.insert(key, flow, 0).expect("put a flow");
        }
        for (key, flow) in &world.embryonic {
            self.embryonic.insert(key, flow, 0).expect("put an embryo");
        }
    }

    fn hash<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        opened(Map::HashMap(self.data(name)))
    }

    pub fn set_config(&mut self, config: Config) {
        self.config.set(0, config, 0).expect("set the configuration");
    }

    /// Takes a hook's slow program away.
    pub fn unchain(&mut self, hook: Hook) {
        let mut slow: ProgramArray<MapData> = opened(Map::ProgramArray(self.data(names::SLOW)));
        slow.clear_index(&(hook as u32)).expect("take the slow program away");
    }

    /// Whether a test run takes such a packet: it refuses what is shorter than
    /// the headers that its Ethernet header announces.
    pub fn takes(frame: &Frame) -> bool {
        let announced = match frame.bytes.get(12..14) {
            Some([0x08, 0x00]) => 20,
            Some([0x86, 0xdd]) => 40,
            Some(_) => 0,
            None => return false,
        };
        frame.bytes.len() >= 14 + announced
    }

    /// Runs a packet through a hook. To be called inside [`Kernel::namespace`].
    pub fn run(&mut self, hook: Hook, frame: &Frame) -> Ran {
        self.run_for(hook, frame).0
    }

    /// As [`Kernel::run`]; also says how long the programs took, which for XDP
    /// nobody measures yet.
    pub fn run_for(&mut self, hook: Hook, frame: &Frame) -> (Ran, Duration) {
        assert!(!frame.vlan && !frame.translated, "a test run can't say so");
        if hook == Hook::UplinkXdp {
            return (self.run_xdp(frame), Duration::ZERO);
        }
        let mut context = [0; SK_BUFF_LEN];
        let mut put = |at: usize, value: u32| {
            context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(SK_BUFF_IFINDEX, frame.ifindex);
        put(SK_BUFF_INGRESS_IFINDEX, frame.ingress_ifindex);
        put(SK_BUFF_GSO_SIZE, frame.gso_size);
        let mut out = vec![0; frame.bytes.len() + 256];
        let datapath = self.datapath.as_mut().expect("the datapath is loaded");
        let result = datapath
            .program(hook.name())
            .expect("the program is there")
            .test_run(TestRunOptions {
                data_in: Some(&frame.bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|e| panic!("run {} on {frame:02x?}: {e:?}", hook.name()));
        out.truncate(result.data_size_out as usize);
        (Ran { action: result.return_value.cast_signed(), bytes: out }, result.duration)
    }

    fn run_xdp(&mut self, frame: &Frame) -> Ran {
        let len = u32::try_from(frame.bytes.len()).expect("a frame's length");
        // `struct xdp_md`: data, its end, metadata, ingress link, queue, egress.
        let context = [0, len, 0, frame.ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        let mut out = vec![0; frame.bytes.len() + 256];
        let datapath = self.datapath.as_mut().expect("the datapath is loaded");
        let program = datapath.xdp_program(names::UPLINK_XDP).expect("the program is there");
        let options = TestRunOptions {
            data_in: Some(&frame.bytes),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result =
            program.test_run(options).unwrap_or_else(|e| panic!("run XDP on {frame:02x?}: {e:?}"));
        out.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            XDP_DROP => SHOT,
            XDP_PASS => UNSPEC,
            other => panic!("XDP says {other} of {frame:02x?}"),
        };
        Ran { action, bytes: out }
    }

    /// A counter, all CPUs added up.
    pub fn counter(&self, hook: Hook, outcome: u32) -> Counter {
        let values = self.stats.get(&(hook as u32 * OUTCOMES + outcome), 0).expect("a counter");
        values.iter().fold(Counter::default(), |sum, one| Counter {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        })
    }

    /// All counters that are not 0, by hook and outcome.
    pub fn stats(&self) -> BTreeMap<(u32, u32), Counter> {
        let all = Hook::ALL.into_iter().flat_map(|hook| (0..OUTCOMES).map(move |o| (hook, o)));
        all.map(|(hook, outcome)| ((hook as u32, outcome), self.counter(hook, outcome)))
            .filter(|(_, counter)| counter.packets != 0)
            .collect()
    }

    pub fn flows(&self) -> BTreeMap<FlowKey, Flow> {
        self.flows.iter().map(|entry| entry.expect("a flow")).collect()
    }

    pub fn embryonic(&self) -> BTreeMap<FlowKey, Flow> {
        self.embryonic.iter().map(|entry| entry.expect("an embryo")).collect()
    }

    pub fn fragments(&self) -> BTreeMap<FragmentKey, Fragment> {
        self.fragments.iter().map(|entry| entry.expect("a datagram")).collect()
    }

    pub fn syn_rates(&self) -> BTreeMap<PortKey, SynRate> {
        let rates: HashMap<_, PortKey, SynRate> =
            opened(Map::LruHashMap(self.data(names::SYN_RATES)));
        rates.iter().map(|entry| entry.expect("a rate")).collect()
    }

    /// Lets go of a datagram, as the LRU does when it is full.
    pub fn forget(&mut self, key: &FragmentKey) {
        self.fragments.remove(key).expect("the datagram is there");
    }

    /// Lets go of an embryo, as the LRU does when it is full.
    pub fn evict(&mut self, key: &FlowKey) {
        self.embryonic.remove(key).expect("the embryo is there");
    }

    pub fn datapath(&mut self) -> &mut Datapath {
        self.datapath.as_mut().expect("the datapath is loaded")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let Some(datapath) = self.datapath.take() else { return };
        if let Err(error) = datapath.destroy() {
            eprintln!("failed to take the datapath out of the kernel: {error:?}");
        }
    }
}

fn opened<T: TryFrom<Map, Error = MapError>>(map: Map) -> T {
    T::try_from(map).expect("the map is of its type")
}

fn replace<K: Pod, V: Pod>(mut map: HashMap<MapData, K, V>, entries: impl Iterator<Item = (K, V)>) {
    let stale: Vec<_> = map.keys().map(|key| key.expect("a key")).collect();
    for key in &stale {
        map.remove(key).expect("remove an entry");
    }
    for (key, value) in entries {
        map.insert(key, value, 0).expect("put an entry");
    }
}
