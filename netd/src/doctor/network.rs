//! How the host's network is set up. Much of what breaks other container
//! networks is harmless here; it is shown because people look for it.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::{Check, Host, Known, Status, host::Route};

/// Docker's default pools, which are netd's: first address and prefix.
const POOLS: [(Ipv4Addr, u8); 7] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14),
    (Ipv4Addr::new(172, 24, 0, 0), 14),
    (Ipv4Addr::new(172, 28, 0, 0), 14),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Ports from here to 65535 may be taken for SNAT, if they are not in
/// `ip_local_port_range`.
const FIRST_SNAT_PORT: u32 = 1024;
/// Fewer than this, and a busy host runs out towards one destination.
const FEW_PORTS: u32 = 8192;

pub(super) fn forwarding(host: &Host) -> Check {
    let name = "ip forwarding";
    match host.proc("sys/net/ipv4/ip_forward").as_deref() {
        Some("0") => Check::new(
            name,
            Status::Ok,
            "off for the host; netd switches it on for its own bridges only",
        ),
        Some(_) => Check::new(
            name,
            Status::Note,
            "on for the whole host, by another program; netd doesn't need it",
        ),
        None => Check::new(name, Status::Warning, "net.ipv4.ip_forward is not readable"),
    }
}

pub(super) fn forward_policy(known: &Known) -> Check {
    let name = "FORWARD policy";
    let nft = known.nft_chains.as_deref().is_some_and(|chains| {
        chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
    });
    let iptables = known
        .iptables
        .as_deref()
        .is_some_and(|rules| rules.lines().any(|line| line.starts_with(":FORWARD DROP")));
    if nft || iptables {
        let whose = if nft { "nftables" } else { "iptables" };
        Check::new(
            name,
            Status::Note,
            format!("{whose} drops what is forwarded: harmless, netd's packets don't pass it"),
        )
    } else if known.nft_chains.is_none() && known.iptables.is_none() {
        Check::new(
            name,
            Status::Ok,
            "not looked at (no nft or iptables-save, or not root); harmless whatever it is",
        )
    } else {
        Check::new(name, Status::Ok, "nothing is dropped on the way")
    }
}

pub(super) fn bridge_netfilter(host: &Host) -> Check {
    let name = "br_netfilter";
    match host.proc("sys/net/bridge/bridge-nf-call-iptables").as_deref() {
        None => Check::new(name, Status::Ok, "not loaded"),
        Some("0") => Check::new(name, Status::Ok, "loaded, bridge-nf-call-iptables is off"),
        Some(_) => Check::new(
            name,
            Status::Note,
            "bridged packets pass iptables: harmless, netd's are redirected before the bridge",
        ),
    }
}

/// The kernel takes the greater of `all` and the link's own.
pub(super) fn reverse_path(host: &Host, known: &Known) -> Check {
    let name = "rp_filter";
    let value = |link: &str| {
        host.proc(&format!("sys/net/ipv4/conf/{link}/rp_filter"))
            .and_then(|text| text.parse::<u8>().ok())
            .unwrap_or(0)
    };
    let mut uplinks = known.uplinks.clone();
    if uplinks.is_empty() {
        uplinks = host
            .foreign_routes()
            .into_iter()
            .filter(|route| route.destination.is_ipv4() && route.destination.prefix() == 0)
            .map(|route| route.link)
            .collect();
    }
    uplinks.sort();
    uplinks.dedup();
    let strict: Vec<_> = uplinks
        .iter()
        .filter(|link| value(link).max(value("all")) == 1)
        .map(String::as_str)
        .collect();
    match strict[..] {
        [] => Check::new(name, Status::Ok, "not strict on the uplinks"),
        [link] if uplinks.len() == 1 => {
            Check::new(name, Status::Note, format!("strict on {link}: harmless with one uplink"))
        }
        _ => Check::new(
            name,
            Status::Warning,
            format!(
                "strict on {}: a reply that comes in by another uplink may be dropped",
                strict.join(", ")
            ),
        )
        .action(
            strict
                .iter()
                .map(|link| format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2"))
                .collect::<Vec<_>>()
                .join("; "),
        ),
    }
}

/// Where XDP does not run, TC drops the same packets a little later.
pub(super) fn early_drop(known: &Known) -> Vec<Check> {
    let check = |(link, mode, reason): &(String, String, Option<String>)| {
        let why = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        Check::new("XDP", Status::Ok, format!("{mode} on {link}{why}"))
    };
    known.xdp.iter().map(check).collect()
}

pub(super) fn port_range(host: &Host) -> Check {
    let name = "port range";
    let text = host.proc("sys/net/ipv4/ip_local_port_range");
    let range = text.as_deref().and_then(|text| {
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let Some((first, last)) = range else {
        return Check::new(name, Status::Warning, "net.ipv4.ip_local_port_range is not readable");
    };
    let taken = (last + 1).saturating_sub(first.max(FIRST_SNAT_PORT));
    let left = (65536 - FIRST_SNAT_PORT).saturating_sub(taken);
    let found = format!("the host's own are {first}-{last}, {left} are left for SNAT");
    let status = match left {
        0 => Status::Problem,
        1..FEW_PORTS => Status::Warning,
        _ => return Check::new(name, Status::Ok, found),
    };
    Check::new(name, status, found).action("sysctl -w net.ipv4.ip_local_port_range='32768 60999'")
}

/// Pools that a route already uses: automatic choice steps around them.
pub(super) fn pools(host: &Host) -> Check {
    let name = "address pools";
    let routes = host.foreign_routes();
    let found: Vec<_> = POOLS
        .iter()
        .filter_map(|&(address, prefix)| {
            let pool = IpNetwork::V4(Ipv4Network::new(address, prefix).ok()?);
            let route = routes.iter().find(|route| meets(route, pool))?;
            Some(format!("{pool} overlaps {} of {}", route.destination, route.link))
        })
        .collect();
    if found.is_empty() {
        Check::new(name, Status::Ok, "no route overlaps the default pools")
    } else {
        Check::new(
            name,
            Status::Note,
            format!("{}: automatic subnets step around it", found.join(", ")),
        )
    }
}

/// Networks that a route of somebody else's, a VPN's mostly, has come to
/// overlap.
pub(super) fn overlaps(host: &Host, known: &Known) -> Vec<Check> {
    let routes = host.foreign_routes();
    let mut checks = Vec::new();
    for (network, subnet) in &known.networks {
        for route in &routes {
            // A bridge that was there before the network has no alias.
            let own = route.destination == *subnet && host.is_bridge(&route.link);
            if meets(route, *subnet) && !own {
                checks.push(
                    Check::new(
                        "overlap",
                        Status::Problem,
                        format!(
                            "network {network} ({subnet}) overlaps the route {} of {}",
                            route.destination, route.link
                        ),
                    )
                    .action(format!(
                        "make network {network} again with another --subnet, or take the route away"
                    )),
                );
            }
        }
    }
    checks
}

/// The default route meets nothing: all other routes come before it.
fn meets(route: &Route, subnet: IpNetwork) -> bool {
    let within = |outer: IpNetwork, inner: IpAddr| outer.contains(inner);
    route.destination.prefix() > 0
        && (within(route.destination, subnet.network())
            || within(subnet, route.destination.network()))
}
