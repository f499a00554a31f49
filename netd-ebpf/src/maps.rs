//! The maps, and the one place that touches their memory.
//!
//! Sizes are upper bounds or defaults; the agent sets those that the
//! configuration names before it loads the object. Hashes are preallocated:
//! an insert never fails for want of memory in the middle of a packet.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{
        Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::TcContext,
};
use netd_common::{
    abi::{
        Address, AllowKey, Config, Counter, Endpoint, Event, EventSlot, Family, Flow, FlowKey,
        Fragment, FragmentKey, Link, Network, NetworkKey, PortKey, PortTarget, Quota, SocketKey,
        SocketPeer, SynRate, Tally, TrustedKey, Uplink,
        stats::{HOOKS, OUTCOMES},
    },
    pipeline::Scratch,
    tables::Tables,
    verdict::Hook,
};

use crate::env::Host;

const NO_PREALLOC: u32 = 1;

#[map]
static FLOWS: HashMap<FlowKey, Flow> = HashMap::pinned(524_288, 0);
#[map]
static EMBRYONIC: LruHashMap<FlowKey, Flow> = LruHashMap::pinned(131_072, 0);
/// Datagrams that are on their way in pieces.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::pinned(16_384, 0);
#[map]
static ENDPOINTS: HashMap<Address, Endpoint> = HashMap::pinned(65_536, NO_PREALLOC);
#[map]
static LINKS: HashMap<u32, Link> = HashMap::pinned(65_536, NO_PREALLOC);
#[map]
static NETWORKS: HashMap<NetworkKey, Network> = HashMap::pinned(8_192, NO_PREALLOC);
#[map]
static TRUSTED: HashMap<TrustedKey, u32> = HashMap::pinned(8_192, NO_PREALLOC);
#[map]
static SUBNETS: LpmTrie<Address, u32> = LpmTrie::pinned(8_192, NO_PREALLOC);
#[map]
static PORTS: HashMap<PortKey, PortTarget> = HashMap::pinned(262_144, NO_PREALLOC);
#[map]
static ALLOW: LpmTrie<AllowKey, u32> = LpmTrie::pinned(262_144, NO_PREALLOC);
#[map]
static SYN_RATES: LruHashMap<PortKey, SynRate> = LruHashMap::pinned(65_536, 0);
#[map]
static SOCKETS: LruHashMap<SocketKey, SocketPeer> = LruHashMap::pinned(65_536, 0);
#[map]
static HOST_ADDRS: HashMap<Address, u32> = HashMap::pinned(8_192, NO_PREALLOC);
#[map]
static UPLINKS: HashMap<u32, Uplink> = HashMap::pinned(1_024, NO_PREALLOC);
/// One bit a port, 64 to an entry.
#[map]
static RESERVED_PORTS: Array<u64> = Array::pinned(1_024, 0);
#[map]
static QUOTAS: HashMap<u32, Quota> = HashMap::pinned(65_536, NO_PREALLOC);
#[map]
static TALLIES: HashMap<u32, Tally> = HashMap::pinned(65_536, NO_PREALLOC);
#[map]
static STATS: PerCpuArray<Counter> = PerCpuArray::pinned(HOOKS * OUTCOMES, 0);
#[map]
static CONFIG: Array<Config> = Array::pinned(1, 0);
/// Read while someone listens ([`Config::MONITOR`]).
#[map]
static EVENTS: RingBuf = RingBuf::pinned(1 << 20, 0);
#[map]
static EVENT_SLOTS: PerCpuArray<EventSlot> = PerCpuArray::pinned(1, 0);

/// The programs of the slow path, by [`Hook`].
#[map]
static SLOW: ProgramArray = ProgramArray::pinned(HOOKS, 0);

/// The index of the link of a container whose programs are in filters and in
/// `bpf_link`s at once, for the moment that they take from one to the other.
#[map]
static SETTLING: Array<u32> = Array::pinned(1, 0);

/// The slow path's room to work in; not shared with userspace.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// A second, in the lower half, and the time at which it was read off the clock,
/// in the upper; not shared with userspace.
#[map]
static CLOCK: Array<u64> = Array::with_max_entries(1, 0);

/// All zero.
#[map]
static NO_FLOW: Array<Flow> = Array::with_max_entries(1, 0);

#[inline(always)]
pub(crate) fn scratch<'a>() -> Option<&'a mut Scratch> {
    // SAFETY: the slot is this CPU's own for the program's whole run; zeroes
    // are a valid `Scratch`.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// The second that was read off the clock at this time, or else now.
#[inline(always)]
pub(crate) fn second(time: u32, read: impl FnOnce() -> u32) -> u32 {
    let Some(kept) = CLOCK.get_ptr_mut(0) else {
        return read();
    };
    // SAFETY: memory of a map's, aligned. All CPUs read and write it whole.
    let (then, second) = unsafe {
        let kept = kept.read_volatile();
        ((kept >> 32) as u32, kept as u32)
    };
    if then == time {
        return second;
    }
    let second = read();
    // SAFETY: as above.
    unsafe { kept.write_volatile(u64::from(time) << 32 | u64::from(second)) };
    second
}

/// `core`'s atomics have no addition for this target.
///
/// # Safety
/// `place` is aligned, and memory of a map's.
#[inline(always)]
unsafe fn atomic_add(place: *mut u64, change: i64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: one instruction (`BPF_ATOMIC | BPF_ADD`), on the caller's word.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({place} + 0) += {change}",
            place = in(reg) place,
            change = in(reg) change,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (place, change);
}

/// Goes on in a hook's slow program; comes back only if there is none.
#[inline(always)]
pub(crate) fn continue_slowly(ctx: &TcContext, hook: Hook) {
    // SAFETY: nothing of this program's is left to be dropped.
    unsafe { SLOW.tail_call(ctx, hook as u32) };
}

#[inline(always)]
pub(crate) fn is_settling(ifindex: u32) -> bool {
    SETTLING.get(0).is_some_and(|settling| *settling == ifindex)
}

/// Adds one packet to a hook's outcome.
#[inline(always)]
pub(crate) fn count(hook: Hook, outcome: u32, bytes: u64) {
    let index = hook as u32 * OUTCOMES + (outcome & (OUTCOMES - 1));
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: the slot is this CPU's own, and packets' programs don't
        // preempt each other on a CPU; sockets' may, which can lose a count.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}

/// Where an event is made; `None`: nobody listens.
#[inline(always)]
pub(crate) fn event_slot<'a>() -> Option<&'a mut EventSlot> {
    if CONFIG.get(0)?.features & Config::MONITOR == 0 {
        return None;
    }
    // SAFETY: as in `scratch`.
    EVENT_SLOTS.get_ptr_mut(0).map(|slot| unsafe { &mut *slot })
}

/// Hands an event to the reader; `false` where the ring is full.
#[inline(always)]
pub(crate) fn tell(event: &Event) -> bool {
    EVENTS.output::<Event>(event, 0).is_ok()
}

// Entries are shared with other CPUs: a field may change under a reader, and a
// preallocated entry may be taken by another key once it was removed. Only what
// is over, has been silent for its whole timeout, or whose endpoint is gone, is
// removed; a connection that begins in another's place writes over its entries.
impl Tables for Host {
    #[inline(always)]
    fn config(&self) -> Option<Config> {
        CONFIG.get(0).copied().filter(|config| config.abi != 0)
    }

    #[inline(always)]
    fn route_generation(&self) -> u16 {
        CONFIG.get(0).map_or(0, |config| config.route_generation)
    }

    #[inline(always)]
    fn any_flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        // SAFETY: as in `flow`.
        FLOWS
            .get_ptr_mut(key)
            .or_else(|| EMBRYONIC.get_ptr_mut(key))
            .map(|flow| unsafe { &mut *flow })
    }

    #[inline(always)]
    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        // SAFETY: the kernel keeps the memory for the program's run.
        FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
    }

    #[inline(always)]
    fn embryo(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        // SAFETY: as in `flow`.
        EMBRYONIC.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
    }

    #[inline(always)]
    fn claim_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn has_room(&mut self, key: &FlowKey) -> bool {
        let Some(flow) = NO_FLOW.get_ptr(0) else {
            return false;
        };
        // There is no other way to ask. No packet has such a key, and what has
        // neither flags nor links is nobody's.
        let key = FlowKey { pad: FlowKey::PROBE, ..*key };
        // SAFETY: as in `flow`.
        let flow = unsafe { &*flow };
        if FLOWS.insert(key, flow, 0).is_err() {
            return false;
        }
        let _ = FLOWS.remove(key);
        true
    }

    #[inline(always)]
    fn claim_embryo(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        EMBRYONIC.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn put_embryo(&mut self, key: &FlowKey, flow: &Flow) {
        // An LRU makes room; what is lost all the same is opened again.
        let _ = EMBRYONIC.insert(key, flow, 0);
    }

    #[inline(always)]
    fn is_quota_used_up(&self, ifindex: u32) -> bool {
        // SAFETY: as in `flow`.
        let Some(quota) = QUOTAS.get_ptr(ifindex).map(|quota| unsafe { *quota }) else {
            return false;
        };
        // SAFETY: as in `flow`.
        TALLIES.get_ptr(ifindex).is_some_and(|tally| quota.is_used_up(unsafe { &*tally }))
    }

    #[inline(always)]
    fn count_flow(&mut self, ifindex: u32, change: i64) {
        if let Some(tally) = TALLIES.get_ptr_mut(ifindex) {
            // SAFETY: as in `flow`; all CPUs count so.
            unsafe { atomic_add(&raw mut (*tally).answered, change) };
        }
    }

    #[inline(always)]
    fn remove_flow(&mut self, key: &FlowKey) {
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn remove_embryo(&mut self, key: &FlowKey) {
        let _ = EMBRYONIC.remove(key);
    }

    #[inline(always)]
    fn endpoint(&mut self, address: &Address) -> Option<&mut Endpoint> {
        // SAFETY: as in `flow`.
        ENDPOINTS.get_ptr_mut(address).map(|endpoint| unsafe { &mut *endpoint })
    }

    #[inline(always)]
    fn link(&self, ifindex: u32) -> Option<Link> {
        // SAFETY: as in `flow`.
        LINKS.get_ptr(ifindex).map(|link| unsafe { *link })
    }

    #[inline(always)]
    fn network(&self, index: u32, family: Family) -> Option<Network> {
        // SAFETY: as in `flow`.
        NETWORKS.get_ptr(NetworkKey::new(index, family)).map(|network| unsafe { *network })
    }

    #[inline(always)]
    fn is_trusted(&self, network: u32, ifindex: u32) -> bool {
        TRUSTED.get_ptr(TrustedKey { network, ifindex }).is_some()
    }

    #[inline(always)]
    fn subnet(&self, address: &Address) -> Option<u32> {
        SUBNETS.get(Key::new(128, *address)).copied()
    }

    #[inline(always)]
    fn is_host_address(&self, address: &Address) -> bool {
        HOST_ADDRS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<PortTarget> {
        // SAFETY: as in `flow`.
        PORTS.get_ptr(key).map(|target| unsafe { *target })
    }

    #[inline(always)]
    fn is_allowed(&self, list: u32, source: &Address) -> bool {
        ALLOW.get(Key::new(160, AllowKey { list, addr: *source })).is_some()
    }

    #[inline(always)]
    fn syn_rate(&mut self, key: &PortKey) -> Option<&mut SynRate> {
        if SYN_RATES.get_ptr(key).is_none() {
            let _ = SYN_RATES.insert(key, SynRate { second: 0, count: 0 }, u64::from(BPF_NOEXIST));
        }
        // SAFETY: as in `flow`.
        SYN_RATES.get_ptr_mut(key).map(|rate| unsafe { &mut *rate })
    }

    #[inline(always)]
    fn fragment(&mut self, key: &FragmentKey) -> Option<&mut Fragment> {
        // SAFETY: as in `flow`.
        FRAGMENTS.get_ptr_mut(key).map(|fragment| unsafe { &mut *fragment })
    }

    #[inline(always)]
    fn put_fragment(&mut self, key: &FragmentKey, fragment: &Fragment) {
        // What the LRU has no room for is dropped as out of order.
        let _ = FRAGMENTS.insert(key, fragment, 0);
    }

    #[inline(always)]
    fn remove_fragment(&mut self, key: &FragmentKey) {
        let _ = FRAGMENTS.remove(key);
    }

    #[inline(always)]
    fn peer(&self, key: &SocketKey) -> Option<SocketPeer> {
        // SAFETY: as in `flow`.
        SOCKETS.get_ptr(key).map(|peer| unsafe { *peer })
    }

    #[inline(always)]
    fn put_peer(&mut self, key: &SocketKey, peer: &SocketPeer) {
        // What is lost costs the process the name that it used, no more.
        let _ = SOCKETS.insert(key, peer, 0);
    }

    #[inline(always)]
    fn uplink(&self, ifindex: u32) -> Option<Uplink> {
        // SAFETY: as in `flow`.
        UPLINKS.get_ptr(ifindex).map(|uplink| unsafe { *uplink })
    }

    #[inline(always)]
    fn is_reserved_port(&self, port: u16) -> bool {
        RESERVED_PORTS.get(u32::from(port) >> 6).is_some_and(|bits| bits >> (port & 63) & 1 != 0)
    }
}
