//! Every verdict of every program, against the kernel: the table of
//! `netd_common::model::cases`, packets byte for byte.
//!
//! Not here, because a test run can't bring them about (the model's own tests
//! have them): frames shorter than their headers, VLAN tags set aside, netd's
//! mark on a packet, and `edit_failed`, for which memory has to run out.

use std::collections::BTreeSet;

use netd_common::{
    model::{
        Layer4,
        cases::{FAMILIES, cases},
        scene::{self, CLIENT, HOST, OUTSIDE, UP0, incoming},
    },
    verdict::{DropReason, Hook, Verdict},
};
use netd_tests::{
    Kernel,
    kernel::{SHOT, action},
};

#[test]
fn programs_do_with_packets_what_the_table_says() {
    Kernel::namespace().run(|| {
        let mut kernel = Kernel::load(4096);
        for case in cases().iter().filter(|case| !case.model_only) {
            let what = case.name();
            kernel.mirror(&case.world());
            for (hook, frame) in &case.before {
                assert_ne!(kernel.run(*hook, frame).action, SHOT, "{what}: an earlier packet");
            }
            let before = kernel.stats();
            let ran = kernel.run(case.hook, &case.frame);
            let mut expected = before;
            let counter = expected.entry((case.hook as u32, case.verdict.outcome())).or_default();
            counter.packets += 1;
            counter.bytes += case.frame.bytes.len() as u64;
            assert_eq!(kernel.stats(), expected, "{what}: {:?}", case.verdict);
            assert_eq!(ran.action, action(case.verdict), "{what}");
            assert_eq!(ran.bytes, case.bytes, "{what}");
        }
    });
}

#[test]
fn what_is_not_shown_by_a_program_is_known() {
    let shown: BTreeSet<_> =
        cases().iter().filter(|case| !case.model_only).map(|case| case.verdict.outcome()).collect();
    let missing = |reason: &&DropReason| !shown.contains(&Verdict::drop(**reason).outcome());
    let missing: Vec<_> = DropReason::ALL.iter().filter(missing).collect();
    // No packet is dropped for being a fragment any more.
    // The others need a kernel that refuses, or a table of the least size full.
    let unseen = [DropReason::Fragment, DropReason::EditFailed, DropReason::FlowTableFull];
    assert_eq!(missing, unseen.each_ref());
    for verdict in [Verdict::PASS, Verdict::TRANSLATED, Verdict::deliver(1), Verdict::forward(1)] {
        assert!(shown.contains(&verdict.outcome()), "{verdict:?} is missing");
    }
}

#[test]
fn without_their_slow_programs_the_fast_ones_drop() {
    Kernel::namespace().run(|| {
        for f in FAMILIES {
            let mut kernel = Kernel::load(1024);
            kernel.mirror(&scene::world());
            let layer4 = Layer4::Udp { sport: 40_000, dport: 53 };
            let out = CLIENT.sends(OUTSIDE[f], layer4);
            let asking = Layer4::Udp { sport: 40_000, dport: 5353 };
            let unknown = incoming(OUTSIDE[f], HOST[f], asking);
            for (hook, frame) in [
                (Hook::FromContainer, CLIENT.frame(&out)),
                (Hook::FromUplink, scene::frame(UP0, unknown.frame())),
                (Hook::ToUplink, scene::frame(UP0, out.frame())),
            ] {
                assert_ne!(kernel.run(hook, &frame).action, SHOT, "{} with it", hook.name());
                kernel.unchain(hook);
                kernel.mirror(&scene::world());
                assert_eq!(kernel.run(hook, &frame).action, SHOT, "{} without it", hook.name());
                let outcome = Verdict::drop(DropReason::NotConfigured).outcome();
                assert_eq!(kernel.counter(hook, outcome).packets, 1, "{}", hook.name());
            }
        }
    });
}
