//! Opens the database, and does not take a damaged one for anything else.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Builder, Database, DatabaseError};

use super::error::{Doing, StoreError, translate};

/// The database at `path`, or a new one. Every page of one that is there is
/// checked: it is small. An empty file beside a `journal` was not always empty.
pub(super) fn database(path: &Path, journal: &Path) -> Result<Database, StoreError> {
    let damaged = |why: &str| StoreError::Corrupt { path: path.to_owned(), source: why.into() };
    let is_empty = fs::metadata(path).map_or(true, |file| file.len() == 0);
    if is_empty && path.exists() && journal.exists() {
        return Err(damaged("it is empty"));
    }
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    // redb takes some kinds of damage for its own mistake.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        if is_empty { builder.create(path) } else { builder.open(path) }
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::InUse(path.to_owned())),
        Ok(Err(error)) => Err(translate(path, error.into(), Doing::Open)),
        Err(_) => Err(damaged("its pages contradict each other")),
    }
}
