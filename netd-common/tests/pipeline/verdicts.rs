//! Every verdict, and every reason to drop.

use std::collections::BTreeSet;

use netd_common::{
    model::{
        self, Datagram,
        cases::{self, Case},
        checksums,
    },
    verdict::{DropReason, Hook, Verdict, outcome_name},
};

#[test]
fn packets_become_what_the_table_says() {
    let wrong: Vec<_> = cases::cases().iter().filter_map(|case| follows(case).err()).collect();
    assert!(wrong.is_empty(), "{} of the table:\n{}", wrong.len(), wrong.join("\n"));
}

/// What of it is not as the table says.
fn follows(case: &Case) -> Result<(), String> {
    let what = case.name();
    let mut world = case.world();
    for (hook, frame) in &case.before {
        let verdict = model::run(*hook, &mut frame.clone(), &mut world);
        if verdict.is_drop() {
            return Err(format!("{what}: an earlier packet at {}: {verdict:?}", hook.name()));
        }
    }
    let before = world.stats.clone();
    let mut frame = case.frame.clone();
    let verdict = model::run(case.hook, &mut frame, &mut world);
    if verdict != case.verdict {
        return Err(format!("{what}: {verdict:?} instead of {:?}", case.verdict));
    }
    if verdict != Verdict::drop(DropReason::EditFailed) && frame.bytes != case.bytes {
        let (got, wanted) = (Datagram::parse(&frame.bytes), Datagram::parse(&case.bytes));
        return Err(format!("{what}:\n  {got:x?}\nwanted\n  {wanted:x?}"));
    }
    if verdict.is_forward() || verdict.is_deliver() || verdict == Verdict::TRANSLATED {
        checksums(&frame.bytes).map_err(|error| format!("{what}: {error}"))?;
    }
    let counted: Vec<_> =
        world.stats.iter().filter(|(at, counter)| before.get(at) != Some(counter)).collect();
    assert_eq!(counted.len(), 1, "{what}: one counter moves");
    assert_eq!(*counted[0].0, (case.hook as u32, case.verdict.outcome()), "{what}");
    Ok(())
}

#[test]
fn the_table_has_every_verdict_of_every_hook() {
    use DropReason as R;
    // `established` and `finish` are shared, so a reason stands where a packet
    // can bring it about. Martian sources matter to published ports only: the
    // stack has its own word on the others.
    let reasons: [(Hook, &[R]); 6] = [
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
                R::Martian,
                R::PortsExhausted,
                R::NoUplink,
                R::UnsupportedProtocol,
                R::NoFlow,
                R::NoEndpoint,
                R::EditFailed,
                R::NotConfigured,
                R::NotAllowed,
                R::FragmentOrder,
                R::TupleTaken,
                R::UnrelatedError,
                R::SpoofedNdp,
                R::RogueRouter,
                R::HostIsolated,
                R::FlowTableFull,
                R::FlowQuota,
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
                R::NoFlow,
                R::NoEndpoint,
                R::EditFailed,
                R::NotConfigured,
                R::NotAllowed,
                R::SynRate,
                R::FragmentOrder,
                R::FlowTableFull,
                R::FlowQuota,
            ],
        ),
        (
            Hook::ToUplink,
            &[
                R::Malformed,
                R::SpoofedAddress,
                R::Isolated,
                R::Internal,
                R::PortsExhausted,
                R::NoUplink,
                R::UnsupportedProtocol,
                R::NoFlow,
                R::EditFailed,
                R::NotConfigured,
                R::FragmentOrder,
                R::UnrelatedError,
                R::FlowQuota,
            ],
        ),
        (Hook::FromHost, &[]),
        (Hook::UplinkXdp, &[R::Martian, R::NotAllowed, R::SynRate]),
    ];
    let mut all = BTreeSet::new();
    for (hook, expected) in reasons {
        let of_hook = cases::cases().into_iter().filter(|case| case.hook == hook);
        let seen: BTreeSet<_> = of_hook.map(|case| case.verdict.outcome()).collect();
        let drops = expected.iter().map(|reason| Verdict::drop(*reason).outcome());
        let forwarded: &[Verdict] = match hook {
            Hook::FromContainer => &[Verdict::PASS, Verdict::deliver(1), Verdict::forward(1)],
            Hook::ToContainer | Hook::UplinkXdp | Hook::FromHost => &[Verdict::PASS],
            Hook::FromUplink => &[Verdict::PASS, Verdict::deliver(1)],
            Hook::ToUplink => &[Verdict::PASS, Verdict::TRANSLATED],
            Hook::Socket => &[],
        };
        let expected: BTreeSet<_> =
            forwarded.iter().map(|verdict| verdict.outcome()).chain(drops).collect();
        let names = |set: &BTreeSet<u32>| set.iter().map(|o| outcome_name(*o)).collect::<Vec<_>>();
        assert_eq!(names(&seen), names(&expected), "{}", hook.name());
        all.extend(seen);
    }
    // No packet is dropped for being a fragment any more.
    for reason in DropReason::ALL.iter().filter(|reason| **reason != R::Fragment) {
        assert!(all.contains(&Verdict::drop(*reason).outcome()), "{} is missing", reason.name());
    }
}
