//! A machine that systemd runs, with netd's units installed: namespaces of its
//! own for everything, and a copy-on-write view of this machine's files. So the
//! units' sandboxes are really applied, by whom they are written for.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{NetNs, Output, Process, Program, TestDir, eventually, netd_path};

/// A machine starts more than a test's own programs do.
const DEADLINE: Duration = Duration::from_secs(120);

/// A running machine. With the handle, it and all that runs in it end.
#[derive(Debug)]
pub struct Machine {
    dir: Arc<TestDir>,
    process: Process,
    /// systemd, as this machine counts it.
    leader: u32,
    cgroup: String,
}

impl Machine {
    /// Boots one with netd and its units, none of which is started.
    pub fn boot() -> Self {
        Self::boot_with(&netd_path())
    }

    /// Boots one without netd.
    pub fn boot_bare() -> Self {
        Self::boot_with(Path::new("none"))
    }

    fn boot_with(netd: &Path) -> Self {
        let dir = Arc::new(TestDir::new());
        let folder = dir.path().join("machine");
        fs::create_dir(&folder).expect("create the machine's folder");
        let cgroup = dir.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a folder");
        let process = Program::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc"])
            .arg(workspace.join("tests/src/machine/boot.sh"))
            .arg(&folder)
            .arg(netd)
            .arg(workspace.join("packaging/systemd"))
            .arg(&cgroup)
            .start(&dir.path().join("console.log"));
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let leader = eventually(DEADLINE, "the machine has a first process", || {
            fs::read_to_string(&children).ok()?.trim().parse().ok()
        });
        let machine = Self { dir, process, leader, cgroup };
        eventually(DEADLINE, "systemd has started the machine", || {
            let state = machine.run("systemctl is-active machine.target");
            (state.stdout.trim() == "active").then_some(())
        });
        let netns = machine.netns();
        netns.ip("link set lo up");
        machine
    }

    /// A program inside, as a process of the machine's, not yet run.
    pub fn program<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Program {
        // Into a cgroup of the machine's too: programs of netd's are there.
        let enter = "mkdir -p /sys/fs/cgroup/shell && \
                     echo $$ > /sys/fs/cgroup/shell/cgroup.procs && exec \"$@\"";
        Program::new("nsenter")
            .arg("--target")
            .arg(self.leader.to_string())
            .args(["--all", "--root", "--wd", "--", "sh", "-c", enter, "sh"])
            .within(DEADLINE)
            .args(command)
    }

    /// Runs a command line inside: words without spaces in them.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.program(line.split_whitespace()).output()
    }

    /// One for a shell.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Output {
        self.program(["sh", "-c", script]).output()
    }

    /// A property of a unit, by `systemctl show`.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value --property {property} {unit}")).ok()
    }

    /// Settings over those of a unit, as an administrator writes them.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, settings: &str) {
        let folder = format!("/etc/systemd/system/{unit}.d");
        self.shell(&format!("mkdir -p {folder} && cat > {folder}/test.conf <<'E'\n{settings}\nE"))
            .ok();
        self.run("systemctl daemon-reload").ok();
    }

    #[track_caller]
    pub fn netns(&self) -> NetNs {
        NetNs::of_process("machine", self.leader)
    }

    /// What the unit has logged.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&format!("journalctl --no-pager --output cat --unit {unit}")).stdout
    }

    pub fn dir(&self) -> &Arc<TestDir> {
        &self.dir
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            for line in
                ["systemctl --no-pager --full status netd* machine.target", "journalctl --no-pager"]
            {
                let output = self.run(line);
                eprintln!("--- {line}\n{}{}", output.stdout, output.stderr);
            }
        }
        // Its first process takes all others along.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.leader.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        );
        self.process.wait();
        remove_cgroup(&self.cgroup);
    }
}

/// The machine made it in the hierarchy that this machine has too.
fn remove_cgroup(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let at = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next() == Some("cgroup2")).then(|| PathBuf::from(at).join(name))
    });
    if let Some(top) = at {
        eventually(DEADLINE, "the machine's cgroups go", || remove_below(&top).ok());
    }
}

fn remove_below(cgroup: &Path) -> std::io::Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
