//! What a store that is closed, killed or copied still has.

use super::*;
use crate::controller::Op;

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.apply(Op::RunDir { path: "/run/netd/containers/x".into() });
    plan
}

fn network(byte: u8) -> crate::model::Network {
    crate::model::Network {
        id: Id::from_bytes([byte; 32]),
        name: format!("net{byte}").parse().unwrap(),
        owner: crate::model::Owner::Netd,
        index: u32::from(byte),
        bridge: format!("br{byte}").parse().unwrap(),
        bridge_mac: "02:6e:64:00:00:01".parse().unwrap(),
        mtu: 1500,
        mtu_fixed: false,
        pools: vec![],
        internal: false,
        ipv6: false,
        icc: true,
        masquerade: true,
        border4: crate::model::Border::default(),
        border6: crate::model::Border::default(),
        inhibit_ipv4: false,
        trusted: vec![],
        syn_rate: 0,
        max_flows: 0,
        host_binding: "0.0.0.0".parse().unwrap(),
        container_prefix: "eth".into(),
        options: [].into(),
        labels: [].into(),
        created: "2026-01-01T00:00:00Z".into(),
    }
}

#[test]
fn an_intent_survives_a_crash_until_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netd.redb");
    let change = Change::PutNetwork(network(1));

    let store = Store::open(&path).unwrap();
    store.begin(&plan()).unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), State::default());
    let pending = store.pending().unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].1, plan());
    store.commit(pending[0].0, std::slice::from_ref(&change)).unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert!(store.pending().unwrap().is_empty());
    let mut expected = State::default();
    expected.commit(change);
    assert_eq!(store.load().unwrap(), expected);
}

/// The files as they are now, of a store that is open: no more is done to
/// them than was done when its calls returned.
fn copied(dir: &Path, files: &[&str]) -> Store {
    let to = tempfile::tempdir_in(dir).unwrap().keep();
    for file in files {
        std::fs::copy(dir.join(file), to.join(file)).unwrap();
    }
    Store::open(&to.join("s.redb")).unwrap()
}

#[test]
fn a_power_cut_takes_no_network() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.redb")).unwrap();
    let intent = store.begin(&plan()).unwrap();
    store.commit(intent, &[Change::PutNetwork(network(1))]).unwrap();
    store.begin(&plan()).unwrap();
    let copy = copied(dir.path(), &["s.redb"]);
    assert_eq!(copy.load().unwrap().networks.len(), 1);
    assert!(copy.pending().unwrap().is_empty());
}

#[test]
fn a_killed_agent_leaves_intents_and_all_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.redb")).unwrap();
    let gone = Change::RemoveContainer(Id::from_bytes([9; 32]));
    for change in [Change::PutNetwork(network(1)), gone.clone()] {
        let intent = store.begin(&plan()).unwrap();
        store.commit(intent, &[change]).unwrap();
    }
    store.begin(&plan()).unwrap();
    let copy = copied(dir.path(), &["s.redb", "s.journal"]);
    let pending: Vec<_> = copy.pending().unwrap().into_iter().map(|(_, plan)| plan).collect();
    assert_eq!(pending, [plan()]);
    assert_eq!(copy.load().unwrap().networks.len(), 1);
}

#[test]
fn an_aborted_intent_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s")).unwrap();
    let intent = store.begin(&plan()).unwrap();
    store.abort(intent).unwrap();
    assert!(store.pending().unwrap().is_empty());
    assert_eq!(store.load().unwrap(), State::default());
}

#[test]
fn what_is_removed_is_gone_and_the_newest_intent_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s")).unwrap();
    store.put(&[Change::PutNetwork(network(1)), Change::PutNetwork(network(2))]).unwrap();
    store.put(&[Change::RemoveNetwork(network(1).id)]).unwrap();
    let left: Vec<_> = store.load().unwrap().networks.into_values().collect();
    assert_eq!(left, [network(2)]);

    let first = store.begin(&plan()).unwrap();
    let second = store.begin(&Plan::default()).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("s")).unwrap();
    let order: Vec<_> = store.pending().unwrap().into_iter().map(|p| p.0).collect();
    assert_eq!(order, [second, first]);
}

#[test]
fn a_pools_leases_are_kept_one_by_one_and_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s")).unwrap();
    let pool = |subnet: &str| {
        let subnet = subnet.parse().unwrap();
        IpamPool {
            id: PoolId::new("netd-local", subnet, None),
            subnet,
            range: None,
            leases: [].into(),
            created: String::new(),
        }
    };
    let (one, other) = (pool("10.1.0.0/16"), pool("10.2.0.0/16"));
    let lease = |pool: &IpamPool, ip: &str| Change::Lease(pool.id.clone(), ip.parse().unwrap());
    store
        .put(&[
            Change::PutPool(one.clone()),
            Change::PutPool(other.clone()),
            lease(&one, "10.1.0.1"),
            lease(&one, "10.1.0.2"),
            lease(&other, "10.2.0.1"),
            Change::Release(one.id.clone(), "10.1.0.2".parse().unwrap()),
        ])
        .unwrap();
    let pools = store.load().unwrap().pools;
    assert_eq!(pools[&one.id].leases, ["10.1.0.1".parse().unwrap()].into());
    store.put(&[Change::RemovePool(one.id.clone()), Change::PutPool(one.clone())]).unwrap();
    let pools = store.load().unwrap().pools;
    assert!(pools[&one.id].leases.is_empty());
    assert_eq!(pools[&other.id].leases.len(), 1);
}

#[test]
fn a_reboot_is_noticed_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s")).unwrap();
    assert!(!store.rebooted("a").unwrap());
    assert!(!store.rebooted("a").unwrap());
    assert!(store.rebooted("b").unwrap());
    assert!(!store.rebooted("b").unwrap());
}

#[test]
fn the_hosts_id_is_the_first_that_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s")).unwrap();
    let (first, other) = (Id::from_bytes([1; 32]), Id::from_bytes([2; 32]));
    assert_eq!(store.host_id(&first).unwrap(), first);
    assert_eq!(store.host_id(&other).unwrap(), first);
}

#[test]
fn a_file_that_is_no_store_and_a_store_in_use_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, "not a database, but long enough to be read".repeat(100)).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("the store `{}` is damaged", path.display()));
    assert!(error.hint().is_some());

    std::fs::remove_file(&path).unwrap();
    let _open = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
}
