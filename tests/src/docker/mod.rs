//! A real containerd and dockerd in a test's host namespace, with everything
//! of theirs (sockets, data, plugins, configuration, mounts, control groups)
//! in the test's own directory: several run side by side, the machine's own
//! Docker is not touched, and nothing is left.
//!
//! Containers are made from one image, [`IMAGE`].

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Agent, Container, DEADLINE, NetNs, Output, Process, Program, TestDir, Topology, agent,
    eventually,
    json::{one, text},
};

mod image;
mod mounts;

use mounts::Mounts;

/// What containers are made from.
pub const IMAGE: &str = "box";
/// `docker run` and its like, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a daemon's log a failed test shows.
const SHOWN_LINES: usize = 60;

/// Runs containerd and dockerd. Both are killed on drop; the [`TestDir`] ends
/// containers, their mounts and their control groups.
#[derive(Debug)]
pub struct Docker {
    host: NetNs,
    dir: Arc<TestDir>,
    /// All that is theirs.
    own: PathBuf,
    mounts: Mounts,
    containerd: Option<Process>,
    dockerd: Option<Process>,
}

impl Topology {
    /// dockerd with its defaults in the host, running; [`IMAGE`] is there.
    pub fn docker(&self) -> Docker {
        self.docker_with(&json!({}))
    }

    /// As [`Topology::docker`], with this `daemon.json`.
    pub fn docker_with(&self, config: &Value) -> Docker {
        Docker::start(self.dir(), &self.host, config)
    }

    /// dockerd in the host, and an agent that is its plugin `netd`.
    pub fn docker_and_netd(&self) -> (Docker, Agent) {
        self.docker_and_netd_with(&json!({}))
    }

    /// As [`Topology::docker_and_netd`], with this `daemon.json`.
    pub fn docker_and_netd_with(&self, config: &Value) -> (Docker, Agent) {
        // What dockerd has in the host is no change that netd makes.
        let docker = self.docker_with(config);
        let sockets = json!({
            "docker-plugin": self.plugin_socket(),
            "docker-socket": docker.socket(),
            // The next after Docker's own would be one that tests use.
            "bip": "10.88.0.1/16",
        });
        let flags = ["--docker-patience", "120"];
        let agent = Agent::start(self.dir(), &self.host, &sockets, &flags);
        (docker, agent)
    }

    /// Where this host's dockerd finds the plugin `netd`.
    pub fn plugin_socket(&self) -> PathBuf {
        plugins(self.dir()).join("netd.sock")
    }
}

/// What is `/run/docker/plugins` to dockerd. Made by whoever comes first.
fn plugins(dir: &TestDir) -> PathBuf {
    let folder = dir.path().join("plugins");
    fs::create_dir_all(&folder).expect("create the directory of plugins");
    folder
}

impl Docker {
    fn start(dir: &Arc<TestDir>, host: &NetNs, config: &Value) -> Self {
        let own = dir.path().join("docker");
        let mounts = Mounts::new(dir, host, &own, &plugins(dir));
        let mut docker = Self {
            host: host.clone(),
            dir: dir.clone(),
            own,
            mounts,
            containerd: None,
            dockerd: None,
        };
        docker.write("daemon.json", &docker.daemon_config(config).to_string());
        docker.write("containerd.toml", &docker.containerd_config());
        docker.start_containerd();
        docker.start_again();
        let image = image::pack(&docker.own);
        let image = image.to_string_lossy();
        let import = ["import", "--change", r#"CMD ["idle"]"#, &*image, IMAGE];
        docker.command(import).output().ok();
        docker
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.own.join(name), text).unwrap_or_else(|e| panic!("write {name}: {e}"));
    }

    fn daemon_config(&self, config: &Value) -> Value {
        let own = |name: &str| self.own.join(name).display().to_string();
        let mut all = json!({
            "hosts": [format!("unix://{}", own("docker.sock"))],
            "containerd": own("containerd.sock"),
            "data-root": own("data"),
            "exec-root": own("exec"),
            "pidfile": own("docker.pid"),
            "cgroup-parent": self.dir.control_group(),
        });
        for (key, value) in config.as_object().expect("daemon.json is an object") {
            all[key] = value.clone();
        }
        all
    }

    /// Without the parts that nothing here asks for, and that look at the
    /// machine as they start.
    fn containerd_config(&self) -> String {
        let own = self.own.display();
        let unused = ["grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs"]
            .into_iter()
            .chain(["snapshotter.v1.devmapper", "snapshotter.v1.zfs"]);
        let unused: Vec<_> = unused.map(|name| format!("\"io.containerd.{name}\"")).collect();
        format!(
            "version = 2\nroot = \"{own}/containerd/root\"\nstate = \"{own}/containerd/state\"\n\
             disabled_plugins = [{}]\n[grpc]\naddress = \"{own}/containerd.sock\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{own}/containerd/opt\"\n",
            unused.join(", "),
        )
    }

    fn start_containerd(&mut self) {
        let config = self.own.join("containerd.toml");
        let program = self.mounts.command("containerd").arg("--config").arg(config);
        let mut process = program.start(&self.log_path("containerd"));
        let socket = self.own.join("containerd.sock");
        eventually(DEADLINE, "containerd listens", || {
            if let Some(code) = process.ended() {
                panic!("containerd exited with {code}:\n{}", self.log_of("containerd"));
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        self.containerd = Some(process);
    }

    /// Starts dockerd where none runs, and waits until it answers.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.dockerd.is_none(), "a dockerd runs already");
        let config = self.own.join("daemon.json");
        let program = self.mounts.command("dockerd").arg("--config-file").arg(config);
        let mut process = program.start(&self.log_path("dockerd"));
        eventually(PATIENCE, "dockerd answers", || {
            if let Some(code) = process.ended() {
                panic!("dockerd exited with {code}:\n{}", self.log());
            }
            (self.docker("version").code == 0).then_some(())
        });
        self.dockerd = Some(process);
    }

    /// SIGTERM; it must exit with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.dockerd.take().expect("dockerd runs");
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(), 0, "dockerd ends cleanly:\n{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.dockerd = None;
    }

    pub fn host(&self) -> &NetNs {
        &self.host
    }

    pub fn socket(&self) -> PathBuf {
        self.own.join("docker.sock")
    }

    /// A program that speaks with this dockerd, `docker` or another client.
    fn client(&self, program: impl AsRef<Path>) -> Program {
        Program::new(program.as_ref())
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.own.join("client"))
            .inside(&self.host)
            .within(PATIENCE)
    }

    /// `docker ARGS`, not yet run.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        // Debian's, which is of one version with dockerd.
        self.client("/usr/bin/docker").args(args)
    }

    /// Runs `docker LINE`: words without spaces in them.
    #[track_caller]
    pub fn docker(&self, line: &str) -> Output {
        self.command(line.split_whitespace()).output()
    }

    /// `docker inspect` and its like print JSON as they are.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        self.docker(line).json()
    }

    /// Runs `docker-compose LINE` on a project `NAME` in a folder of its own.
    #[track_caller]
    pub fn compose(&self, name: &str, file: &str, line: &str) -> Output {
        let path = self.own.join(format!("{name}.yml"));
        fs::write(&path, file).expect("write the compose file");
        let program = self.client("docker-compose").arg("--file").arg(path);
        let program = program.args(["--no-ansi", "--project-name", name]);
        program.args(line.split_whitespace()).within(PATIENCE * 2).output()
    }

    /// `docker run -d --name NAME OPTIONS box`: it sleeps, and the test makes
    /// its traffic itself.
    #[track_caller]
    pub fn container(&self, name: &str, options: &str) -> Container {
        self.docker(&format!("run -d --name {name} {options} {IMAGE}")).ok();
        self.find(name)
    }

    /// A running container, as `docker inspect` shows it.
    #[track_caller]
    pub fn find(&self, name: &str) -> Container {
        let list = self.json(&format!("inspect {name}"));
        let shown = one(&list);
        Container::of(shown, name, text(shown, "/Id"))
    }

    /// A network of netd's, by this subnet and further options. Its addresses
    /// are netd's too.
    #[track_caller]
    pub fn network(&self, name: &str, subnet: &str, options: &str) -> String {
        let drivers = "-d netd --ipam-driver netd";
        self.docker(&format!("network create {drivers} --subnet {subnet} {options} {name}")).ok()
    }

    /// What dockerd says to a line that it refuses.
    #[track_caller]
    pub fn refuses(&self, line: &str) -> String {
        let output = self.docker(line);
        assert_ne!(output.code, 0, "{output}");
        output.stderr
    }

    /// Waits until no container's process is left: shims end a little later
    /// than dockerd says.
    #[track_caller]
    pub fn wait_for_shims(&self) {
        eventually(DEADLINE, "no shim is left", || {
            self.processes("containerd-shim").is_empty().then_some(())
        });
    }

    /// The processes in the host's namespace whose names begin so.
    pub fn processes(&self, name: &str) -> Vec<String> {
        let comm = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let all = self.dir.processes().into_iter().map(comm);
        all.filter(|comm| comm.starts_with(name)).collect()
    }

    /// Runs a line of words inside of a container.
    #[track_caller]
    pub fn exec(&self, name: &str, line: &str) -> Output {
        self.docker(&format!("exec {name} {line}"))
    }

    fn log_path(&self, daemon: &str) -> PathBuf {
        self.own.join(format!("{daemon}.log"))
    }

    fn log_of(&self, daemon: &str) -> String {
        fs::read_to_string(self.log_path(daemon)).unwrap_or_default()
    }

    /// dockerd's log.
    pub fn log(&self) -> String {
        self.log_of("dockerd")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for daemon in ["dockerd", "containerd"] {
            let log = self.log_of(daemon);
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("[core]")).collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- {daemon}'s log, its end\n{}", shown.join("\n"));
        }
        let ours = format!("/usr/bin/docker -H unix://{}", self.socket().display());
        let asked = [format!("{ours} ps -a"), format!("{ours} network ls")];
        let asked = asked.iter().map(String::as_str).filter(|_| self.dockerd.is_some());
        agent::dump(&self.host, &asked.collect::<Vec<_>>());
    }
}
