//! A flow table of another size than the one that an earlier agent left: the
//! kernel can't resize a map, so the flows move to a new one. The old programs
//! go on with the old map until they are replaced, so flows are copied before
//! and after that, and the old map is let go of last.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError};
use netd_common::abi::{Flow, FlowKey, names};

use super::{
    Error, bpf,
    bpffs::failed as pins_failed,
    tables::{failed, pinned},
};

/// Where the old tables are pinned while their flows move.
const TABLES: [(&str, &str); 2] =
    [(names::FLOWS, "OLD_FLOWS"), (names::EMBRYONIC, "OLD_EMBRYONIC")];

/// Tables that are being replaced.
#[derive(Debug)]
pub(super) struct Resize {
    pins: PathBuf,
}

impl Resize {
    /// Puts tables out of the way that have another size than `flows` and
    /// `embryonic` entries. Refuses where the flows that live would not fit.
    pub(super) fn begin(pins: &Path, flows: u32, embryonic: u32) -> Result<Self, Error> {
        let resize = Self { pins: pins.to_owned() };
        // An earlier agent may have ended in the middle of it.
        resize.finish()?;
        let other = |name, wanted| other_size(pins, name, wanted);
        if let Some(table) = other(names::FLOWS, flows)? {
            let live = count(&table)?;
            if live > flows as usize {
                return Err(Error::FlowTableTooSmall { wanted: flows / 2, live: live / 2 });
            }
        }
        for ((name, old), wanted) in TABLES.into_iter().zip([flows, embryonic]) {
            if other(name, wanted)?.is_some() {
                let path = pins.join(name);
                fs::rename(&path, pins.join(old)).map_err(pins_failed(&path))?;
            }
        }
        Ok(resize)
    }

    /// Copies what the new tables do not have yet; the number of entries.
    pub(super) fn copy(&self) -> Result<usize, Error> {
        let mut copied = 0;
        for (name, old) in TABLES {
            let are_there = [name, old].iter().all(|name| self.pins.join(name).exists());
            if !are_there {
                continue;
            }
            let old = pinned(&self.pins, old)?;
            let new = pinned(&self.pins, name)?;
            let mut result = Ok(());
            walk(&old, name, |keys, flows| {
                for (key, flow) in keys.iter().zip(flows) {
                    match bpf::put_new(new.fd().as_fd(), key, flow) {
                        Ok(is_new) => copied += usize::from(is_new),
                        Err(error) => result = Err(MapError::IoError(error)),
                    }
                }
            })?;
            result.map_err(failed(name))?;
        }
        Ok(copied)
    }

    /// Copies what has come since, and lets go of the old tables. To be called
    /// when no program is left that writes them.
    pub(super) fn finish(&self) -> Result<(), Error> {
        self.copy()?;
        for (name, old) in TABLES {
            let (path, old) = (self.pins.join(name), self.pins.join(old));
            let done = if path.exists() {
                fs::remove_file(&old)
            } else {
                // The new one never came to be.
                fs::rename(&old, &path)
            };
            match done {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(pins_failed(&old)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The table, if there is one and it has not `wanted` entries.
fn other_size(pins: &Path, name: &'static str, wanted: u32) -> Result<Option<MapData>, Error> {
    if !pins.join(name).exists() {
        return Ok(None);
    }
    let table = pinned(pins, name)?;
    let size = table.info().map_err(failed(name))?.max_entries();
    Ok((size != wanted).then_some(table))
}

fn count(table: &MapData) -> Result<usize, Error> {
    let mut count = 0;
    walk(table, names::FLOWS, |keys, _| count += keys.len())?;
    Ok(count)
}

fn walk(
    table: &MapData,
    name: &'static str,
    visit: impl FnMut(&[FlowKey], &[Flow]),
) -> Result<(), Error> {
    bpf::walk(table.fd().as_fd(), visit).map_err(|source| Error::Walk { name, source })
}
