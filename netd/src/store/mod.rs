//! What outlives the agent: networks, containers and address pools in one redb
//! file, and beside it the journal of intents and of what has just been committed. It
//! must not know what a plan's steps do.
//!
//! A plan is in the journal before its first step, and its changes when it is
//! committed: one write, so that either both ends of it are there or neither.
//! One that is found open at start is a plan of which nobody knows how far it
//! came; the executor rolls it back. A checkpoint carries what was committed
//! over to the database, in one durable transaction for many: to flush the
//! disk for each would cost more than everything else of an attachment does.
//! A network is carried over before its commit returns, for it outlives a
//! power cut.

mod error;
mod journal;
mod open;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::StoreError;
use self::{
    error::{Doing, translate},
    journal::Journal,
};
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
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

const SCHEMA: &str = "schema";
const SCHEMA_VERSION: &str = "1";
const BOOT: &str = "boot";
const HOST: &str = "host";
/// The last commit of the journal that the database has.
const CARRIED: &str = "carried";

/// How long commits are gathered before they are carried over.
const GATHER: Duration = Duration::from_millis(50);
/// A journal of this many bytes is carried over before it grows further.
const MOST: u64 = 64 << 20;

/// An intent's place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentId(u64);

/// The store. Its calls block for as long as the disk takes.
#[derive(Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// Wakes the one that carries commits over; dropped to end it.
    committed: Option<mpsc::Sender<()>>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    /// `None` after an error of the disk's: redb refuses all further work until
    /// the file is opened anew.
    database: Mutex<Option<Database>>,
    path: PathBuf,
    journal: Mutex<Journal>,
    /// One checkpoint at a time.
    carrying: Mutex<()>,
}

impl Store {
    /// Opens the store's file, or creates it; the journal is beside it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let journal = path.with_extension("journal");
        let database = open::database(&path, &journal)?;
        let carried = initialise(&database, &path)?;
        let journal = Journal::open(&journal, carried)
            .map_err(|error| translate(&journal, error.into(), Doing::Open))?;
        let (database, journal) = (Mutex::new(Some(database)), Mutex::new(journal));
        let inner = Inner { database, path, journal, carrying: Mutex::default() };
        inner.carry_over(&[], None)?;
        let inner = Arc::new(inner);
        let (committed, wake) = mpsc::channel();
        let carrier = Arc::clone(&inner);
        let carrier = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || carrier.keep_carrying(&wake))
            .map_err(|error| translate(&inner.path, error.into(), Doing::Open))?;
        Ok(Self { inner, committed: Some(committed), carrier: Some(carrier) })
    }

    /// Everything that was committed.
    pub fn load(&self) -> Result<State, StoreError> {
        self.inner.carry_over(&[], None)?;
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
        let begun = self.inner.journal().begin(plan);
        begun.map_err(|error| self.inner.failed_to_write(error))
    }

    /// Commits `changes` and ends the intent, both or neither.
    pub fn commit(&self, intent: IntentId, changes: &[Change]) -> Result<(), StoreError> {
        self.end(Some(intent), changes)
    }

    /// Commits changes that need no step.
    pub fn put(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.end(None, changes)
    }

    fn end(&self, intent: Option<IntentId>, changes: &[Change]) -> Result<(), StoreError> {
        if !changes.iter().all(outlasts_no_power_cut) || self.inner.journal().length() > MOST {
            return self.inner.carry_over(changes, intent);
        }
        let committed = self.inner.journal().commit(intent, changes);
        committed.map_err(|error| self.inner.failed_to_write(error))?;
        if let Some(committed) = &self.committed {
            // It ends after us only.
            let _ = committed.send(());
        }
        Ok(())
    }

    /// Ends an intent whose plan was undone.
    pub fn abort(&self, intent: IntentId) -> Result<(), StoreError> {
        let aborted = self.inner.journal().abort(intent);
        aborted.map_err(|error| self.inner.failed_to_write(error))
    }

    /// Plans that an earlier agent began and neither committed nor aborted,
    /// the newest first: the order in which to roll them back.
    pub fn pending(&self) -> Result<Vec<(IntentId, Plan)>, StoreError> {
        let journal = self.inner.journal();
        let pending = journal.pending.iter().rev();
        Ok(pending.map(|(id, plan)| (IntentId(*id), plan.clone())).collect())
    }

    /// Notes the host's boot id. Whether it is another than the last time:
    /// then no link, namespace or process of the state is left.
    pub fn rebooted(&self, boot_id: &str) -> Result<bool, StoreError> {
        self.inner.write(|write| {
            let mut meta = write.open_table(META)?;
            let last = meta.insert(BOOT, boot_id)?;
            Ok(last.is_some_and(|last| last.value() != boot_id))
        })
    }

    /// A name of this host for hosts that have none: the first that was given.
    pub fn host_id(&self, fresh: &Id) -> Result<Id, StoreError> {
        let kept = self.inner.write(|write| {
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
            path: self.inner.path.clone(),
            source: source.into(),
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.inner.with_database(Doing::Read, |database| work(&database.begin_read()?))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.committed = None;
        if let Some(carrier) = self.carrier.take() {
            // One that panicked has nothing left to be waited for.
            let _ = carrier.join();
        }
    }
}

impl Inner {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_to_write(&self, error: std::io::Error) -> StoreError {
        translate(&self.path, error.into(), Doing::Write)
    }

    /// Carries over what is committed, some at a time, until the store is
    /// closed; then what is left.
    fn keep_carrying(&self, wake: &mpsc::Receiver<()>) {
        while wake.recv().is_ok() {
            let due = Instant::now() + GATHER;
            while wake.recv_timeout(due.saturating_duration_since(Instant::now())).is_ok() {}
            if let Err(error) = self.carry_over(&[], None) {
                // They are in the journal; the next commit tries again.
                tracing::error!("failed to carry commits over to the store: {error}");
            }
        }
    }

    /// A checkpoint: what is in the journal and then `changes`, which end
    /// `intent`, in one durable transaction.
    fn carry_over(&self, changes: &[Change], intent: Option<IntentId>) -> Result<(), StoreError> {
        let _alone = self.carrying.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, mut all) = {
            let journal = self.journal();
            if journal.is_carried_over() && changes.is_empty() && intent.is_none() {
                return Ok(());
            }
            let (last, fresh) = journal.fresh();
            (last, fresh.cloned().collect::<Vec<_>>())
        };
        all.extend_from_slice(changes);
        self.write(|write| {
            put(write, &all)?;
            write.open_table(META)?.insert(CARRIED, last.to_string().as_str())?;
            Ok(())
        })?;
        let mut journal = self.journal();
        if let Some(intent) = intent {
            // One that can't be noted is undone at the next start, and what
            // the state says is made again.
            if let Err(error) = journal.abort(intent) {
                tracing::error!("failed to end an intent: {error}");
                journal.end(intent);
            }
        }
        if let Err(error) = journal.carried_over(last) {
            tracing::error!("failed to begin the journal anew: {error}");
        }
        Ok(())
    }

    /// One transaction: durable when it returns.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with_database(Doing::Write, |database| write_to(database, work))
    }

    /// Does `work` on the database, which is opened anew if the disk failed it
    /// the last time.
    fn with_database<T>(
        &self,
        doing: Doing,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => open::database(&self.path, &self.path.with_extension("journal"))?,
        };
        let result = work(&database);
        if !matches!(result, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *slot = Some(database);
        }
        result.map_err(|error| translate(&self.path, error, doing))
    }
}

/// Whether a change is void after a power cut: containers end with it, and
/// those that come back ask for their addresses anew.
fn outlasts_no_power_cut(change: &Change) -> bool {
    match change {
        Change::PutContainer(_)
        | Change::RemoveContainer(_)
        | Change::Lease(..)
        | Change::Release(..) => true,
        Change::PutNetwork(_)
        | Change::RemoveNetwork(_)
        | Change::PutPool(_)
        | Change::RemovePool(_) => false,
    }
}

/// Makes the tables; the number of the last commit that is in them.
fn initialise(database: &Database, path: &Path) -> Result<u64, StoreError> {
    let initialised = write_to(database, |write| {
        // Created here, so that no reader meets a table that isn't there.
        write.open_table(NETWORKS)?;
        write.open_table(CONTAINERS)?;
        write.open_table(POOLS)?;
        write.open_table(LEASES)?;
        let mut meta = write.open_table(META)?;
        let found = meta.get(SCHEMA)?.map(|found| found.value().to_owned());
        if found.is_none() {
            meta.insert(SCHEMA, SCHEMA_VERSION)?;
        }
        let carried = meta.get(CARRIED)?.and_then(|carried| carried.value().parse().ok());
        Ok((found, carried))
    });
    let (found, carried) = initialised.map_err(|error| translate(path, error, Doing::Write))?;
    match found {
        Some(found) if found != SCHEMA_VERSION => {
            Err(StoreError::Schema { path: path.to_owned(), found })
        }
        _ => Ok(carried.unwrap_or(0)),
    }
}

fn write_to<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let write = database.begin_write()?;
    let result = work(&write)?;
    write.commit()?;
    Ok(result)
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
mod tests;
