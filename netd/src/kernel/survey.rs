//! The host as the controller plans with it: one look at links, addresses and
//! routes, netd's own told from the others'.

use std::collections::HashMap;

use ipnetwork::IpNetwork;

use super::{
    Error, Netlink,
    observe::{Link, default_mtu},
};
use crate::{controller::HostRoute, model::IfName};

/// What a host without a default route sends at most.
pub const ETHERNET_MTU: u32 = 1500;

#[derive(Clone, Debug)]
pub struct Survey {
    /// Every link, netd's own too.
    pub links: Vec<Link>,
    /// Addresses of links that are not netd's own.
    pub addresses: Vec<(IfName, IpNetwork)>,
    /// The main table's routes that don't go over netd's own links; default
    /// routes too.
    pub routes: Vec<HostRoute>,
    /// The default route's, 1500 without one.
    pub default_mtu: u32,
}

impl Survey {
    /// Of the namespace of `netlink` and of the calling thread: the same.
    pub async fn take(netlink: &Netlink) -> Result<Self, Error> {
        let links = netlink.links().await?;
        let addresses = netlink.addresses().await?;
        let routes = netlink.routes().await?.main;
        let others: HashMap<u32, &Link> =
            links.iter().filter(|link| !link.is_own()).map(|link| (link.index, link)).collect();
        Ok(Self {
            addresses: addresses
                .into_iter()
                .filter_map(|it| Some((others.get(&it.link)?.name.parse().ok()?, it.address)))
                .collect(),
            default_mtu: default_mtu(&links, &routes).unwrap_or(ETHERNET_MTU),
            routes: routes
                .into_iter()
                .filter_map(|route| {
                    Some(HostRoute {
                        destination: route.destination,
                        gateway: route.gateway,
                        // A next-hop group names none.
                        link: match route.link {
                            Some(index) => others.get(&index)?.name.clone(),
                            None => String::new(),
                        },
                    })
                })
                .collect(),
            links,
        })
    }

    /// Every link's name.
    pub fn names(&self) -> Vec<IfName> {
        let names = self.links.iter().map(|link| link.name.parse());
        names.filter_map(Result::ok).collect()
    }
}
