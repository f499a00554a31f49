//! The CNI plugins, called as a runtime calls them: bridge (with host-local),
//! then portmap (CNI specification 1.0.0, section 3).

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{ports, run_with_input};
use crate::bench::{
    ns::Ns,
    site::{Dual, GATEWAY, Machines, SUBNET, SUBNET6, Site},
};

const FOLDER: &str = "/usr/lib/cni";
pub(super) const PLUGIN: &str = "/usr/lib/cni/bridge";

pub(super) fn site(machines: Machines, before: u16) -> Result<Site> {
    let (a, b) = (machines.container("a")?, machines.container("b")?);
    let cni = Cni::new(&machines);
    machines.forward()?;
    cni.add("a", &a, &[])?;
    let address = cni.add("b", &b, &ports(before))?;
    Site::new(machines, a, b, address, Vec::new())
}

/// The plugins, with a configuration, on one host.
#[derive(Clone, Debug)]
pub(crate) struct Cni {
    host: Ns,
    folder: PathBuf,
}

impl Cni {
    pub(crate) fn new(machines: &Machines) -> Self {
        Self { host: machines.host.clone(), folder: machines.folder.clone() }
    }

    /// Attaches a namespace, and publishes (host port, container port,
    /// protocol); gives its address.
    pub(crate) fn add(&self, id: &str, ns: &Ns, ports: &[(u16, u16, &str)]) -> Result<Dual> {
        let bridge = json!({
            "cniVersion": "1.0.0",
            "name": "bench",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.folder.join("ipam"),
                "ranges": [
                    [{"subnet": SUBNET, "gateway": GATEWAY.v4}],
                    [{"subnet": SUBNET6, "gateway": GATEWAY.v6}],
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        });
        let result = self.call("bridge", id, ns, &bridge)?;
        if !ports.is_empty() {
            let mappings: Vec<_> = ports
                .iter()
                .map(|(host, container, protocol)| {
                    json!({"hostPort": host, "containerPort": container, "protocol": protocol})
                })
                .collect();
            let portmap = json!({
                "cniVersion": "1.0.0",
                "name": "bench",
                "type": "portmap",
                "capabilities": {"portMappings": true},
                "snat": true,
                "runtimeConfig": {"portMappings": mappings},
                "prevResult": result,
            });
            self.call("portmap", id, ns, &portmap)?;
        }
        let ips: Vec<_> = result["ips"].as_array().into_iter().flatten().collect();
        let address = |is_v6: bool| {
            let mut found = ips.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next());
            found.find(|ip| ip.contains(':') == is_v6).map(str::to_owned)
        };
        Ok(Dual {
            v4: address(false).context("the plugin gave no address")?.parse()?,
            v6: address(true).and_then(|ip| ip.parse().ok()),
        })
    }

    fn call(&self, plugin: &str, id: &str, ns: &Ns, config: &Value) -> Result<Value> {
        fs::create_dir_all(&self.folder)?;
        let mut command: Command = self.host.command(format!("{FOLDER}/{plugin}"));
        command
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", ns.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", FOLDER);
        let file = self.folder.join(format!("{id}-{plugin}.json"));
        let text = run_with_input(&mut command, &file, &config.to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{plugin} printed no JSON: {text}"))
    }
}
