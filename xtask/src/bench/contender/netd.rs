//! netd, by its command line.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ns_of, ports};
use crate::{
    bench::{
        ns::{Daemon, Ns, eventually, run},
        site::{A, B, Dual, GATEWAY, Machines, SUBNET, SUBNET6, Site},
    },
    build::{self, Profile},
};

/// `NETD_BIN`, as the tests have it, or what was built for this.
pub(super) fn program() -> PathBuf {
    std::env::var_os("NETD_BIN").map_or_else(|| build::binary(Profile::Release), PathBuf::from)
}

pub(crate) fn site_with(machines: Machines, config: &Value, before: u16) -> Result<Site> {
    let (netd, agent) = Agent::start(&machines, config)?;
    netd.make_network()?;
    let a = netd.run("a", &["--ip", &A.v4.to_string()])?;
    let specs: Vec<_> = ports(before)
        .iter()
        // Of many, one family: a socket for each in both is more than some
        // machines let a process have.
        .map(|(host, port, protocol)| match before {
            0 => format!("{host}:{port}/{protocol}"),
            _ => format!("0.0.0.0:{host}:{port}/{protocol}"),
        })
        .collect();
    let ip = B.v4.to_string();
    let mut flags = vec!["--ip", ip.as_str()];
    flags.extend(specs.iter().flat_map(|spec| ["-p", spec.as_str()]));
    let b = netd.run("b", &flags)?;
    let address = netd.address("b")?;
    let mut site = Site::new(machines, a, b, address, vec![agent])?;
    site.on_removal(move || netd.remove_all());
    Ok(site)
}

/// A running agent, by its command line.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    root: PathBuf,
    host: Ns,
}

impl Agent {
    pub(crate) fn start(machines: &Machines, config: &Value) -> Result<(Self, Daemon)> {
        let root = machines.folder.join("root");
        fs::create_dir_all(&root)?;
        fs::write(root.join("netd.json"), config.to_string())?;
        let agent = Self { root, host: machines.host.clone() };
        let daemon = agent.start_again()?;
        Ok((agent, daemon))
    }

    /// Starts the agent where none runs, and waits until it answers.
    pub(crate) fn start_again(&self) -> Result<Daemon> {
        let log = self.root.join("agent.log");
        let mut daemon = Daemon::start(self.command().arg("agent"), &log)?;
        eventually("the agent answers", || {
            daemon.check()?;
            Ok(self.netd(&["network", "ls"]).ok())
        })?;
        Ok(daemon)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.host.command(program());
        command.arg("--root").arg(&self.root);
        command
    }

    pub(crate) fn netd(&self, args: &[&str]) -> Result<String> {
        run(self.command().args(args))
    }

    /// The network that all contenders have.
    pub(crate) fn make_network(&self) -> Result<()> {
        let gateway = GATEWAY.v4.to_string();
        self.netd(&[
            "network",
            "create",
            "--ipv6",
            "--subnet",
            SUBNET,
            "--subnet",
            SUBNET6,
            "--gateway",
            &gateway,
            "bench",
        ])
        .map(drop)
    }

    /// Starts a container that waits; gives its namespace.
    pub(crate) fn run(&self, name: &str, flags: &[&str]) -> Result<Ns> {
        let mut command = self.command();
        command.args(["run", "-d", "--name", name, "--network", "bench"]).args(flags);
        run(command.args(["--", "sleep", "infinity"]))?;
        ns_of(&self.inspect(name)?["State"]["Pid"])
    }

    /// Asks the agent for a container with one published port, by its API: a
    /// runtime's call. Its command is not started. Gives how long that took.
    pub(crate) fn create(&self, name: &str, port: u16) -> Result<Duration> {
        let body = json!({
            "name": name,
            "network": "bench",
            "publish": [format!("{port}:7000")],
            "command": ["true"],
        })
        .to_string();
        let start = Instant::now();
        let mut stream = UnixStream::connect(self.root.join("run/netd.sock"))?;
        write!(
            stream,
            "POST /v1/containers HTTP/1.1\r\nHost: netd\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let took = start.elapsed();
        ensure!(answer.starts_with("HTTP/1.1 201"), "the agent answered {answer}");
        Ok(took)
    }

    fn inspect(&self, name: &str) -> Result<Value> {
        let mut list: Vec<Value> = serde_json::from_str(&self.netd(&["inspect", name])?)?;
        list.pop().context("netd inspect printed nothing")
    }

    pub(crate) fn address(&self, name: &str) -> Result<Dual> {
        let it = self.inspect(name)?;
        let of = &it["NetworkSettings"]["Networks"]["bench"];
        Ok(Dual {
            v4: of["IPAddress"].as_str().context("no address")?.parse()?,
            v6: of["GlobalIPv6Address"].as_str().and_then(|ip| ip.parse().ok()),
        })
    }

    pub(crate) fn remove_all(&self) -> Result<()> {
        let list: Value = serde_json::from_str(&self.netd(&["ps", "-a", "--json"])?)?;
        let ids = list.as_array().into_iter().flatten().filter_map(|row| row["Id"].as_str());
        let ids: Vec<_> = ids.collect();
        ids.chunks(100).try_for_each(|some| self.remove(some))
    }

    pub(crate) fn remove(&self, names: &[&str]) -> Result<()> {
        run(self.command().args(["rm", "-f"]).args(names)).map(drop)
    }
}
