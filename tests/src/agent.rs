//! `netd agent` in a host namespace, with a `--root` of its own, and the
//! commands that go to it.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use netd_common::abi::ABI_VERSION;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    Container, DEADLINE, NetNs, Output, Process, Program, Snapshot, TestDir, eventually,
    json::{number, rows, text},
    program::netd_path,
};

/// An agent has its programs verified before it answers: seconds, where others
/// want the processor too.
const START: Duration = Duration::from_secs(90);

/// A running agent. Killed on drop; its [`TestDir`] ends its containers.
#[derive(Debug)]
pub struct Agent {
    host: NetNs,
    dir: Arc<TestDir>,
    root: PathBuf,
    /// Given to `netd agent` at each start.
    flags: Vec<&'static str>,
    /// `netd`, for the agent alone.
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
    process: Option<Process>,
    /// What there was before any test's container or network.
    baseline: Option<Snapshot>,
}

pub(crate) fn write_config(dir: &TestDir, config: &Value) -> PathBuf {
    let root = dir.path().join("root");
    fs::create_dir_all(&root).expect("create the agent's root");
    if !config.is_null() {
        fs::write(root.join("netd.json"), config.to_string()).expect("write netd.json");
    }
    root
}

impl Agent {
    pub(crate) fn start(
        dir: &Arc<TestDir>,
        host: &NetNs,
        config: &Value,
        flags: &[&'static str],
    ) -> Self {
        let mut agent = Self {
            host: host.clone(),
            dir: dir.clone(),
            root: write_config(dir, config),
            flags: flags.to_vec(),
            binary: netd_path(),
            environment: Vec::new(),
            process: None,
            baseline: None,
        };
        agent.start_again();
        agent.baseline = Some(agent.snapshot());
        agent
    }

    /// Starts it where none runs, and waits until it answers.
    #[track_caller]
    pub fn start_again(&mut self) {
        if let Err(code) = self.try_start() {
            panic!("the agent exited with {code} at its start:\n{}", self.log());
        }
    }

    /// As [`Agent::start_again`]; it may end before it answers, and then its
    /// exit code is given.
    pub fn try_start(&mut self) -> Result<(), i32> {
        assert!(self.process.is_none(), "an agent runs already");
        let mut process = self.agent_command().start(&self.log_path());
        eventually(START, "the agent answers, or ends", || match process.ended() {
            Some(code) => Some(Err(code)),
            None => self.answers().then_some(Ok(())),
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// `netd agent`, as it is started.
    pub fn agent_command(&self) -> Program {
        let program = Program::new(&self.binary).arg("--root").arg(&self.root).arg("agent");
        let program = program.args(&self.flags).inside(&self.host);
        self.environment.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    /// From the next start on.
    pub fn set_environment(&mut self, key: &'static str, value: Option<String>) {
        self.environment.retain(|(known, _)| *known != key);
        self.environment.extend(value.map(|value| (key, value)));
    }

    /// Another build of netd, from the next start on.
    pub fn set_binary(&mut self, path: &Path) {
        path.clone_into(&mut self.binary);
    }

    /// Further flags, from the next start on.
    pub fn set_flags(&mut self, flags: &[&'static str]) {
        self.flags = flags.to_vec();
    }

    /// Whether it still runs; it ends by itself when it was asked to crash.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.root.join("run/netd.sock"))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream
                .write_all(b"GET /v1/info HTTP/1.1\r\nHost: netd\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// SIGTERM; it must exit with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the agent runs");
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(), 0, "the agent ends cleanly:\n{}", self.log());
    }

    /// Replaces its configuration file, for the next start.
    pub fn configure(&self, config: &Value) {
        fs::write(self.root.join("netd.json"), config.to_string()).expect("write netd.json");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the agent runs").id()
    }

    pub fn host(&self) -> &NetNs {
        &self.host
    }

    pub fn dir(&self) -> &TestDir {
        &self.dir
    }

    pub(crate) fn shared_dir(&self) -> &Arc<TestDir> {
        &self.dir
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The folder that it pins maps in.
    pub fn pins(&self) -> PathBuf {
        self.root.join("bpf").join(format!("v{ABI_VERSION}"))
    }

    /// The host's side of a container's veth pair.
    pub fn host_side(&self, container: &Container) -> String {
        let shown = container.ns.ip("-o link show dev eth0");
        let peer = shown.split_once("eth0@if").expect("a veth").1;
        let peer: String = peer.chars().take_while(char::is_ascii_digit).collect();
        let peer: u64 = peer.parse().expect("a link's number");
        let links: Value = serde_json::from_str(&self.host.ip("-j link")).expect("JSON");
        let link = rows(&links).iter().find(|link| link["ifindex"] == peer);
        text(link.expect("its host side"), "/ifname").to_owned()
    }

    /// The programs that run in filters, as `LINK KIND NAME`.
    pub fn filters(&self) -> Vec<String> {
        let shown = self.host.exec("bpftool -j net show");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let all = rows(&shown).iter().flat_map(|shown| rows(&shown["tc"]));
        let filters = all.filter(|it| text(it, "/kind").starts_with("clsact"));
        let names = filters.map(|it| ["/devname", "/kind", "/name"].map(|key| text(it, key)));
        let ours = |it: &String| ["_container", "_uplink"].iter().any(|end| it.ends_with(end));
        names.map(|it| it.join(" ")).filter(ours).collect()
    }

    /// Waits until the programs of all containers are where they stay.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        let settled = || self.filters().is_empty().then_some(());
        eventually(DEADLINE, "programs are in links and no longer in filters", settled);
    }

    /// Waits until the log has `text`: what it tells of comes first.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        eventually(DEADLINE, &format!("the log says `{text}`"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// `netd --root … ARGS`, in the host's namespace, not yet run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let program = Program::new(netd_path()).arg("--root").arg(&self.root);
        program.args(args).inside(&self.host)
    }

    /// Runs `netd LINE`: words without spaces in them.
    #[track_caller]
    pub fn netd(&self, line: &str) -> Output {
        self.command(line.split_whitespace()).output()
    }

    /// `netd LINE --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        self.netd(&format!("{line} --json")).json()
    }

    /// `netd inspect` and `netd network inspect` print JSON as they are.
    #[track_caller]
    pub fn inspect(&self, line: &str) -> Value {
        self.netd(line).json()
    }

    /// A network of this name and subnet, with further options.
    #[track_caller]
    pub fn network(&self, name: &str, subnet: &str, options: &str) -> String {
        self.netd(&format!("network create --subnet {subnet} {options} {name}")).ok()
    }

    /// `netd run -d --name NAME OPTIONS -- sleep infinity`: a container whose
    /// traffic the test makes itself.
    #[track_caller]
    pub fn container(&self, name: &str, options: &str) -> Container {
        let line = format!("run -d --name {name} {options} -- sleep infinity");
        let id = self.netd(&line).ok();
        Container::inspect(self, name, &id)
    }

    /// `netd exec NAME -- LINE`.
    #[track_caller]
    pub fn exec(&self, name: &str, line: &str) -> Output {
        self.netd(&format!("exec {name} -- {line}"))
    }

    /// Packets that any program has dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.counted(|row| text(row, "/Outcome") == reason && row["Drop"] == true)
    }

    /// Packets that are counted in the rows of `netd stats` that are wanted.
    pub fn counted(&self, wanted: impl Fn(&Value) -> bool) -> u64 {
        let stats = self.json("stats");
        rows(&stats).iter().filter(|row| wanted(row)).map(|row| number(row, "/Packets")).sum()
    }

    /// Waits until `reason` has counted more than `before` packets.
    #[track_caller]
    pub fn expect_dropped(&self, reason: &str, before: u64) {
        let what = format!("a packet is counted as `{reason}` (before: {before})");
        eventually(DEADLINE, &what, || (self.dropped(reason) > before).then_some(()));
    }

    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self)
    }

    /// These sections alone, in less time.
    #[track_caller]
    pub fn snapshot_of(&self, sections: &[&str]) -> Snapshot {
        Snapshot::take_of(self, sections)
    }

    /// All is as it was before the first container and network.
    #[track_caller]
    pub fn assert_clean(&self) {
        let baseline = self.baseline.as_ref().expect("taken at the start");
        self.snapshot().assert_same(baseline);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("--- agent's log\n{}", self.log());
        let own = format!("{} --root {}", netd_path().display(), self.root.display());
        let asked: Vec<_> = ["ps -a", "port ls", "ipam", "flows", "stats"]
            .map(|command| format!("{own} {command}"))
            .into_iter()
            .filter(|_| self.process.is_some())
            .chain(["bpftool net", "bpftool prog", "bridge link", "ss -tuanp"].map(str::to_owned))
            .collect();
        let asked: Vec<_> = asked.iter().map(String::as_str).collect();
        dump(&self.host, &asked);
        for pin in crate::snapshot::map_pins(&self.root) {
            dump(&self.host, &[&format!("bpftool map dump pinned {}", pin.display())]);
        }
    }
}

/// Prints what these command lines say. Never panics itself: it runs while a
/// failed test unwinds, so on threads of its own.
pub(crate) fn dump(ns: &NetNs, lines: &[&str]) {
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(program) = words.next() else {
            continue;
        };
        let words: Vec<_> = words.collect();
        let print = || {
            let output = ns.command(program).args(&words).output();
            eprintln!("--- {}: {line}\n{}{}", ns.name(), output.stdout, output.stderr);
        };
        let _ = thread::scope(|scope| scope.spawn(print).join());
    }
}
