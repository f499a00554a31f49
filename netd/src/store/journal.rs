//! The journal: plans that were begun, and what was committed since the last
//! checkpoint, a line of JSON each. A line is written before it is relied on,
//! and is then safe from the end of this process, though not from a power cut:
//! it is never flushed. What a power cut takes is void then anyway, for no
//! plan's links and no container's process outlives it; whatever does is
//! checkpointed at once (`super::Store::commit`).

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::IntentId;
use crate::controller::{Change, Plan};

/// A line, as it is written.
#[derive(Serialize)]
enum Line<'a> {
    Begin {
        id: u64,
        plan: &'a Plan,
    },
    /// Numbered, so that none is carried over twice.
    Commit {
        number: u64,
        intent: Option<u64>,
        changes: &'a [Change],
    },
    Abort {
        id: u64,
    },
}

/// A line, as it is read.
#[derive(Deserialize)]
enum Record {
    Begin { id: u64, plan: Box<Plan> },
    Commit { number: u64, intent: Option<u64>, changes: Vec<Change> },
    Abort { id: u64 },
}

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    next_intent: u64,
    next_commit: u64,
    /// Plans that an earlier agent began, and this one has not ended.
    pub(super) pending: BTreeMap<u64, Plan>,
    /// How many plans are begun and not ended, those of `pending` too.
    open: usize,
    /// Committed and not yet in the database, in order.
    fresh: Vec<(u64, Vec<Change>)>,
}

impl Journal {
    /// Opens or creates the file. `carried`: the last commit that is in the
    /// database already. A torn line, one without an end, is as if it had not
    /// been written: it was promised to nobody. So are the zeroes that a power
    /// cut may leave.
    ///
    /// # Errors
    ///
    /// `InvalidData` where another line can't be read: those behind it may have
    /// been promised.
    pub(super) fn open(path: &Path, carried: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut journal = Self {
            file,
            length: 0,
            next_intent: 0,
            next_commit: carried + 1,
            pending: BTreeMap::new(),
            open: 0,
            fresh: vec![],
        };
        let mut reader = BufReader::new(journal.file.try_clone()?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            if !line.ends_with(b"\n") || line.starts_with(b"\0") {
                tracing::warn!(path = %path.display(), "the journal's last line is torn");
                break;
            }
            let record = serde_json::from_slice(&line).map_err(|error| {
                let at = journal.length;
                io::Error::new(ErrorKind::InvalidData, format!("the line at byte {at}: {error}"))
            })?;
            journal.replay(record, carried);
            journal.length += read as u64;
        }
        journal.cut()?;
        journal.open = journal.pending.len();
        Ok(journal)
    }

    fn replay(&mut self, record: Record, carried: u64) {
        match record {
            Record::Begin { id, plan } => {
                self.next_intent = self.next_intent.max(id + 1);
                self.pending.insert(id, *plan);
            }
            Record::Commit { number, intent, changes } => {
                self.next_commit = self.next_commit.max(number + 1);
                if number > carried {
                    self.fresh.push((number, changes));
                }
                if let Some(id) = intent {
                    self.pending.remove(&id);
                }
            }
            Record::Abort { id } => drop(self.pending.remove(&id)),
        }
    }

    pub(super) fn begin(&mut self, plan: &Plan) -> io::Result<IntentId> {
        let id = self.next_intent;
        self.append(&Line::Begin { id, plan })?;
        self.next_intent += 1;
        self.open += 1;
        Ok(IntentId(id))
    }

    pub(super) fn commit(
        &mut self,
        intent: Option<IntentId>,
        changes: &[Change],
    ) -> io::Result<()> {
        let number = self.next_commit;
        self.append(&Line::Commit { number, intent: intent.map(|id| id.0), changes })?;
        self.next_commit += 1;
        self.fresh.push((number, changes.to_vec()));
        if let Some(intent) = intent {
            self.end(intent);
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, intent: IntentId) -> io::Result<()> {
        self.append(&Line::Abort { id: intent.0 })?;
        self.end(intent);
        Ok(())
    }

    /// A plan has ended, here or by a checkpoint.
    pub(super) fn end(&mut self, intent: IntentId) {
        self.pending.remove(&intent.0);
        self.open = self.open.saturating_sub(1);
    }

    /// What the database does not have yet, and the number of the last of it.
    pub(super) fn fresh(&self) -> (u64, impl Iterator<Item = &Change>) {
        let last = self.fresh.last().map_or(self.next_commit - 1, |(number, _)| *number);
        (last, self.fresh.iter().flat_map(|(_, changes)| changes))
    }

    pub(super) fn is_carried_over(&self) -> bool {
        self.fresh.is_empty()
    }

    /// The database has everything up to `number`: once that is all, and no
    /// plan is open, the file starts anew.
    pub(super) fn carried_over(&mut self, number: u64) -> io::Result<()> {
        self.fresh.retain(|(other, _)| *other > number);
        if self.fresh.is_empty() && self.open == 0 && self.length > 0 {
            self.length = 0;
            self.cut()?;
        }
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if let Err(error) = self.file.write_all(&bytes) {
            // Half a line would hide those behind it.
            self.cut()?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Leaves whole lines only, and goes on behind them.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{controller::Op, model::Id};

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.apply(Op::RunDir { path: "/x".into() });
        plan
    }

    fn removal(byte: u8) -> Change {
        Change::RemoveContainer(Id::from_bytes([byte; 32]))
    }

    #[test]
    fn a_torn_line_is_as_if_it_had_not_been_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, 0).unwrap();
        let intent = journal.begin(&plan()).unwrap();
        let before = journal.length;
        journal.commit(Some(intent), &[removal(1)]).unwrap();
        for cut in before..journal.length {
            journal.file.set_len(cut).unwrap();
            let mut again = Journal::open(&path, 0).unwrap();
            assert_eq!(again.pending.len(), 1, "{cut}");
            assert!(again.is_carried_over());
            assert_eq!(again.length, before);
            again.commit(Some(intent), &[removal(1)]).unwrap();
        }
        let whole = Journal::open(&path, 0).unwrap();
        assert!(whole.pending.is_empty());
        assert_eq!(whole.fresh().1.collect::<Vec<_>>(), [&removal(1)]);
    }

    #[test]
    fn a_damaged_line_is_no_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, 0).unwrap();
        journal.commit(None, &[removal(1)]).unwrap();
        let first = std::fs::read(&path).unwrap().len();
        journal.commit(None, &[removal(2)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in [first / 2, first + 1, whole.len() - 2] {
            let mut damaged = whole.clone();
            damaged[at] = b'{';
            std::fs::write(&path, &damaged).unwrap();
            let error = Journal::open(&path, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "it is left alone");
        }
        std::fs::write(&path, [&whole[..], &[0; 100], b"\n"].concat()).unwrap();
        Journal::open(&path, 0).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn what_is_carried_over_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, 0).unwrap();
        for byte in 1..=3 {
            let intent = journal.begin(&plan()).unwrap();
            journal.commit(Some(intent), &[removal(byte)]).unwrap();
        }
        let open = journal.begin(&plan()).unwrap();
        journal.carried_over(2).unwrap();
        assert_ne!(journal.length, 0, "a plan is open");
        let mut again = Journal::open(&path, 2).unwrap();
        let (last, changes) = again.fresh();
        assert_eq!((last, changes.collect::<Vec<_>>()), (3, vec![&removal(3)]));
        again.abort(open).unwrap();
        again.carried_over(3).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        // Numbers go on where they were.
        again.commit(None, &[removal(4)]).unwrap();
        assert_eq!(Journal::open(&path, 3).unwrap().fresh().0, 4);
    }
}
