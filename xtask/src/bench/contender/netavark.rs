//! netavark, called as Podman calls it, with its nftables driver.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{ports, run_with_input};
use crate::{
    bench::{
        ns::Ns,
        site::{A, B, Dual, GATEWAY, Machines, SUBNET, SUBNET6, Site},
    },
    setup, shell, toolchain,
};

/// The newest when this was written; Debian's is years older.
const VERSION: &str = "2.1.0";
const DEBIAN: &str = "/usr/lib/podman/netavark";

/// The one that was built here, or else Debian's.
pub(super) fn program() -> PathBuf {
    let built = toolchain::tools(shell::root()).join("bin/netavark");
    if built.is_file() { built } else { DEBIAN.into() }
}

pub(super) fn install() -> Result<()> {
    if program().is_file() {
        return Ok(());
    }
    setup::ensure_file("/usr/bin/protoc", "protobuf-compiler")?;
    if let Err(error) = setup::install_contender("netavark", VERSION) {
        eprintln!("    {error:#}; Debian's netavark is older, and has no nftables before 1.10");
        setup::ensure_file(DEBIAN, "netavark")?;
    }
    if !program().is_file() {
        bail!("neither builds from its source nor is it Debian's");
    }
    Ok(())
}

pub(super) fn site(machines: Machines, before: u16) -> Result<Site> {
    let (a, b) = (machines.container("a")?, machines.container("b")?);
    machines.forward()?;
    setup_container(&machines, "a", &a, A, &[])?;
    setup_container(&machines, "b", &b, B, &ports(before))?;
    Site::new(machines, a, b, B, Vec::new())
}

/// Attaches a namespace and publishes (host port, container port, protocol).
pub(crate) fn setup_container(
    machines: &Machines,
    name: &str,
    ns: &Ns,
    address: Dual,
    ports: &[(u16, u16, &str)],
) -> Result<()> {
    let options = options(name, address, ports);
    let file = machines.folder.join(format!("{name}.json"));
    call(machines, "setup", ns, &file, &options)
}

/// `setup` or `teardown`.
pub(crate) fn call(
    machines: &Machines,
    what: &str,
    ns: &Ns,
    file: &Path,
    options: &Value,
) -> Result<()> {
    let mut command = machines.host.command(program());
    command.env("NETAVARK_FW", "nftables");
    command.arg("--config").arg(machines.folder.join("netavark"));
    command.args([what]).arg(ns.path());
    std::fs::create_dir_all(machines.folder.join("netavark"))?;
    run_with_input(&mut command, file, &options.to_string()).context("netavark")?;
    Ok(())
}

fn options(name: &str, address: Dual, ports: &[(u16, u16, &str)]) -> Value {
    let mappings: Vec<_> = ports
        .iter()
        .map(|(host, container, protocol)| {
            json!({
                "container_port": container,
                "host_ip": "",
                "host_port": host,
                "protocol": protocol,
                "range": 1,
            })
        })
        .collect();
    let ips: Vec<_> = std::iter::once(address.v4.to_string())
        .chain(address.v6.map(|v6| v6.to_string()))
        .collect();
    // Podman's ids are 64 hexadecimal digits.
    let id = name.bytes().fold(0_u128, |id, byte| id << 8 | u128::from(byte));
    json!({
        "container_id": format!("{id:064x}"),
        "container_name": name,
        "port_mappings": mappings,
        "networks": {
            "bench": {"static_ips": ips, "interface_name": "eth0", "aliases": []},
        },
        "network_info": {
            "bench": {
                "name": "bench",
                "id": "b3".repeat(32),
                "driver": "bridge",
                "network_interface": "podman1",
                "subnets": [
                    {"subnet": SUBNET, "gateway": GATEWAY.v4},
                    {"subnet": SUBNET6, "gateway": GATEWAY.v6},
                ],
                "ipv6_enabled": true,
                "internal": false,
                "dns_enabled": false,
                "ipam_options": {"driver": "host-local"},
            },
        },
    })
}
