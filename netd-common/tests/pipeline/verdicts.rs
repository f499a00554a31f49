//! Every verdict, and every reason to drop.

use std::collections::BTreeSet;

use netd_common::{
    model::{self, cases},
    verdict::{DropReason, Hook, Verdict, outcome_name},
};

#[test]
fn packets_become_what_the_table_says() {
    for case in cases::cases() {
        let mut world = case.world();
        for (hook, frame) in &case.before {
            let verdict = model::run(*hook, &mut frame.clone(), &mut world);
            assert!(!verdict.is_drop(), "{}: an earlier packet: {verdict:?}", case.what);
        }
        let before = world.stats.clone();
        let mut frame = case.frame.clone();
        let verdict = model::run(case.hook, &mut frame, &mut world);
        let what = case.name();
        assert_eq!(verdict, case.verdict, "{what}");
        if verdict != Verdict::drop(DropReason::EditFailed) {
            assert_eq!(frame.bytes, case.bytes, "{what}");
        }
        let counted: Vec<_> =
            world.stats.iter().filter(|(at, counter)| before.get(at) != Some(counter)).collect();
        assert_eq!(counted.len(), 1, "{what}: one counter moves");
        assert_eq!(*counted[0].0, (case.hook as u32, case.verdict.outcome()), "{what}");
    }
}

#[test]
fn the_table_has_every_verdict_of_every_hook() {
    use DropReason as R;
    // `established` and `finish` are shared, so a reason stands where a packet
    // can bring it about. Martian sources matter to published ports only: the
    // stack has its own word on the others.
    let reasons: [(Hook, &[R]); 4] = [
        (
            Hook::FromContainer,
            &[
                R::Malformed,
                R::SpoofedAddress,
                R::SpoofedMac,
                R::SpoofedArp,
                R::UnknownEthertype,
                R::Ipv6Disabled,
                R::Isolated,
                R::IccDisabled,
                R::Internal,
                R::PortsExhausted,
                R::NoUplink,
                R::UnsupportedProtocol,
                R::Fragment,
                R::NoFlow,
                R::NoEndpoint,
                R::EditFailed,
                R::NotConfigured,
            ],
        ),
        (Hook::ToContainer, &[R::Malformed, R::Isolated, R::DirectAccess]),
        (
            Hook::FromUplink,
            &[
                R::Internal,
                R::DirectAccess,
                R::Martian,
                R::PortsExhausted,
                R::TtlExpired,
                R::NoEndpoint,
                R::EditFailed,
                R::NotConfigured,
            ],
        ),
        (
            Hook::ToUplink,
            &[
                R::Malformed,
                R::SpoofedAddress,
                R::Internal,
                R::PortsExhausted,
                R::NoUplink,
                R::UnsupportedProtocol,
                R::Fragment,
                R::NoFlow,
                R::EditFailed,
                R::NotConfigured,
            ],
        ),
    ];
    let mut all = BTreeSet::new();
    for (hook, expected) in reasons {
        let of_hook = cases::cases().into_iter().filter(|case| case.hook == hook);
        let seen: BTreeSet<_> = of_hook.map(|case| case.verdict.outcome()).collect();
        let drops = expected.iter().map(|reason| Verdict::drop(*reason).outcome());
        let forwarded: &[Verdict] = match hook {
            Hook::FromContainer => &[Verdict::PASS, Verdict::deliver(1), Verdict::forward(1)],
            Hook::ToContainer => &[Verdict::PASS],
            Hook::FromUplink => &[Verdict::PASS, Verdict::deliver(1)],
            Hook::ToUplink => &[Verdict::PASS, Verdict::TRANSLATED],
            Hook::UplinkXdp | Hook::Socket => &[],
        };
        let expected: BTreeSet<_> =
            forwarded.iter().map(|verdict| verdict.outcome()).chain(drops).collect();
        let names = |set: &BTreeSet<u32>| set.iter().map(|o| outcome_name(*o)).collect::<Vec<_>>();
        assert_eq!(names(&seen), names(&expected), "{}", hook.name());
        all.extend(seen);
    }
    for reason in DropReason::ALL {
        assert!(all.contains(&Verdict::drop(*reason).outcome()), "{} is missing", reason.name());
    }
}
