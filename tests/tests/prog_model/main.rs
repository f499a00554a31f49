//! The host model and the loaded programs agree.

mod generate;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use generate::{Generator, Step};
use netd_common::{
    abi::{Address, Config, Flow, FlowKey, PortRange, Uplink},
    model::{self, World, scene},
    verdict::{Hook, Verdict},
};
use netd_tests::{
    Kernel, Random,
    kernel::{Ran, action},
};
use nix::time::{ClockId, clock_gettime};

const SEQUENCES: u64 = 420;
const PACKETS: usize = 250;

/// Set it to repeat a run.
const SEED: &str = "NETD_TEST_SEED";

#[test]
fn the_model_and_the_kernel_agree_on_random_conversations() {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => 0x006e_6574_6400,
    };
    let ns = Kernel::namespace();
    ns.run(|| {
        let mut kernel = Kernel::load(65_536);
        let mut stats = BTreeMap::new();
        for sequence in seed..seed + SEQUENCES {
            eprintln!("{SEED}={sequence}");
            let mut world = scene::world();
            world.stats = stats;
            converse(sequence, PACKETS, &mut kernel, &mut world);
            stats = world.stats;
        }
        assert_eq!(kernel.stats(), stats);
        report(&stats);
        for hook in Hook::TC.into_iter().chain([Hook::UplinkXdp]) {
            assert!(stats.keys().any(|(h, _)| *h == hook as u32), "{} saw no packet", hook.name());
        }
    });
}

#[test]
fn they_agree_when_the_flow_table_is_full() {
    Kernel::namespace().run(|| {
        let mut kernel = Kernel::load(8192);
        let mut world = scene::world();
        world.flows_capacity = 16_384;
        // Room for one pair, and for half of another.
        for n in 0..world.flows_capacity - 3 {
            let pad = [n & 0x7f, n >> 7].map(|part| u8::try_from(part).expect("seven bits"));
            let src = Address::v4([203, 0, pad[0], pad[1]]);
            world.flows.insert(FlowKey { src, ..FlowKey::default() }, Flow::default());
        }
        converse(1, 8 * PACKETS, &mut kernel, &mut world);
        let answered =
            world.embryonic.values().any(|flow| !flow.has(Flow::ORIGINAL) && flow.packets > 1);
        assert!(answered, "an answered flow found no room");
        assert_eq!(kernel.stats(), world.stats);
    });
}

/// One sequence of packets, each sent through both.
fn converse(seed: u64, packets: usize, kernel: &mut Kernel, world: &mut World) {
    let mut generator = Generator::new(Random::new(seed));
    let config = world.config_mut();
    config.seed = u32::from(generator.random().word());
    let last = generator.random().pick(&[2000, 2002]);
    if generator.random().once_in(4) {
        // So few ports that they run out at once.
        config.snat_low = PortRange { first: 2000, last };
        config.snat_high = PortRange::EMPTY;
        generator.crowd();
    }
    if generator.random().once_in(2) {
        world.config_mut().features ^= Config::SNAT_PORTS_KEPT;
    }
    if generator.random().once_in(2) {
        world.config_mut().features |= Config::UDP_LISTED;
        world.uplinks.values_mut().for_each(|uplink| uplink.flags |= Uplink::XDP);
    }
    if generator.random().once_in(2) {
        world.uplinks.values_mut().for_each(|uplink| uplink.flags |= Uplink::FIXED_SOURCE6);
    }
    kernel.mirror(world);
    for n in 0..packets {
        let step = std::iter::repeat_with(|| generator.step())
            .find(|step| Kernel::takes(&step.frame))
            .expect("most packets can be run");
        world.now = now();
        let mut frame = step.frame.clone();
        let verdict = model::run(step.hook, &mut frame, world);
        let ran = kernel.run(step.hook, &step.frame);
        agree(&format!("packet {n}"), &step, verdict, &frame.bytes, &ran, kernel, world);
        generator.saw(&step, &frame, verdict);
        change_the_world(&mut generator, kernel, world);
    }
    assert_eq!(kernel.flows(), sorted(&world.flows));
    assert_eq!(kernel.embryonic(), sorted(&world.embryonic));
    assert_eq!(kernel.fragments(), sorted(&world.fragments));
    assert_eq!(kernel.syn_rates(), sorted(&world.syn_rates));
}

fn sorted<K: Copy + Ord, V: Copy>(table: &HashMap<K, V>) -> BTreeMap<K, V> {
    table.iter().map(|(key, value)| (*key, *value)).collect()
}

/// The kernel's second: the programs have noticed it, and it lasts for a while yet.
fn now() -> u32 {
    loop {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
        if (170_000_000..990_000_000).contains(&now.tv_nsec()) {
            return u32::try_from(now.tv_sec()).expect("seconds");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn agree(
    which: &str,
    step: &Step,
    verdict: Verdict,
    bytes: &[u8],
    ran: &Ran,
    kernel: &Kernel,
    world: &World,
) {
    let outcome = verdict.outcome();
    let counters = (kernel.counter(step.hook, outcome), world.counter(step.hook, outcome));
    if ran.action == action(verdict) && ran.bytes == bytes && counters.0 == counters.1 {
        return;
    }
    panic!(
        "{which}: the model says {verdict:?}, the kernel does {}\n{step:02x?}\nmodel  {bytes:02x?}\n\
         kernel {:02x?}\nmodel  {:?}\nkernel {:?}",
        ran.action,
        ran.bytes,
        world.stats,
        kernel.stats(),
    );
}

/// Now and then the routes change, or the LRU lets go of an entry.
fn change_the_world(generator: &mut Generator, kernel: &mut Kernel, world: &mut World) {
    let random = generator.random();
    if random.once_in(60) {
        world.raise_generation();
        kernel.set_config(*world.config_mut());
    }
    if random.once_in(60) {
        let mut keys: Vec<_> = world.embryonic.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        keys.sort();
        let key = random.pick(&keys);
        world.embryonic.remove(&key);
        kernel.evict(&key);
    }
    if random.once_in(60) {
        let mut keys: Vec<_> = world.fragments.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        keys.sort();
        let key = random.pick(&keys);
        world.fragments.remove(&key);
        kernel.forget(&key);
    }
}

fn report(stats: &BTreeMap<(u32, u32), netd_common::abi::Counter>) {
    for hook in Hook::ALL {
        let of_hook = stats.iter().filter(|((h, _), _)| *h == hook as u32);
        for ((_, outcome), counter) in of_hook {
            let name = netd_common::verdict::outcome_name(*outcome).map_or("?", |(name, _)| name);
            eprintln!("{:>15} {name:<22} {}", hook.name(), counter.packets);
        }
    }
}
