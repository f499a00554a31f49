//! Network namespaces of the benchmark, programs in them, and how all of it
//! goes away again. Names and paths are fixed, so that a run clears away what
//! an interrupted one left. Touches nothing in the machine's own namespace.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Files of a run; each contender has a folder in it.
pub(crate) const SCRATCH: &str = "/run/netd-bench";
/// What the namespaces' names begin with.
const PREFIX: &str = "netd-bench-";
/// How long anything that should happen may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A network namespace, by a path to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ns {
    path: PathBuf,
}

impl Ns {
    /// Makes one, with `lo` up and nothing else.
    pub(crate) fn make(name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{name}");
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let ns = Self { path: Path::new("/run/netns").join(name) };
        ns.ip("link set lo up")?;
        // Nothing here waits for duplicates of its addresses, and IPv6 in a
        // bridge's neighbours is not to be chatted about either.
        ns.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
        ns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(ns)
    }

    /// That of a process.
    pub(crate) fn of_process(pid: u64) -> Self {
        Self { path: format!("/proc/{pid}/ns/net").into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A program in it. Its mounts are the machine's: `ip netns exec` would
    /// give it others.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg("--").arg(program);
        command.env("LC_ALL", "C").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `ip LINE`: words without spaces in them. Gives what it prints.
    pub(crate) fn ip(&self, line: &str) -> Result<String> {
        run(self.command("ip").args(line.split_whitespace()))
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        run(self.command("sysctl").args(["-q", "-w", &format!("{key}={value}")])).map(drop)
    }
}

/// Runs a program to its end, which must be a success; gives its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let line = crate::shell::line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start `{line}`"))?;
    ensure!(
        output.status.success(),
        "`{line}` failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim(),
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same program in a session of its own, before all others where they want
/// to run too (sched(7): nice values, and those of a session's autogroup). A
/// Ctrl-C is for the benchmark, which ends it in order.
pub(crate) fn first(command: &Command) -> Command {
    const SCRIPT: &str =
        "{ echo -20 > /proc/self/autogroup; } 2> /dev/null; exec nice -n -20 \"$@\"";
    let mut first = Command::new("setsid");
    first.args(["--wait", "sh", "-c", SCRIPT, "sh"]);
    first.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            first.env(key, value);
        }
    }
    first
}

/// A program that stays, until this is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> Result<Self> {
        let line = crate::shell::line(command);
        let file =
            File::create(log).with_context(|| format!("failed to make {}", log.display()))?;
        let child = first(command)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start `{line}`"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error, with what it said last, if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
        bail!("it ended ({status}); {} has:\n  {last}", self.log.display());
    }

    /// SIGTERM, and SIGKILL where that does not help.
    fn end(&mut self) {
        signal("TERM", self.id());
        let ended = eventually("it ends", || Ok(self.child.try_wait()?.map(drop)));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// It may be gone by now, and then there is nothing to do.
pub(crate) fn signal(name: &str, pid: u32) {
    let _ =
        Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        ensure!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The folder of all files of a run, empty.
pub(crate) fn make_scratch() -> Result<()> {
    let owner = fs::read_to_string(Path::new(SCRATCH).join("pid")).unwrap_or_default();
    let is_ours = |pid: &str| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "xtask"))
    };
    ensure!(
        owner.is_empty() || owner == std::process::id().to_string() || !is_ours(&owner),
        "another benchmark runs, as process {owner}"
    );
    clear_away()?;
    fs::create_dir_all(SCRATCH)?;
    Ok(fs::write(Path::new(SCRATCH).join("pid"), std::process::id().to_string())?)
}

/// Removes all that bears the benchmark's names. Does nothing if there is
/// nothing.
pub(crate) fn clear_away() -> Result<()> {
    clear(PREFIX, Path::new(SCRATCH))
}

/// Removes what one contender has.
pub(crate) fn clear_away_of(name: &str, folder: &Path) -> Result<()> {
    clear(&format!("{PREFIX}{name}."), folder)
}

fn clear(prefix: &str, folder: &Path) -> Result<()> {
    let names = namespaces(prefix)?;
    // netd's containers have their namespaces as mounts in its folder.
    let paths = names.iter().map(|ns| ns.path.clone()).chain(mounts(folder)?);
    let identities: BTreeSet<_> = paths.filter_map(|path| identity(&path)).collect();
    for (signal_name, patience) in [("TERM", 20), ("KILL", 10)] {
        let deadline = Instant::now() + Duration::from_secs(patience);
        let processes = processes_in(&identities)?;
        for pid in processes {
            signal(signal_name, pid);
        }
        while !processes_in(&identities)?.is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
    for mount in mounts(folder)?.iter().rev() {
        run(Command::new("umount").arg("--lazy").arg(mount))?;
    }
    for ns in names {
        let name = ns.path.file_name().unwrap_or_default();
        run(Command::new("ip").args(["netns", "delete"]).arg(name))?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    Ok(())
}

/// Device and inode: equal for two paths to one namespace.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn processes_in(namespaces: &BTreeSet<(u64, u64)>) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    if namespaces.is_empty() {
        return Ok(all);
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if identity(&entry.path().join("ns/net")).is_some_and(|its| namespaces.contains(&its)) {
            all.push(pid);
        }
    }
    Ok(all)
}

/// Those of this or an earlier run.
fn namespaces(prefix: &str) -> Result<Vec<Ns>> {
    let Ok(folder) = fs::read_dir("/run/netns") else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for entry in folder {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            all.push(Ns { path });
        }
    }
    Ok(all)
}

/// Where something is mounted below a folder, in the order of mounting.
fn mounts(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(folder))
        .collect())
}
