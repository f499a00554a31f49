//! Who is measured: what each is called, how it comes onto the machine, and
//! how it is set up on machines of its own.

mod cni;
mod docker;
pub(crate) mod netavark;
pub(crate) mod netd;
mod plain;

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{
    ns::{self, Ns},
    site::{Machines, PORTS, SHIFT, Site},
};
use crate::setup;

pub(crate) use cni::Cni;
pub(crate) use docker::Docker;
pub(crate) use netd::Agent;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// One veth pair, and nothing between: the limit
    Direct,
    /// A Linux bridge and routes, no NAT, no netfilter
    Bridge,
    /// dockerd's own bridge, as shipped: with its userland proxy
    Docker,
    /// The same without the proxy
    DockerNoProxy,
    /// The CNI plugins bridge, portmap and host-local
    Cni,
    /// netavark on nftables
    Netavark,
    /// netd, by `netd run`
    Netd,
    /// netd, by Docker with `-d netd`
    NetdDocker,
}

impl Contender {
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Bridge,
        Self::Docker,
        Self::DockerNoProxy,
        Self::Cni,
        Self::Netavark,
        Self::Netd,
        Self::NetdDocker,
    ];

    /// As it is in the raw results, in namespaces and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bridge => "bridge",
            Self::Docker => "docker",
            Self::DockerNoProxy => "docker-noproxy",
            Self::Cni => "cni",
            Self::Netavark => "netavark",
            Self::Netd => "netd",
            Self::NetdDocker => "netd-docker",
        }
    }

    /// What it is, in a few words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Direct => "one veth pair, nothing between: the limit",
            Self::Bridge => "Linux bridge and routing, no NAT, no netfilter rule",
            Self::Docker => "dockerd's bridge as shipped, with docker-proxy",
            Self::DockerNoProxy => "dockerd's bridge with `--userland-proxy=false`",
            Self::Cni => "containernetworking-plugins: bridge, portmap, host-local",
            Self::Netavark => "netavark, nftables driver",
            Self::Netd => "netd, by `netd run`",
            Self::NetdDocker => "netd, by Docker with `-d netd`",
        }
    }

    /// Brings it onto the machine; an error says why it can't be had.
    pub(crate) fn install(self) -> Result<()> {
        match self {
            Self::Direct | Self::Bridge | Self::Netd => Ok(()),
            Self::Docker | Self::DockerNoProxy | Self::NetdDocker => {
                setup::ensure_file(docker::DAEMON, "docker.io")?;
                setup::ensure_file(docker::CLIENT, "docker.io")
            }
            Self::Cni => setup::ensure_file(cni::PLUGIN, "containernetworking-plugins"),
            Self::Netavark => netavark::install(),
        }
    }

    pub(crate) fn version(self) -> String {
        let said = match self {
            Self::Direct | Self::Bridge => first_line(Command::new("uname").arg("-sr")),
            Self::Docker | Self::DockerNoProxy => {
                first_line(Command::new(docker::DAEMON).arg("--version"))
            }
            Self::Cni => first_line(&mut Command::new(cni::PLUGIN)),
            Self::Netavark => first_line(Command::new(netavark::program()).arg("--version")),
            Self::Netd | Self::NetdDocker => {
                first_line(Command::new(netd::program()).arg("--version"))
            }
        };
        said.unwrap_or_else(|| "unknown".to_owned())
    }

    /// Sets it up on machines of its own.
    pub(crate) fn start(self) -> Result<Site> {
        self.start_as(self.name(), 0)
    }

    /// The same under another name, with so many ports published before those
    /// that are measured.
    pub(crate) fn start_as(self, name: &str, before: u16) -> Result<Site> {
        let machines = Machines::make(name)?;
        match self {
            Self::Direct => plain::direct(machines),
            Self::Bridge => plain::bridge(machines),
            Self::Docker => docker::site(machines, &["--userland-proxy=true"], before),
            Self::DockerNoProxy => docker::site(machines, &["--userland-proxy=false"], before),
            Self::Cni => cni::site(machines, before),
            Self::Netavark => netavark::site(machines, before),
            Self::Netd => {
                netd::site_with(machines, &serde_json::json!({"docker-plugin": "off"}), before)
            }
            Self::NetdDocker => docker::site_of_netd(machines),
        }
        .with_context(|| format!("failed to set up {}", self.name()))
    }
}

/// The first host port of those that only take up room.
const FILLER: u16 = 20_000;

/// (host port, container port, protocol): so many that nobody asks, then those
/// that are measured.
fn ports(before: u16) -> Vec<(u16, u16, &'static str)> {
    let filler = (FILLER..FILLER + before).map(|port| (port, port, "tcp"));
    filler.chain(PORTS.map(|(port, protocol)| (port + SHIFT, port, protocol))).collect()
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    // The CNI plugins say it on stderr.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}

/// Adds a program's standard input to [`ns::run`].
fn run_with_input(command: &mut Command, file: &std::path::Path, input: &str) -> Result<String> {
    std::fs::write(file, input)?;
    let line = crate::shell::line(command);
    let output = command
        .stdin(std::fs::File::open(file)?)
        .output()
        .with_context(|| format!("failed to start `{line}`"))?;
    anyhow::ensure!(
        output.status.success(),
        "`{line}` failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim(),
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A process id that a program printed.
fn ns_of(pid: &serde_json::Value) -> Result<Ns> {
    let pid = pid.as_u64().filter(|pid| *pid != 0).context("the container has no process")?;
    Ok(ns::Ns::of_process(pid))
}
