//! Annexes: a further bridge of a network, and the veth pair by which it is a
//! part of the network's own. They have no address, no IPv6 and no programs,
//! and pass on what any endpoint may send.

use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Error, Netlink, link, names, nl::Request, sysctl};
use crate::model::{IfName, Mac};

/// The largest MTU of a bridge and of a veth (`ETH_MAX_MTU`).
const MTU: u32 = 65535;

/// An annex as it shall be.
#[derive(Clone, Copy, Debug)]
pub struct Annex<'a> {
    /// The network's own bridge.
    pub bridge: &'a IfName,
    pub name: &'a IfName,
    pub mac: Mac,
    /// In `bridge`.
    pub near: &'a IfName,
    /// In the annex.
    pub far: &'a IfName,
}

impl Annex<'_> {
    /// Both bridges and the pair between them, up; what is there stays.
    pub async fn create(&self, netlink: &Netlink) -> Result<(), Error> {
        let bridge = netlink.ifindex(self.bridge).await?;
        let was_there = self.own(netlink, self.name).await?.is_some();
        let result = self.make(netlink, bridge).await;
        if result.is_err() && !was_there {
            // The first error is the one that counts.
            let _ = self.delete(netlink).await;
        }
        result
    }

    async fn make(&self, netlink: &Netlink, bridge: u32) -> Result<(), Error> {
        if self.own(netlink, self.name).await?.is_none() {
            let message = LinkMessageBuilder::<LinkBridge>::new(self.name.as_str())
                // What one of the containers listens to is for the network's
                // bridge to know.
                .mcast_snooping(false)
                .address(self.mac.0.to_vec())
                .build();
            netlink
                .pipeline(vec![Request::new_link(message)])
                .await
                .map_err(|source| Error::CreateBridge { name: self.name.clone(), source })?;
        }
        let annex = netlink.ifindex(self.name).await?;
        if self.own(netlink, self.near).await?.is_none() {
            let message =
                LinkMessageBuilder::<LinkVeth>::new(self.near.as_str(), self.far.as_str())
                    .address(names::trunk_mac(self.mac).0.to_vec())
                    .build();
            netlink
                .pipeline(vec![Request::new_link(message)])
                .await
                .map_err(|source| Error::CreateVeth { name: self.near.clone(), source })?;
        }
        for name in [self.name, self.near, self.far] {
            // Before it is up, or it would have a link-local address by then.
            sysctl::disable_ipv6(name)?;
        }
        let set = |name: &IfName| LinkUnspec::new_with_name(name.as_str()).mtu(MTU).up();
        let trunk = names::annex_alias(self.mac);
        let requests = [
            set(self.name).alias(names::bridge_alias(self.mac)).address(self.mac.0.to_vec()),
            set(self.near).alias(&trunk).controller(bridge),
            set(self.far).alias(&trunk).controller(annex),
        ];
        netlink
            .pipeline(requests.map(|request| Request::set_link(request.build())).into())
            .await
            .map_err(|source| Error::Configure { name: self.name.clone(), source })
    }

    /// With what is still in it: its other ports are then in no bridge.
    pub async fn delete(&self, netlink: &Netlink) -> Result<(), Error> {
        for name in [self.near, self.name] {
            match self.own(netlink, name).await {
                Ok(Some(index)) => link::delete(netlink, name, index).await?,
                Ok(None) | Err(Error::Foreign(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The index of the bridge, or of the pair's end; an error where another's
    /// link has its name. Half made it has no alias yet.
    async fn own(&self, netlink: &Netlink, name: &IfName) -> Result<Option<u32>, Error> {
        let (kind, alias, mac) = if name == self.name {
            ("bridge", names::bridge_alias(self.mac), self.mac)
        } else {
            ("veth", names::annex_alias(self.mac), names::trunk_mac(self.mac))
        };
        let Some(link) = netlink.link(name).await? else { return Ok(None) };
        let same = match &link.alias {
            Some(other) => *other == alias,
            None => link.mac == Some(mac),
        };
        if same && link.kind == kind {
            Ok(Some(link.index))
        } else {
            Err(Error::Foreign(name.clone()))
        }
    }
}
