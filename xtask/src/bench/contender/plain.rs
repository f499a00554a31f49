//! What Linux does by itself.

use anyhow::Result;

use crate::bench::site::{
    A, B, GATEWAY, HOST, Machines, Published, Site, default_route, give_addresses, veth,
};

/// `a` and `b` on one cable. There is but one path.
pub(super) fn direct(machines: Machines) -> Result<Site> {
    let (a, b) = (machines.container("a")?, machines.container("b")?);
    veth(&a, "eth0", &b, "eth0")?;
    give_addresses(&a, "eth0", A, 16)?;
    give_addresses(&b, "eth0", B, 16)?;
    let mut site = Site::new(machines, a, b, B, Vec::new())?;
    site.published = Published::Nowhere;
    Ok(site)
}

/// Whoever is not on the bridge reaches containers by a route.
pub(super) fn bridge(machines: Machines) -> Result<Site> {
    let host = &machines.host;
    host.sysctl("net.bridge.bridge-nf-call-iptables", "0")?;
    host.sysctl("net.bridge.bridge-nf-call-ip6tables", "0")?;
    host.ip("link add br0 type bridge")?;
    host.ip("link set br0 up")?;
    give_addresses(host, "br0", GATEWAY, 16)?;
    machines.forward()?;
    let (a, b) = (machines.container("a")?, machines.container("b")?);
    for (ns, link, address) in [(&a, "va", A), (&b, "vb", B)] {
        veth(host, link, ns, "eth0")?;
        host.ip(&format!("link set {link} master br0"))?;
        give_addresses(ns, "eth0", address, 16)?;
        default_route(ns, GATEWAY)?;
    }
    default_route(&machines.outside, HOST)?;
    let mut site = Site::new(machines, a, b, B, Vec::new())?;
    site.published = Published::AtContainer;
    Ok(site)
}
