//! What the host has: links, addresses, routes. Reads only.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use ipnetwork::IpNetwork;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};

use super::{Error, Netlink, names, nl};
use crate::model::{IfName, Mac};

/// A link of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    /// Names that netd would not give are kept as they are.
    pub name: String,
    /// `bridge`, `veth`, `vlan`, …; empty for a device of the hardware.
    pub kind: String,
    /// Index of the bridge or bond it belongs to.
    pub master: Option<u32>,
    pub alias: Option<String>,
    pub mtu: u32,
    /// `None`: not an Ethernet-like device.
    pub mac: Option<Mac>,
    /// `ARPHRD_*`; 1 is Ethernet.
    pub hardware_type: u16,
    pub loopback: bool,
    pub up: bool,
    /// Of a veth, the index of its other side, in that one's namespace.
    pub peer: Option<u32>,
    /// It carries packets (`IF_OPER_UP`, RFC 2863).
    pub operational: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    pub address: IpNetwork,
    /// It may be the source of what leaves the host. Of IPv6: of global scope,
    /// neither deprecated nor tentative, and not temporary (RFC 8981), which
    /// would not outlive its flows.
    pub source: bool,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNetwork,
    pub gateway: Option<IpAddr>,
    /// The link's index; of a multipath route, the first hop's.
    pub link: Option<u32>,
    pub metric: u32,
    /// The route's own MTU (`mtu N`), if it has one.
    pub mtu: Option<u32>,
}

/// The host's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Unicast routes of the main table, both families.
    pub main: Vec<Route>,
    /// An IPv6 route of any table says which source to take (`src ADDRESS`).
    pub names_source6: bool,
}

impl Link {
    /// Made by netd, this agent or another one on this host.
    pub fn is_own(&self) -> bool {
        names::is_own(self.alias.as_deref())
    }
}

impl Netlink {
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        let _alone = self.listing.lock().await;
        self.handle()
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute()
            .map_ok(link)
            .try_collect()
            .await
            .map_err(failed("links"))
    }

    /// The link of this name.
    pub async fn link(&self, name: &IfName) -> Result<Option<Link>, Error> {
        let request = self.handle().link().get().match_name(name.as_str());
        match request.execute().try_next().await {
            Ok(found) => Ok(found.map(link)),
            Err(error) => {
                let source = nl::io_error(error);
                if source.raw_os_error() == Some(libc::ENODEV) {
                    Ok(None)
                } else {
                    Err(Error::List { what: "links", source })
                }
            }
        }
    }

    /// Waits until a link carries packets, for a second at most. Until the kernel
    /// has followed its carrier, in its own time (`linkwatch_event`,
    /// `net/core/link_watch.c`), a bridge lets nothing pass to it or from it.
    pub async fn wait_until_operational(&self, index: u32) {
        const WAIT: Duration = Duration::from_secs(1);
        const PROBE_EVERY: Duration = Duration::from_micros(500);
        let start = Instant::now();
        loop {
            // To be asked makes the kernel follow it, from Linux 6.8 on.
            let request = self.handle().link().get().match_index(index);
            // What is not there, or is set down, never will.
            let Ok(Some(found)) = request.execute().try_next().await else { return };
            let found = link(found);
            if found.operational || !found.up || start.elapsed() > WAIT {
                return;
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    pub async fn ifindex(&self, name: &IfName) -> Result<u32, Error> {
        let found = self.link(name).await?;
        found.map(|link| link.index).ok_or_else(|| Error::NoLink(name.clone()))
    }

    /// Addresses of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>, Error> {
        let _alone = self.listing.lock().await;
        let found: Vec<AddressMessage> = self
            .handle()
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("addresses"))?;
        Ok(found.into_iter().filter_map(address).collect())
    }

    pub async fn routes(&self) -> Result<Routes, Error> {
        let _alone = self.listing.lock().await;
        let requests = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        let mut routes = Routes::default();
        for request in requests {
            let found: Vec<RouteMessage> = self
                .handle()
                .route()
                .get(request)
                .execute()
                .try_collect()
                .await
                .map_err(failed("routes"))?;
            routes.names_source6 |= found.iter().any(names_source6);
            routes.main.extend(found.into_iter().filter_map(route));
        }
        Ok(routes)
    }
}

/// The MTU of the default route that packets take: its own, or its link's.
/// IPv4's default route is asked first.
pub fn default_mtu(links: &[Link], routes: &[Route]) -> Option<u32> {
    let default = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.link.is_some())
        .min_by_key(|route| (route.destination.is_ipv6(), route.metric))?;
    default.mtu.or_else(|| {
        let link = links.iter().find(|link| Some(link.index) == default.link)?;
        Some(link.mtu)
    })
}

/// [`Link::kind`] of a bridge.
pub const BRIDGE: &str = "bridge";

/// Whether a bridge is one of containers or virtual machines: all of its ports
/// are virtual, and the host's own way out is another.
pub fn has_guests(bridge: &Link, links: &[Link], routes: &[Route]) -> bool {
    let is_port = |link: &&Link| link.master == Some(bridge.index);
    let is_virtual = |link: &Link| ["veth", "tun"].contains(&link.kind.as_str());
    let leads_out = |route: &Route| route.destination.prefix() == 0;
    bridge.kind == BRIDGE
        && links.iter().filter(is_port).all(is_virtual)
        && !routes.iter().any(|route| leads_out(route) && route.link == Some(bridge.index))
}

fn failed(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| Error::List { what, source: nl::io_error(error) }
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        master: None,
        alias: None,
        mtu: 0,
        mac: None,
        hardware_type: message.header.link_layer_type.into(),
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        peer: None,
        operational: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::OperState(state) => link.operational = state == State::Up,
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn address(message: AddressMessage) -> Option<Address> {
    // On a point-to-point link `Address` is the peer's and `Local` one's own;
    // IPv6 has no `Local` elsewhere.
    let mut address = None;
    let mut flags = AddressFlags::empty();
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(local),
            AddressAttribute::Address(other) => address = address.or(Some(other)),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    // `Secondary` is what the kernel calls a temporary one.
    let unfit = AddressFlags::Secondary
        | AddressFlags::Deprecated
        | AddressFlags::Tentative
        | AddressFlags::Dadfailed;
    let global = message.header.scope == AddressScope::Universe;
    let source =
        message.header.family == AddressFamily::Inet || (global && !flags.intersects(unfit));
    Some(Address {
        link: message.header.index,
        address: IpNetwork::new(address?, message.header.prefix_len).ok()?,
        source,
    })
}

fn names_source6(message: &RouteMessage) -> bool {
    let is_source = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::PrefSource(_));
    message.header.address_family == AddressFamily::Inet6
        && message.attributes.iter().any(is_source)
}

fn route(message: RouteMessage) -> Option<Route> {
    const MAIN: u32 = 254;
    let header = message.header;
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut gateway, mut link, mut metric, mut mtu) = (None, None, 0, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::Destination(to) => destination = ip(&to)?,
            RouteAttribute::Gateway(via) => gateway = ip(&via),
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Priority(priority) => metric = priority,
            RouteAttribute::MultiPath(hops) => {
                link = link.or_else(|| hops.first().map(|hop| hop.interface_index));
            }
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (table == MAIN && header.kind == RouteType::Unicast).then_some(Route {
        destination: IpNetwork::new(destination, header.destination_prefix_length).ok()?,
        gateway,
        link,
        metric,
        mtu,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_routes_mtu_is_its_own_or_its_links() {
        let link = |index, mtu| Link {
            index,
            name: format!("eth{index}"),
            kind: String::new(),
            master: None,
            alias: None,
            mtu,
            mac: None,
            hardware_type: 1,
            loopback: false,
            up: true,
            peer: None,
            operational: true,
        };
        let route = |destination: &str, link, metric, mtu| Route {
            destination: destination.parse().unwrap(),
            gateway: None,
            link: Some(link),
            metric,
            mtu,
        };
        let links = [link(1, 1500), link(2, 9000)];
        assert_eq!(default_mtu(&links, &[]), None);
        let slow = route("0.0.0.0/0", 2, 100, None);
        let lan = route("10.0.0.0/8", 1, 0, None);
        assert_eq!(default_mtu(&links, &[lan, slow.clone()]), Some(9000));
        let better = route("0.0.0.0/0", 1, 50, Some(1400));
        assert_eq!(default_mtu(&links, &[slow, better]), Some(1400));
    }

    #[test]
    fn an_ipv6_source_is_global_and_lasts() {
        let source = |text: &str, scope, flags| {
            let mut message = AddressMessage::default();
            let ip: IpAddr = text.parse().unwrap();
            message.header.family =
                if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            message.header.prefix_len = 24;
            message.header.scope = scope;
            message.attributes =
                vec![AddressAttribute::Address(ip), AddressAttribute::Flags(flags)];
            address(message).unwrap().source
        };
        let permanent = AddressFlags::Permanent;
        assert!(source("2001:db8::1", AddressScope::Universe, permanent));
        assert!(!source("fe80::1", AddressScope::Link, permanent));
        for flag in [AddressFlags::Secondary, AddressFlags::Deprecated, AddressFlags::Tentative] {
            assert!(!source("2001:db8::1", AddressScope::Universe, flag), "{flag:?}");
        }
        assert!(source("192.0.2.9", AddressScope::Universe, AddressFlags::Secondary));
    }
}
