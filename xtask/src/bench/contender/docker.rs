//! dockerd, with its own state, socket and mounts, in a host namespace.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Agent, ns_of, ports, run_with_input};
use crate::bench::{
    ns::{Daemon, Ns, eventually, run},
    site::{A, B, Dual, GATEWAY, Machines, SUBNET, SUBNET6, Site},
};

/// Where Debian's package `docker.io` has them.
pub(super) const DAEMON: &str = "/usr/sbin/dockerd";
pub(super) const CLIENT: &str = "/usr/bin/docker";
/// Of the image that containers are made of.
const IMAGE: &str = "netd-bench";

pub(super) fn site(machines: Machines, flags: &[&str], before: u16) -> Result<Site> {
    let v6 = [
        "--ipv6",
        "--fixed-cidr-v6",
        SUBNET6,
        // Both are the default from Docker 27 on.
        "--experimental",
        "--ip6tables",
    ];
    let bip = format!("--bip={}/16", GATEWAY.v4);
    let flags: Vec<_> = flags.iter().copied().chain(v6).chain([bip.as_str()]).collect();
    let (docker, daemon) = Docker::start(&machines, &flags, None)?;
    docker.import_image()?;
    let a = docker.run("bench-a", "bridge", &[], &[])?;
    fill(&machines, before)?;
    let b = docker.run("bench-b", "bridge", &published(), &[])?;
    let address = docker.address("bench-b", "bridge")?;
    let mut site = Site::new(machines, a, b, address, vec![daemon])?;
    site.on_removal(move || docker.remove(&["bench-a", "bench-b"]));
    Ok(site)
}

/// Docker's containers on a network of netd's.
pub(super) fn site_of_netd(machines: Machines) -> Result<Site> {
    let plugins = machines.folder.join("plugins");
    fs::create_dir_all(&plugins)?;
    let socket = plugins.join("netd.sock");
    let (_, agent) = Agent::start(&machines, &serde_json::json!({"docker-plugin": socket}))?;
    let flags = ["--iptables=false", "--bridge=none", "--userland-proxy=false"];
    let (docker, daemon) = Docker::start(&machines, &flags, Some(&plugins))?;
    docker.import_image()?;
    let gateway = format!("--gateway={}", GATEWAY.v4);
    docker.docker(&[
        "network", "create", "--driver", "netd", "--ipv6", "--subnet", SUBNET, "--subnet", SUBNET6,
        &gateway, "bench",
    ])?;
    let (ip_a, ip_b) = (format!("--ip={}", A.v4), format!("--ip={}", B.v4));
    let a = docker.run("bench-a", "bench", &[], &[&ip_a])?;
    let b = docker.run("bench-b", "bench", &published(), &[&ip_b])?;
    let address = docker.address("bench-b", "bench")?;
    let mut site = Site::new(machines, a, b, address, vec![daemon, agent])?;
    site.on_removal(move || {
        docker.remove(&["bench-a", "bench-b"])?;
        docker.docker(&["network", "rm", "bench"]).map(drop)
    });
    Ok(site)
}

fn published() -> Vec<String> {
    ports(0).iter().map(|(host, port, proto)| format!("{host}:{port}/{proto}")).collect()
}

/// The rules that dockerd would have made for so many published ports, entered
/// at once: dockerd runs iptables thrice for each, which takes hours for 10,000
/// (libnetwork's `drivers/bridge/setup_ip_tables.go` and `portmapper`).
fn fill(machines: &Machines, before: u16) -> Result<()> {
    let (mut nat, mut filter) = (String::new(), String::new());
    let to = B.v4;
    for (host, port, protocol) in ports(before).into_iter().take(before.into()) {
        let _ = writeln!(
            nat,
            "-A POSTROUTING -s {to}/32 -d {to}/32 -p {protocol} -m {protocol} --dport {port} -j MASQUERADE\n\
             -A DOCKER -p {protocol} -m {protocol} --dport {host} -j DNAT --to-destination {to}:{port}"
        );
        let _ = writeln!(
            filter,
            "-A DOCKER -d {to}/32 ! -i docker0 -o docker0 -p {protocol} -m {protocol} --dport {port} -j ACCEPT"
        );
    }
    if before == 0 {
        return Ok(());
    }
    let rules = format!("*nat\n{nat}COMMIT\n*filter\n{filter}COMMIT\n");
    let mut restore = machines.host.command("iptables-restore");
    let file = machines.folder.join("rules");
    run_with_input(restore.arg("--noflush"), &file, &rules).map(drop)
}

/// A running dockerd, by its client.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    folder: PathBuf,
    socket: String,
    host: Ns,
}

impl Docker {
    /// Starts dockerd in a host's namespace. `plugins` is what it sees as
    /// `/run/docker/plugins`.
    pub(crate) fn start(
        machines: &Machines,
        flags: &[&str],
        plugins: Option<&Path>,
    ) -> Result<(Self, Daemon)> {
        let folder = machines.folder.clone();
        fs::write(folder.join("daemon.json"), "{}")?;
        fs::create_dir_all(folder.join("none"))?;
        // Mounts of its own: it sees neither the machine's containerd nor its
        // plugins, and its own mounts go with it.
        let script = "mount -t tmpfs none /run/containerd 2>/dev/null || true
            mkdir -p /run/docker && mount -t tmpfs none /run/docker
            mkdir -p /run/docker/plugins && mount --bind \"$1\" /run/docker/plugins
            shift; exec \"$@\"";
        let at = |name: &str| folder.join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        let mut command = machines.host.command("unshare");
        command.args(["--mount", "--", "sh", "-ec", script, "sh"]);
        command.arg(plugins.map_or_else(|| folder.join("none"), Path::to_owned));
        command.arg(DAEMON).args(["--host", &socket]).args([
            "--config-file",
            &at("daemon.json"),
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("docker.pid"),
            // The only image is of one file.
            "--storage-driver",
            "vfs",
        ]);
        command.args(flags);
        let mut daemon = Daemon::start(&command, &folder.join("dockerd.log"))?;
        let docker = Self { folder, socket, host: machines.host.clone() };
        eventually("dockerd answers", || {
            daemon.check()?;
            Ok(docker.docker(&["version"]).ok())
        })?;
        Ok((docker, daemon))
    }

    /// Runs the client; gives what it prints.
    pub(crate) fn docker(&self, args: &[&str]) -> Result<String> {
        run(self.command().args(args))
    }

    /// The client, in the host's namespace.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.host.command(CLIENT);
        command.args(["--host", &self.socket]).env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }

    /// Makes the image: a program that waits, and nothing else.
    pub(crate) fn import_image(&self) -> Result<()> {
        let root = self.folder.join("image");
        fs::create_dir_all(root.join("bin"))?;
        let busybox = crate::shell::which("busybox").context("there is no busybox")?;
        fs::copy(busybox, root.join("bin/busybox"))?;
        let tar = self.folder.join("image.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("bin"))?;
        self.docker(&["import", &tar.display().to_string(), IMAGE]).map(drop)
    }

    /// Starts a container that waits; gives its namespace.
    pub(crate) fn run(
        &self,
        name: &str,
        network: &str,
        publish: &[String],
        flags: &[&str],
    ) -> Result<Ns> {
        let mut command = self.command();
        command.args(["run", "--detach", "--name", name, "--network", network]);
        command.args(publish.iter().flat_map(|spec| ["--publish", spec.as_str()])).args(flags);
        run(command.args([IMAGE, "/bin/busybox", "tail", "-f", "/dev/null"]))?;
        ns_of(&self.inspect(name)?["State"]["Pid"])
    }

    fn inspect(&self, name: &str) -> Result<Value> {
        let text = self.docker(&["inspect", name])?;
        let mut list: Vec<Value> = serde_json::from_str(&text)?;
        list.pop().context("docker inspect printed nothing")
    }

    fn address(&self, name: &str, network: &str) -> Result<Dual> {
        let it = self.inspect(name)?;
        let of = &it["NetworkSettings"]["Networks"][network];
        Ok(Dual {
            v4: of["IPAddress"].as_str().context("no address")?.parse()?,
            v6: of["GlobalIPv6Address"].as_str().and_then(|ip| ip.parse().ok()),
        })
    }

    pub(crate) fn remove(&self, names: &[&str]) -> Result<()> {
        run(self.command().args(["rm", "--force"]).args(names)).map(drop)
    }
}
