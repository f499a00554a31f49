//! What a contender is measured on: the same few machines for each.
//!
//! ```text
//! a ── network ── b           both containers; b has published ports
//!         │
//!        host 192.0.2.1 ───── outside 192.0.2.2
//! ```

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    ns::{self, Daemon, Ns, SCRATCH, eventually, run},
    paths::Family,
};

/// Container ports that are published, and the protocol of each.
pub(crate) const PORTS: [(u16, &str); 5] =
    [(7000, "tcp"), (7000, "udp"), (7001, "tcp"), (7002, "udp"), (5201, "tcp")];
/// How much higher a published port is on the host.
pub(crate) const SHIFT: u16 = 1000;

/// An address of each family; `None`: the contender has none there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dual {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Dual {
    pub(crate) fn of(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => Some(self.v4.into()),
            Family::V6 => self.v6.map(IpAddr::from),
        }
    }
}

pub(crate) const HOST: Dual = Dual {
    v4: Ipv4Addr::new(192, 0, 2, 1),
    v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1)),
};
pub(crate) const OUTSIDE: Dual = Dual {
    v4: Ipv4Addr::new(192, 0, 2, 2),
    v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2)),
};

/// The containers' network, where the contender takes the addresses it is given.
pub(crate) const SUBNET: &str = "172.30.0.0/16";
pub(crate) const GATEWAY: Dual = Dual {
    v4: Ipv4Addr::new(172, 30, 0, 1),
    v6: Some(Ipv6Addr::new(0xfd00, 0xbe, 0, 0, 0, 0, 0, 1)),
};
pub(crate) const SUBNET6: &str = "fd00:be::/64";
pub(crate) const A: Dual = Dual {
    v4: Ipv4Addr::new(172, 30, 0, 2),
    v6: Some(Ipv6Addr::new(0xfd00, 0xbe, 0, 0, 0, 0, 0, 2)),
};
pub(crate) const B: Dual = Dual {
    v4: Ipv4Addr::new(172, 30, 0, 3),
    v6: Some(Ipv6Addr::new(0xfd00, 0xbe, 0, 0, 0, 0, 0, 3)),
};

/// A host with its uplink, and the outside.
#[derive(Debug)]
pub(crate) struct Machines {
    pub(crate) name: String,
    pub(crate) host: Ns,
    pub(crate) outside: Ns,
    pub(crate) folder: PathBuf,
}

impl Machines {
    pub(crate) fn make(name: &str) -> Result<Self> {
        let folder = Path::new(SCRATCH).join(name);
        fs::create_dir_all(&folder)?;
        let host = Ns::make(&format!("{name}.host"))?;
        let outside = Ns::make(&format!("{name}.out"))?;
        veth(&host, "up0", &outside, "eth0")?;
        give_addresses(&host, "up0", HOST, 24)?;
        give_addresses(&outside, "eth0", OUTSIDE, 24)?;
        default_route(&host, OUTSIDE)?;
        Ok(Self { name: name.to_owned(), host, outside, folder })
    }

    /// A namespace for a contender that makes none itself.
    pub(crate) fn container(&self, name: &str) -> Result<Ns> {
        Ns::make(&format!("{}.{name}", self.name))
    }

    /// Makes the host a router, for contenders that leave that to others.
    pub(crate) fn forward(&self) -> Result<()> {
        self.host.sysctl("net.ipv4.ip_forward", "1")?;
        self.host.sysctl("net.ipv6.conf.all.forwarding", "1")
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if let Err(error) = ns::clear_away_of(&self.name, &self.folder) {
            eprintln!("    {}: {error:#}", self.name);
        }
    }
}

/// Where `b` is reached by those who are not its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// At the host's address, at ports that are [`SHIFT`] higher.
    AtHost,
    /// At its own.
    AtContainer,
    /// They are no part of it.
    Nowhere,
}

/// A contender, set up and ready.
pub(crate) struct Site {
    pub(crate) a: Ns,
    pub(crate) b: Ns,
    pub(crate) b_address: Dual,
    pub(crate) published: Published,
    /// What answers in `b` and outside. Ends before the network goes.
    servers: Vec<Daemon>,
    /// What the contender needs to run.
    pub(crate) daemons: Vec<Daemon>,
    undo: Vec<Undo>,
    /// The last to go.
    pub(crate) machines: Machines,
}

type Undo = Box<dyn FnOnce() -> Result<()>>;

impl Site {
    /// Starts the servers.
    pub(crate) fn new(
        machines: Machines,
        a: Ns,
        b: Ns,
        b_address: Dual,
        daemons: Vec<Daemon>,
    ) -> Result<Self> {
        let mut site = Self {
            a,
            b,
            b_address,
            published: Published::AtHost,
            servers: Vec::new(),
            daemons,
            undo: Vec::new(),
            machines,
        };
        let folder = site.machines.folder.clone();
        for (ns, name) in [(site.b.clone(), "b"), (site.machines.outside.clone(), "outside")] {
            site.servers.push(server(&ns, &folder.join(format!("{name}-load.log")))?);
            let mut iperf = ns.command("iperf3");
            iperf.args(["--server", "--port", "5201"]);
            site.servers.push(Daemon::start(&iperf, &folder.join(format!("{name}-iperf.log")))?);
        }
        for ns in [&site.b, &site.machines.outside] {
            for port in [7000, 7001, 5201] {
                listens(ns, port)?;
            }
        }
        Ok(site)
    }

    /// What is to be done before the namespaces go; the last one first.
    pub(crate) fn on_removal(&mut self, undo: impl FnOnce() -> Result<()> + 'static) {
        self.undo.push(Box::new(undo));
    }

    /// Lets the servers run on these CPUs (`taskset`'s list) only.
    pub(crate) fn pin_servers(&self, cpus: &str) -> Result<()> {
        for server in &self.servers {
            run(std::process::Command::new("taskset").args([
                "--all-tasks",
                "--pid",
                "--cpu-list",
                cpus,
                &server.id().to_string(),
            ]))?;
        }
        Ok(())
    }

    /// An error if one of its programs has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().chain(&mut self.daemons).try_for_each(Daemon::check)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.clear();
        while let Some(undo) = self.undo.pop() {
            if let Err(error) = undo() {
                eprintln!("    {}: {error:#}", self.machines.name);
            }
        }
        self.daemons.clear();
    }
}

/// The load generator's answering end.
pub(crate) fn server(ns: &Ns, log: &Path) -> Result<Daemon> {
    let mut load = ns.command(std::env::current_exe()?);
    Daemon::start(load.args(["load", "serve"]), log)
}

/// Waits until somebody listens on a TCP port.
pub(crate) fn listens(ns: &Ns, port: u16) -> Result<()> {
    eventually(&format!("something listens on port {port}"), || {
        let found = run(ns.command("ss").args(["-Htln", "sport", "=", &format!(":{port}")]))?;
        Ok((!found.trim().is_empty()).then_some(()))
    })
}

/// A cable between two namespaces.
pub(crate) fn veth(one: &Ns, link: &str, other: &Ns, peer: &str) -> Result<()> {
    one.ip(&format!(
        "link add {link} type veth peer name {peer} netns {}",
        other.path().display()
    ))?;
    one.ip(&format!("link set {link} up"))?;
    other.ip(&format!("link set {peer} up")).map(drop)
}

/// Gives a link its addresses; the IPv6 prefix is 64 long.
pub(crate) fn give_addresses(ns: &Ns, link: &str, address: Dual, bits: u8) -> Result<()> {
    ns.ip(&format!("address add {}/{bits} dev {link}", address.v4))?;
    if let Some(v6) = address.v6 {
        ns.ip(&format!("address add {v6}/64 dev {link} nodad"))?;
    }
    Ok(())
}

pub(crate) fn default_route(ns: &Ns, gateway: Dual) -> Result<()> {
    ns.ip(&format!("route add default via {}", gateway.v4))?;
    if let Some(v6) = gateway.v6 {
        ns.ip(&format!("-6 route add default via {v6}"))?;
    }
    Ok(())
}
