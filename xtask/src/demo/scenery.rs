//! The demo's hosts: two network namespaces and the cable between them.
//!
//! ```text
//! netd-demo-host                    netd-demo-outside
//! uplink 203.0.113.2/24 ─────────── eth0 203.0.113.1/24
//! ```
//!
//! Nothing here touches the machine's own namespace. Names and paths are fixed,
//! so that a run can clear away what an interrupted one left. Owns how a
//! command is run on a host; must not know what the demo shows.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::{
        fs::MetadataExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Where all files of a run are; the agent's `--root` is in it.
pub(crate) const SCRATCH: &str = "/run/netd-demo";
pub(crate) const HOST_ADDRESS: &str = "203.0.113.2";
pub(crate) const OUTSIDE_ADDRESS: &str = "203.0.113.1";

/// Seconds after which a command has failed.
const DEADLINE: &str = "60";

/// A machine in the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Where the agent runs.
    Host,
    /// A machine at the other end of the host's uplink.
    Outside,
}

pub(super) const HOSTS: [Host; 2] = [Host::Host, Host::Outside];

/// The two hosts; gone, with all that runs on them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Scenery {
    netd: PathBuf,
    removed: bool,
}

impl Scenery {
    /// Makes the hosts; `netd` is the binary that commands of that name run.
    pub(crate) fn new(netd: PathBuf) -> Result<Self> {
        if Path::new(SCRATCH).exists() {
            let owner = fs::read_to_string(Path::new(SCRATCH).join("pid")).unwrap_or_default();
            ensure!(!is_demo(owner.trim()), "another demo runs, as process {}", owner.trim());
        }
        clear_away()?;
        let scenery = Self { netd, removed: false };
        fs::create_dir(SCRATCH)?;
        fs::write(Path::new(SCRATCH).join("pid"), std::process::id().to_string())?;
        for host in HOSTS {
            ip(&["netns", "add", host.namespace()])?;
            ip(&["-n", host.namespace(), "link", "set", "lo", "up"])?;
        }
        let (host, outside) = (Host::Host.namespace(), Host::Outside.namespace());
        ip(&[
            "link", "add", "uplink", "netns", host, "type", "veth", "peer", "name", "eth0",
            "netns", outside,
        ])?;
        for (namespace, link, address) in
            [(host, "uplink", HOST_ADDRESS), (outside, "eth0", OUTSIDE_ADDRESS)]
        {
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", link])?;
            // No IPv6 address of its own: that one, and its route, would come
            // some time later, and the demo compares routes.
            ip(&["-n", namespace, "link", "set", link, "addrgenmode", "none"])?;
            ip(&["-n", namespace, "link", "set", link, "up"])?;
        }
        ip(&["-n", host, "route", "add", "default", "via", OUTSIDE_ADDRESS])?;
        Ok(scenery)
    }

    /// Runs a command line on a host, shows it and its output, and returns its
    /// standard output. Words are separated by spaces; there is no quoting.
    pub(crate) fn run(&self, host: Host, line: &str) -> Result<String> {
        println!("{}$ {line}", host.prompt());
        let output = self.capture(host, line)?;
        print!("{output}");
        Ok(output)
    }

    /// As [`Self::run`], and shows nothing.
    pub(crate) fn capture(&self, host: Host, line: &str) -> Result<String> {
        // Files, not pipes: a process that stays behind holds no end of them.
        let (out, err) = (scratch("stdout"), scratch("stderr"));
        let status = self
            .command(host, line, Some(DEADLINE))
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .status()
            .with_context(|| format!("failed to start `{line}`"))?;
        let output = String::from_utf8_lossy(&fs::read(&out)?).into_owned();
        let errors = String::from_utf8_lossy(&fs::read(&err)?).into_owned();
        eprint!("{errors}");
        if !status.success() {
            print!("{output}");
            let why = match (status.code(), status.signal()) {
                (Some(124), _) => format!("took over {DEADLINE} s"),
                (Some(code), _) => format!("exited with {code}"),
                (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
            };
            bail!("`{line}` {why}");
        }
        Ok(output)
    }

    /// Starts a command that stays, with its output in `SCRATCH/LOG`.
    pub(crate) fn start(&self, host: Host, line: &str, log: &str) -> Result<Background> {
        println!("{}$ {line} &", host.prompt());
        let log = scratch(log);
        let file = File::create(&log)?;
        let child = self
            .command(host, line, None)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // A Ctrl-C is for the demo, which ends this in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start `{line}`"))?;
        Ok(Background { child, line: line.to_owned(), log })
    }

    /// `nsenter` and not `ip netns exec`: that one gives each command a mount
    /// namespace of its own, and the agent's mounts would be lost with it.
    fn command(&self, host: Host, line: &str, deadline: Option<&str>) -> Command {
        let mut words = line.split_whitespace().map(|word| {
            if word == "netd" { self.netd.clone().into_os_string() } else { word.into() }
        });
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", host.namespace())).arg("--");
        if let Some(seconds) = deadline {
            command.args(["timeout", "--kill-after=5", seconds]);
        }
        command.args(words.next()).args(words);
        command
            .env("NETD_ROOT", scratch("root"))
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C")
            .current_dir("/");
        command
    }

    /// Removes the hosts and all that runs on them.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.removed = true;
        clear_away()
    }
}

impl Drop for Scenery {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = clear_away()
        {
            eprintln!("error: failed to clear away the demo: {error:#}");
        }
    }
}

impl Host {
    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::Host => "netd-demo-host",
            Self::Outside => "netd-demo-outside",
        }
    }

    fn prompt(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Outside => "outside",
        }
    }
}

/// A process that runs beside the demo's steps.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Background {
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs; an error if it ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`{}` ended ({status}):\n{}", self.line, self.log());
        }
        Ok(())
    }

    /// Asks it to end, and waits until it did; an error if it failed.
    pub(crate) fn terminate(mut self) -> Result<()> {
        self.check()?;
        signal("TERM", self.child.id());
        self.wait()
    }

    /// Waits until it ended by itself; an error if it failed.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = eventually(&format!("`{}` ends", self.line), || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "`{}` failed ({status}):\n{}", self.line, self.log());
        Ok(())
    }
}

/// Asks again until there is an answer, for at most 30 seconds.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("waited 30 s in vain: {what}")
}

pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

pub(super) fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).output().context("failed to start ip")?;
    ensure!(
        output.status.success(),
        "`ip {}` failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends and removes all that bears the demo's names. Does nothing if there is
/// nothing.
fn clear_away() -> Result<()> {
    end_processes()?;
    // The last mount first: one may lie upon another.
    for mount in mounts()?.iter().rev() {
        let status = Command::new("umount").arg(mount).status()?;
        ensure!(status.success(), "failed to unmount {}", mount.display());
    }
    for host in HOSTS.map(Host::namespace) {
        if Path::new("/run/netns").join(host).exists() {
            ip(&["netns", "delete", host])?;
        }
    }
    if Path::new(SCRATCH).exists() {
        fs::remove_dir_all(SCRATCH).with_context(|| format!("failed to remove {SCRATCH}"))?;
    }
    Ok(())
}

/// Kills, each by its id, the processes in the demo's hosts and containers.
fn end_processes() -> Result<()> {
    let own = identity(Path::new("/proc/self/ns/net"));
    let mut namespaces: BTreeSet<_> = HOSTS
        .map(|host| Path::new("/run/netns").join(host.namespace()))
        .into_iter()
        .chain(files_below(&scratch("root/run/netns")))
        .filter_map(|path| identity(&path))
        .collect();
    if let Some(own) = own {
        namespaces.remove(&own);
    }
    if namespaces.is_empty() {
        return Ok(());
    }
    eventually("the demo's processes end", || {
        let mut any = None;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let namespace = identity(&entry.path().join("ns/net"));
            if namespace.is_some_and(|namespace| namespaces.contains(&namespace)) {
                signal("KILL", pid);
                any = Some(());
            }
        }
        Ok(if any.is_none() { Some(()) } else { None })
    })
}

/// Device and inode: equal for two paths to one namespace.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// It may be gone by now, and then there is nothing to do.
fn signal(name: &str, pid: u32) {
    let _ =
        Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
}

fn is_demo(pid: &str) -> bool {
    pid.parse::<u32>().is_ok()
        && fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "xtask"))
}

/// Where something is mounted below [`SCRATCH`], in the order of mounting.
pub(super) fn mounts() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(SCRATCH))
        .collect())
}

pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
