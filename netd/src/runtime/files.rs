//! The run directory's files: `pid` (who runs, as JSON), `exit` (the exit
//! code, once it has ended) and `log` (a detached command's output). Each is
//! there complete or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::RuntimeError;
use crate::{kernel::process::is_alive, model::Process};

/// The files of one container's run directory.
#[derive(Clone, Copy, Debug)]
pub struct RunDir<'a>(pub &'a Path);

impl RunDir<'_> {
    pub fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    pub fn exit(&self) -> PathBuf {
        self.0.join("exit")
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// `None`: not started yet, or not written by netd.
    pub fn read_process(&self) -> Option<Process> {
        serde_json::from_slice(&fs::read(self.pid()).ok()?).ok()
    }

    /// `None`: not ended yet, or nobody saw how.
    pub fn read_exit(&self) -> Option<i32> {
        fs::read_to_string(self.exit()).ok()?.trim().parse().ok()
    }

    pub(super) fn write_process(&self, process: Process) -> Result<(), RuntimeError> {
        write(&self.pid(), &serde_json::to_vec(&process).unwrap_or_default())
    }

    pub(super) fn write_exit(&self, code: u8) -> Result<(), RuntimeError> {
        write(&self.exit(), format!("{code}\n").as_bytes())
    }

    /// The log, for its writer.
    pub(super) fn create_log(&self) -> Result<File, RuntimeError> {
        let path = self.log();
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| RuntimeError::Write { path, source })
    }
}

/// Readers see the old file or the new one, never a part.
fn write(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        File::create(&temporary)?.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| RuntimeError::Write { path: path.to_owned(), source })
}

/// Whether the shim of `process` still runs: a zombie doesn't, nor does
/// another process with its pid.
pub fn is_running(process: &Process) -> bool {
    is_alive(process.shim, process.start_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::stat::Stat;

    #[test]
    fn this_process_runs_and_one_that_started_at_another_time_does_not() {
        let shim = std::process::id();
        let start_time = Stat::read(shim).unwrap().unwrap().start_time;
        let process = Process { shim, pid: shim, start_time };
        assert!(is_running(&process));
        assert!(!is_running(&Process { start_time: start_time + 1, ..process }));
    }

    #[test]
    fn files_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir(dir.path());
        assert_eq!((run.read_process(), run.read_exit()), (None, None));
        let process = Process { shim: 1, pid: 2, start_time: 3 };
        run.write_process(process).unwrap();
        run.write_exit(137).unwrap();
        assert_eq!(fs::read_to_string(run.pid()).unwrap(), r#"{"shim":1,"pid":2,"start_time":3}"#);
        assert_eq!((run.read_process(), run.read_exit()), (Some(process), Some(137)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
