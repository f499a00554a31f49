//! What the agent sees of the host: for the controller's plans, and to tell
//! the datapath of uplinks, addresses and routes as they come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netd_common::abi::TrustedKey;

use super::Agent;
use crate::{
    api::types::UplinkXdp,
    controller::{self, Change, Host},
    datapath::{self, HostFacts, UplinkFacts, WhyOff, XdpState},
    ipam,
    kernel::{
        self,
        observe::{self, Address, BRIDGE, Link, Route, default_mtu, has_guests},
        survey::Survey,
    },
    model::{
        Config, Id, IfName, Network,
        config::{AddressPool, Xdp},
    },
    paths::Paths,
    store::Store,
};

/// `ARPHRD_ETHER` (`include/uapi/linux/if_arp.h`).
const ETHERNET: u16 = 1;

/// What the datapath was last told.
#[derive(Debug, Default)]
pub(super) struct Told {
    facts: HostFacts,
    /// The uplinks' addresses, by their links: those too that are gone without
    /// another in their place.
    sources: BTreeMap<IpAddr, u32>,
    pub(super) uplinks: Vec<String>,
    /// [`observe::Routes::names_source6`].
    names_source6: bool,
    /// By uplink.
    xdp: BTreeMap<String, XdpState>,
}

impl Told {
    pub(super) fn xdp_rows(&self) -> Vec<UplinkXdp> {
        let row = |(link, state): (&String, &XdpState)| UplinkXdp {
            link: link.clone(),
            mode: state.to_string(),
            reason: state.why_off(),
        };
        self.xdp.iter().map(row).collect()
    }

    /// Says what has changed, once.
    fn follow_xdp(&mut self, now: BTreeMap<String, XdpState>, wanted: Xdp) {
        for (link, state) in &now {
            if self.xdp.get(link) == Some(state) {
                continue;
            }
            match state {
                XdpState::Off(WhyOff::Configured | WhyOff::Costs(_)) => {}
                XdpState::Off(why) if wanted == Xdp::Auto => {
                    tracing::info!(link, "XDP does not run: {why}");
                }
                XdpState::Off(why) => tracing::warn!(link, "XDP does not run: {why}"),
                on => tracing::info!(link, mode = %on, "XDP runs"),
            }
        }
        self.xdp = now;
    }
}

/// Whether flows must look their way up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routes {
    MayHaveChanged,
    AreTheSame,
}

/// What one look at the host has shown.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    /// `None`: as they were.
    pub(super) routes: Option<observe::Routes>,
}

impl Agent {
    /// A fresh look at the host, for a plan that makes a network.
    pub(super) async fn observe(&self) -> Result<Host, kernel::Error> {
        let survey = Survey::take(&self.work.kernel.netlink).await?;
        Ok(Host {
            links: survey.names(),
            routes: survey.routes,
            addresses: survey.addresses,
            default_mtu: survey.default_mtu,
            ..self.observe_ports()?
        })
    }

    /// What a plan for a container must know. It asks nothing of the host's
    /// links, addresses and routes: to list them takes the longer the more
    /// endpoints there are.
    pub(super) fn observe_ports(&self) -> Result<Host, kernel::Error> {
        Ok(Host {
            config: self.config.clone(),
            links: vec![],
            routes: vec![],
            addresses: vec![],
            ula: self.ula,
            default_mtu: kernel::survey::ETHERNET_MTU,
            ephemeral: self.local_ports.ephemeral()?,
            avoid_ports: vec![],
            reserved_ports: self.local_ports.reserved()?,
            netns_dir: self.paths.netns_dir(),
            containers_dir: self.paths.containers_dir(),
            host_netns: kernel::netns::own(),
            now: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
            fresh_ids: (0..8).map(|_| fresh_id()).collect(),
        })
    }

    /// A fresh look at the host's links.
    pub(super) async fn look(&self, routes: Routes) -> Result<Look, kernel::Error> {
        let netlink = &self.work.kernel.netlink;
        Ok(Look {
            links: netlink.links().await?,
            addresses: netlink.addresses().await?,
            routes: match routes {
                Routes::MayHaveChanged => Some(netlink.routes().await?),
                Routes::AreTheSame => None,
            },
        })
    }

    /// As [`Agent::tell_host`], after a look.
    pub(super) async fn refresh_host(&mut self, routes: Routes) -> anyhow::Result<()> {
        let look = self.look(routes).await?;
        self.tell_host(look).await
    }

    /// Attaches to new uplinks, lets go of old ones, and tells the datapath
    /// what it must know.
    pub(super) async fn tell_host(&mut self, look: Look) -> anyhow::Result<()> {
        let Look { links, addresses, routes } = look;
        let uplinks: Vec<&Link> =
            links.iter().filter(|link| is_uplink(link, &self.config)).collect();
        let mut facts = HostFacts {
            addresses: addresses
                .iter()
                .map(|address| address.address.ip())
                .filter(|address| !address.is_loopback())
                .collect(),
            uplinks: Vec::new(),
            ephemeral: self.local_ports.ephemeral()?,
            fib_source: datapath::has_fib_source(),
            netns_cookie: kernel::netns::cookie(),
        };
        let bridged = uplinks.iter().any(|link| link.kind == BRIDGE);
        let fresh;
        let listed: &[Route] = match &routes {
            Some(routes) => &routes.main,
            None if bridged => {
                fresh = self.work.kernel.netlink.routes().await?;
                &fresh.main
            }
            None => &[],
        };
        if let Some(routes) = &routes {
            self.host.names_source6 = routes.names_source6;
        }
        let (mut attached, mut xdp) = (Vec::new(), BTreeMap::new());
        for link in uplinks {
            // It may have gone since it was listed; then the next event tells.
            match self.work.datapath.attach_uplink(&link.name) {
                Ok(()) => attached.push(link.name.clone()),
                Err(error) => tracing::warn!(link = link.name, "not an uplink: {error:#}"),
            }
            let early = match self.work.datapath.attach_xdp(&link.name, self.config.xdp) {
                Ok(state) => state,
                Err(error) => XdpState::Off(WhyOff::Unsupported(format!("{error:#}"))),
            };
            facts.uplinks.push(UplinkFacts {
                ifindex: link.index,
                address4: source4(link, &addresses),
                address6: source6(link, &addresses),
                fixed_source6: !facts.fib_source
                    || !self.host.names_source6 && has_one_source6(link, &addresses),
                mac: link.mac,
                xdp: early.is_on(),
                guests: has_guests(link, &links, listed),
            });
            xdp.insert(link.name.clone(), early);
        }
        for gone in self.host.uplinks.iter().filter(|name| !attached.contains(name)) {
            self.work.datapath.detach(gone)?;
        }
        if attached != self.host.uplinks {
            tracing::info!(uplinks = attached.join(","), "uplinks");
        }
        self.monitor.tell_uplinks(addresses_of(&attached, &links, &addresses));
        self.host.uplinks = attached;
        self.work.datapath.tables.sync_trusted(&trusted(&links, self.state.networks.values()))?;
        self.host.follow_xdp(xdp, self.config.xdp);
        let default_mtu = routes.as_ref().and_then(|routes| default_mtu(&links, &routes.main));
        if routes.is_some() || facts != self.host.facts {
            self.work.datapath.tables.sync_host(&facts)?;
            self.host.facts = facts;
            self.end_masquerades(&links, &addresses);
        }
        // Without a default route, what was holds on.
        match default_mtu {
            Some(mtu) => self.follow_mtu(mtu).await,
            None => Ok(()),
        }
    }

    /// Ends what is masqueraded as an address that an uplink had and has no
    /// more, once it has another of its family: nothing could answer it. As
    /// long as it has none, the address may come back, and what it carried
    /// goes on.
    fn end_masquerades(&mut self, links: &[Link], addresses: &[Address]) {
        let uplinks = &self.host.facts.uplinks;
        let other = |link: u32, ip: &IpAddr| {
            uplinks.iter().filter(|uplink| uplink.ifindex == link).any(|uplink| match ip {
                IpAddr::V4(_) => uplink.address4.is_some(),
                IpAddr::V6(_) => uplink.address6.is_some(),
            })
        };
        let now = &self.host.facts.addresses;
        let lost: BTreeSet<IpAddr> = self
            .host
            .sources
            .iter()
            .filter(|(ip, link)| !now.contains(*ip) && other(**link, ip))
            .map(|(ip, _)| *ip)
            .collect();
        self.host.sources.retain(|ip, link| {
            !lost.contains(ip) && links.iter().any(|there| there.index == *link)
        });
        let own = addresses
            .iter()
            .filter(|it| uplinks.iter().any(|uplink| uplink.ifindex == it.link))
            .map(|it| (it.address.ip(), it.link));
        self.host.sources.extend(own);
        if !lost.is_empty() {
            self.work.end_masquerades(&lost);
        }
    }

    /// Brings networks without an MTU of their own to the host's.
    async fn follow_mtu(&mut self, default_mtu: u32) -> anyhow::Result<()> {
        let plan = controller::plan_mtu(&self.state, &self.config, default_mtu);
        if plan.steps.is_empty() {
            return Ok(());
        }
        self.carry_out(&plan)
            .await
            .map_err(|error| anyhow::anyhow!("failed to follow the MTU: {}", error.message))?;
        for change in &plan.changes {
            if let Change::PutNetwork(network) = change {
                tracing::info!(network = %network.name, mtu = network.mtu, "MTU follows the host's");
            }
        }
        Ok(())
    }
}

/// An Ethernet link that is not netd's, not the loopback, and not a part of
/// another link (whose traffic shows on that one).
fn is_uplink(link: &Link, config: &Config) -> bool {
    if let Some(named) = &config.uplinks {
        return named.contains(&link.name);
    }
    !link.is_own() && !link.loopback && link.master.is_none() && link.hardware_type == ETHERNET
}

/// The addresses of each of these links.
fn addresses_of(
    names: &[String],
    links: &[Link],
    addresses: &[Address],
) -> BTreeMap<String, String> {
    let links = links.iter().filter(|link| names.contains(&link.name));
    let texts = links.map(|link| {
        let own = addresses.iter().filter(|address| address.link == link.index);
        let own = own.map(|address| address.address.ip());
        let own = own.filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        let own: BTreeSet<_> = own.map(|ip| ip.to_string()).collect();
        (link.name.clone(), own.into_iter().collect::<Vec<_>>().join(" "))
    });
    texts.collect()
}

fn source4(link: &Link, addresses: &[Address]) -> Option<Ipv4Addr> {
    addresses.iter().filter(|address| address.link == link.index).find_map(|address| match address
        .address
        .ip()
    {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    })
}

/// A global unicast address rather than a unique local one, which the outside
/// may not know the way to.
fn source6(link: &Link, addresses: &[Address]) -> Option<Ipv6Addr> {
    let sources = addresses.iter().filter(|address| address.link == link.index && address.source);
    let sources = sources.filter_map(|address| match address.address.ip() {
        IpAddr::V6(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    });
    // The first of the least.
    sources.min_by_key(Ipv6Addr::is_unique_local)
}

/// Whether there is nothing to choose among a link's IPv6 addresses: it has one,
/// besides its link-local one, and that may be a source.
fn has_one_source6(link: &Link, addresses: &[Address]) -> bool {
    let mut own = addresses.iter().filter(|address| match address.address.ip() {
        IpAddr::V6(ip) => address.link == link.index && !ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    });
    own.next().is_some_and(|address| address.source) && own.next().is_none()
}

/// The pool that IPv6 subnets come from by default: of this agent on this
/// machine, and the same for ever, so that an address tells its host.
pub(super) fn unique_local_pool(paths: &Paths, store: &Store) -> anyhow::Result<AddressPool> {
    let machine = match std::fs::read_to_string("/etc/machine-id") {
        Ok(id) if id.trim().len() == 32 => id.trim().to_owned(),
        _ => store.host_id(&fresh_id())?.to_string(),
    };
    let agent = paths.state.display();
    Ok(ipam::unique_local_pool(format!("{machine} {agent}").as_bytes()))
}

/// The trusted interfaces of the networks, those that are there.
fn trusted<'a>(
    links: &[Link],
    networks: impl Iterator<Item = &'a Network>,
) -> BTreeSet<TrustedKey> {
    let ifindex =
        |name: &IfName| links.iter().find(|link| link.name == name.as_str()).map(|link| link.index);
    networks
        .flat_map(|network| network.trusted.iter().map(move |name| (network.index, name)))
        .filter_map(|(network, name)| Some(TrustedKey { network, ifindex: ifindex(name)? }))
        .collect()
}

fn fresh_id() -> Id {
    let mut bytes = [0; 32];
    // The kernel's generator never fails once the system is up.
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    Id::from_bytes(bytes)
}
