//! What outlives the agent, in one redb file: networks, containers, address
//! pools and the journal of intents. Every write is one durable transaction. It must not
//! know what a plan's steps do.
//!
//! The journal: a plan is written before its first step and deleted in the
//! transaction that commits its changes. One that is found at start is a plan
//! of which nobody knows how far it came; the executor rolls it back.

mod error;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::StoreError;
use self::error::{Doing, translate};
use crate::{
    controller::{Change, Plan, State},
    model::{Id, IpamPool, PoolId},
};

type Json = TableDefinition<'static, &'static str, &'static [u8]>;

const NETWORKS: Json = Json::new("networks");
const CONTAINERS: Json = Json::new("containers");
const POOLS: Json = Json::new("pools");
/// By pool and address.
const LEASES: TableDefinition<(&str, &str), ()> = TableDefinition::new("leases");
const INTENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("intents");
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

const SCHEMA: &str = "schema";
const SCHEMA_VERSION: &str = "1";
const BOOT: &str = "boot";
const HOST: &str = "host";

/// An intent's place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentId(u64);

/// The store. Its calls block for as long as the disk takes.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store's file, or creates it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.clone()),
            other => translate(&path, other.into(), Doing::Open),
        })?;
        let store = Self { database, path };
        store.initialise()?;
        Ok(store)
    }

    fn initialise(&self) -> Result<(), StoreError> {
        let found = self.write(|write| {
            // Created here, so that no reader meets a table that isn't there.
            write.open_table(NETWORKS)?;
            write.open_table(CONTAINERS)?;
            write.open_table(POOLS)?;
            write.open_table(LEASES)?;
            write.open_table(INTENTS)?;
            let mut meta = write.open_table(META)?;
            let found = meta.get(SCHEMA)?.map(|found| found.value().to_owned());
            if found.is_none() {
                meta.insert(SCHEMA, SCHEMA_VERSION)?;
            }
            Ok(found)
        })?;
        match found {
            Some(found) if found != SCHEMA_VERSION => {
                Err(StoreError::Schema { path: self.path.clone(), found })
            }
            _ => Ok(()),
        }
    }

    /// Everything that was committed.
    pub fn load(&self) -> Result<State, StoreError> {
        Ok(State {
            networks: self
                .values(NETWORKS)?
                .into_iter()
                .map(|network: crate::model::Network| (network.id.clone(), network))
                .collect(),
            containers: self
                .values(CONTAINERS)?
                .into_iter()
                .map(|container: crate::model::Container| (container.id.clone(), container))
                .collect(),
            pools: self.pools()?,
        })
    }

    fn pools(&self) -> Result<BTreeMap<PoolId, IpamPool>, StoreError> {
        let pools = self.values::<IpamPool>(POOLS)?;
        let mut pools: BTreeMap<_, _> =
            pools.into_iter().map(|pool| (pool.id.clone(), pool)).collect();
        let leases = self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(LEASES)?.iter()? {
                let (key, _) = entry?;
                let (pool, address) = key.value();
                found.push((PoolId::from(pool.to_owned()), address.to_owned()));
            }
            Ok(found)
        })?;
        for (id, address) in leases {
            // One that is no address was written by nobody.
            if let (Some(pool), Ok(address)) = (pools.get_mut(&id), address.parse()) {
                pool.leases.insert(address);
            }
        }
        Ok(pools)
    }

    /// Writes `plan` to the journal: to be called before its first step.
    pub fn begin(&self, plan: &Plan) -> Result<IntentId, StoreError> {
        let plan = json(plan);
        self.write(|write| {
            let mut intents = write.open_table(INTENTS)?;
            let next = intents.last()?.map_or(0, |(last, _)| last.value() + 1);
            intents.insert(next, plan.as_slice())?;
            Ok(IntentId(next))
        })
    }

    /// Commits `changes` and ends the intent, both or neither.
    pub fn commit(&self, intent: IntentId, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|write| {
            put(write, changes)?;
            write.open_table(INTENTS)?.remove(intent.0)?;
            Ok(())
        })
    }

    /// Commits changes that need no step.
    pub fn put(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|write| put(write, changes))
    }

    /// Ends an intent whose plan was undone.
    pub fn abort(&self, intent: IntentId) -> Result<(), StoreError> {
        self.commit(intent, &[])
    }

    /// Plans that an earlier agent began and neither committed nor aborted,
    /// the newest first: the order in which to roll them back.
    pub fn pending(&self) -> Result<Vec<(IntentId, Plan)>, StoreError> {
        let found = self.read(|read| {
            let intents = read.open_table(INTENTS)?;
            let mut found = Vec::new();
            for entry in intents.iter()?.rev() {
                let (id, plan) = entry?;
                found.push((IntentId(id.value()), plan.value().to_vec()));
            }
            Ok(found)
        })?;
        found.into_iter().map(|(id, plan)| Ok((id, self.parse(&plan)?))).collect()
    }

    /// Notes the host's boot id. Whether it is another than the last time:
    /// then no link, namespace or process of the state is left.
    pub fn rebooted(&self, boot_id: &str) -> Result<bool, StoreError> {
        self.write(|write| {
            let mut meta = write.open_table(META)?;
            let last = meta.insert(BOOT, boot_id)?;
            Ok(last.is_some_and(|last| last.value() != boot_id))
        })
    }

    /// A name of this host for hosts that have none: the first that was given.
    pub fn host_id(&self, fresh: &Id) -> Result<Id, StoreError> {
        let kept = self.write(|write| {
            let mut meta = write.open_table(META)?;
            let kept = meta.get(HOST)?.map(|kept| kept.value().to_owned());
            if kept.is_none() {
                meta.insert(HOST, fresh.as_str())?;
            }
            Ok(kept)
        })?;
        // One that is no id was written by nobody.
        Ok(kept.and_then(|kept| Id::try_from(kept).ok()).unwrap_or_else(|| fresh.clone()))
    }

    fn values<T: DeserializeOwned>(&self, table: Json) -> Result<Vec<T>, StoreError> {
        let found = self.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(table)?.iter()? {
                found.push(entry?.1.value().to_vec());
            }
            Ok(found)
        })?;
        found.iter().map(|value| self.parse(value)).collect()
    }

    fn parse<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(value).map_err(|source| StoreError::Corrupt {
            path: self.path.clone(),
            source: source.into(),
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || work(&self.database.begin_read()?);
        run().map_err(|error| translate(&self.path, error, Doing::Read))
    }

    /// One transaction: durable when it returns.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let write = self.database.begin_write()?;
            let result = work(&write)?;
            write.commit()?;
            Ok(result)
        };
        run().map_err(|error| translate(&self.path, error, Doing::Write))
    }
}

fn put(write: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    let mut networks = write.open_table(NETWORKS)?;
    let mut containers = write.open_table(CONTAINERS)?;
    let mut pools = write.open_table(POOLS)?;
    let mut leases = write.open_table(LEASES)?;
    for change in changes {
        match change {
            Change::PutNetwork(network) => {
                networks.insert(network.id.as_str(), json(network).as_slice())?;
            }
            Change::RemoveNetwork(id) => {
                networks.remove(id.as_str())?;
            }
            Change::PutContainer(container) => {
                containers.insert(container.id.as_str(), json(container).as_slice())?;
            }
            Change::RemoveContainer(id) => {
                containers.remove(id.as_str())?;
            }
            Change::PutPool(pool) => {
                pools.insert(pool.id.as_str(), json(pool).as_slice())?;
            }
            Change::RemovePool(id) => {
                pools.remove(id.as_str())?;
                leases.retain(|(pool, _), ()| pool != id.as_str())?;
            }
            Change::Lease(id, ip) => {
                leases.insert((id.as_str(), ip.to_string().as_str()), ())?;
            }
            Change::Release(id, ip) => {
                leases.remove((id.as_str(), ip.to_string().as_str()))?;
            }
        }
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value)
        .unwrap_or_else(|_| unreachable!("the model has no key that JSON can't have"))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_file_as_a_power_cut_leaves_it_still_has_the_intent() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("s"), dir.path().join("copy"));
        let store = Store::open(&path).unwrap();
        store.put(&[Change::PutNetwork(network(1))]).unwrap();
        store.begin(&plan()).unwrap();
        // Open, neither closed nor flushed by anything but the transactions.
        std::fs::copy(&path, &copy).unwrap();
        let copy = Store::open(&copy).unwrap();
        assert_eq!(copy.pending().unwrap().len(), 1);
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
}
