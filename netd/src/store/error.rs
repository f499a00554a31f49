//! What can be wrong with the store, in words that name its file.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::SCHEMA_VERSION;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to open the store `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("the store `{0}` is in use by another agent")]
    InUse(PathBuf),
    #[error("the store `{path}` is damaged")]
    Corrupt {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store `{path}` has schema {found}; this netd knows {SCHEMA_VERSION}")]
    Schema { path: PathBuf, found: String },
    #[error("no space left on the disk of the store `{0}`")]
    Full(PathBuf),
    #[error("failed to read the store `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("failed to write the store `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Corrupt { path, .. } => {
                let is_journal = path.extension().is_some_and(|it| it == "journal");
                let then = if is_journal {
                    "go on without what was done last"
                } else {
                    "start with an empty store"
                };
                Some(format!("move `{}` away to {then}", path.display()))
            }
            Self::Full(_) => Some("free some space and try again".to_owned()),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Doing {
    Open,
    Read,
    Write,
}

pub(super) fn translate(path: &Path, error: redb::Error, doing: Doing) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
            StoreError::Full(path)
        }
        // redb's answers to a file that is no database, and to one cut short.
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Corrupt { path, source: error.into() }
        }
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. } => {
            StoreError::Corrupt { path, source: error.into() }
        }
        error => {
            let source = Box::new(error);
            match doing {
                Doing::Open => StoreError::Open { path, source },
                Doing::Read => StoreError::Read { path, source },
                Doing::Write => StoreError::Write { path, source },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = redb::Error::from(redb::StorageError::Io(io::ErrorKind::StorageFull.into()));
        let error = translate(Path::new("/x"), full, Doing::Write);
        assert_eq!(error.to_string(), "no space left on the disk of the store `/x`");
    }
}
