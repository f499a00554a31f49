//! Bridges and veth pairs, made in as few requests as the kernel allows. A
//! link that is not netd's own is never changed: a name that is taken is an
//! error, and removal passes by what is someone else's.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
    path::Path,
};

use ipnetwork::IpNetwork;
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
    packet_route::{
        address::{AddressHeaderFlags, AddressMessage},
        link::{InfoData, InfoVeth, LinkMessage},
        route::{RouteProtocol, RouteScope},
    },
};

use super::{Error, Netlink, names, nl::Request, observe::Link, sysctl};
use crate::model::{Id, IfName, Mac};

/// A bridge as it shall be.
#[derive(Clone, Copy, Debug)]
pub struct Bridge<'a> {
    pub name: &'a IfName,
    pub mac: Mac,
    pub mtu: u32,
    pub addresses: &'a [IpNetwork],
    /// The number that it should have if it has to be made: that of one which
    /// is gone, and which others still know it by. 0: any.
    pub index: u32,
}

/// A veth pair as it shall be.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    pub endpoint: &'a Id,
    pub host: &'a IfName,
    pub peer: &'a IfName,
    /// Where the peer is made; `None`: in the host's.
    pub netns: Option<&'a Path>,
    /// The peer's.
    pub mac: Mac,
    pub mtu: u32,
    pub bridge: &'a IfName,
    /// As a bridge's.
    pub index: u32,
}

impl Bridge<'_> {
    /// Up, addressed, its own forwarding on, IPv6 only where it has an
    /// address of it.
    pub async fn create(&self, netlink: &Netlink) -> Result<(), Error> {
        let created = self.add(netlink).await?;
        let result = self.configure(netlink).await;
        if result.is_err() && created {
            // The first error is the one that counts.
            let _ = self.delete(netlink).await;
        }
        result
    }

    /// Whether it had to be made.
    async fn add(&self, netlink: &Netlink) -> Result<bool, Error> {
        let message = LinkMessageBuilder::<LinkBridge>::new(self.name.as_str())
            .address(self.mac.0.to_vec())
            .build();
        match new_link(netlink, message, self.index).await {
            Ok(()) => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::EEXIST) => {
                match netlink.link(self.name).await? {
                    Some(link) if self.is(&link) => Ok(false),
                    _ => Err(Error::Foreign(self.name.clone())),
                }
            }
            Err(source) => Err(Error::CreateBridge { name: self.name.clone(), source }),
        }
    }

    async fn configure(&self, netlink: &Netlink) -> Result<(), Error> {
        let index = netlink.ifindex(self.name).await?;
        sysctl::enable_forwarding(self.name)?;
        if set_ipv6(self.name, self.addresses)? == Ipv6::On {
            sysctl::enable_forwarding6(self.name)?;
        }
        let mut requests: Vec<_> = self
            .addresses
            .iter()
            .map(|address| Request::add_address(address_message(index, *address)))
            .collect();
        // The MTU apart from creation: only one that is set later stays when
        // ports come and go (br_mtu_auto_adjust, net/bridge/br_if.c).
        requests.push(Request::set_link(
            LinkUnspec::new_with_index(index)
                .mtu(self.mtu)
                .address(self.mac.0.to_vec())
                .alias(names::bridge_alias(self.mac))
                .up()
                .build(),
        ));
        netlink
            .pipeline(requests)
            .await
            .map_err(|source| Error::Configure { name: self.name.clone(), source })
    }

    pub async fn delete(&self, netlink: &Netlink) -> Result<(), Error> {
        match netlink.link(self.name).await? {
            Some(link) if self.is(&link) => delete(netlink, self.name, link.index).await,
            _ => Ok(()),
        }
    }

    /// This bridge, and not another network's or another program's: half made
    /// it has no alias yet.
    fn is(&self, link: &Link) -> bool {
        link.kind == "bridge"
            && match &link.alias {
                Some(alias) => *alias == names::bridge_alias(self.mac),
                None => link.mac == Some(self.mac),
            }
    }
}

impl Veth<'_> {
    /// The host side up and in the bridge, IPv6 off on it; the peer down, in
    /// its namespace.
    pub async fn create(&self, netlink: &Netlink) -> Result<(), Error> {
        let bridge = netlink.ifindex(self.bridge).await?;
        let created = self.add(netlink, bridge).await?;
        let result = self.configure(netlink, bridge).await;
        if result.is_err() && created {
            // The first error is the one that counts.
            let _ = self.delete(netlink).await;
        }
        result
    }

    async fn add(&self, netlink: &Netlink, bridge: u32) -> Result<bool, Error> {
        let failed = |source| Error::CreateVeth { name: self.host.clone(), source };
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(self.peer.as_str())
            .address(self.mac.0.to_vec())
            .mtu(self.mtu);
        // Open until the kernel has answered.
        let netns = self.netns.map(File::open).transpose().map_err(failed)?;
        if let Some(netns) = &netns {
            peer = peer.setns_by_fd(netns.as_raw_fd());
        }
        let message = LinkMessageBuilder::<LinkVeth>::new(self.host.as_str(), self.peer.as_str())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .address(names::host_veth_mac(self.endpoint).0.to_vec())
            .mtu(self.mtu)
            .controller(bridge)
            .build();
        match new_link(netlink, message, self.index).await {
            Ok(()) => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::EEXIST) => {
                match netlink.link(self.host).await? {
                    Some(link) if self.is(&link) => Ok(false),
                    Some(_) => Err(Error::Foreign(self.host.clone())),
                    None => Err(Error::Foreign(self.peer.clone())),
                }
            }
            Err(source) => Err(failed(source)),
        }
    }

    async fn configure(&self, netlink: &Netlink, bridge: u32) -> Result<(), Error> {
        // Before it comes up, or it would have a link-local address by then.
        sysctl::disable_ipv6(self.host)?;
        let alias = names::veth_alias(self.endpoint);
        let host = by_name(self.host).alias(&alias).mtu(self.mtu).controller(bridge).up();
        let mut requests = vec![Request::set_link(host.build())];
        if self.netns.is_none() {
            // Its runtime may have taken it away since.
            let peer = by_name(self.peer).alias(&alias).build();
            requests.push(Request::set_link(peer).tolerate(libc::ENODEV));
        }
        netlink
            .pipeline(requests)
            .await
            .map_err(|source| Error::Configure { name: self.host.clone(), source })
    }

    /// One side takes the other with it, wherever it is.
    pub async fn delete(&self, netlink: &Netlink) -> Result<(), Error> {
        match netlink.link(self.host).await? {
            Some(link) if self.is(&link) => delete(netlink, self.host, link.index).await,
            _ => Ok(()),
        }
    }

    fn is(&self, link: &Link) -> bool {
        link.kind == "veth"
            && match &link.alias {
                Some(alias) => *alias == names::veth_alias(self.endpoint),
                // Half made.
                None => link.mac == Some(names::host_veth_mac(self.endpoint)),
            }
    }
}

/// Makes a link, with this number if it is free.
async fn new_link(netlink: &Netlink, message: LinkMessage, index: u32) -> io::Result<()> {
    if index != 0 {
        let mut message = message.clone();
        message.header.index = index;
        match netlink.pipeline(vec![Request::new_link(message)]).await {
            // `dev_index_reserve` (net/core/dev.c): another link has it.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            result => return result,
        }
    }
    netlink.pipeline(vec![Request::new_link(message)]).await
}

/// Gives a link its name back. Before Linux 6.2 it has to be down for that.
pub async fn rename(netlink: &Netlink, index: u32, name: &IfName) -> Result<(), Error> {
    let failed = |source| Error::Configure { name: name.clone(), source };
    let renamed = || LinkUnspec::new_with_index(index).name(name.as_str()).build();
    match netlink.pipeline(vec![Request::set_link(renamed())]).await {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        result => return result.map_err(failed),
    }
    let down = LinkUnspec::new_with_index(index).down().build();
    let requests = [down, renamed(), up(index)].map(Request::set_link);
    netlink.pipeline(requests.into()).await.map_err(failed)
}

/// Adds the route to the network of one of a link's addresses, as the kernel
/// did when the address came (`fib_add_ifaddr`, `addrconf_prefix_route`).
pub async fn add_connected_route(
    netlink: &Netlink,
    link: &IfName,
    address: IpNetwork,
) -> Result<(), Error> {
    let index = netlink.ifindex(link).await?;
    let message = match address {
        IpNetwork::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address.network(), address.prefix())
            .output_interface(index)
            .pref_source(address.ip())
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Kernel)
            .build(),
        IpNetwork::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address.network(), address.prefix())
            .output_interface(index)
            .priority(IPV6_PREFIX_METRIC)
            .protocol(RouteProtocol::Kernel)
            .build(),
    };
    netlink
        .pipeline(vec![Request::set_route(message)])
        .await
        .map_err(|source| Error::Configure { name: link.clone(), source })
}

/// `IP6_RT_PRIO_ADDRCONF` (`include/net/ip6_route.h`).
const IPV6_PREFIX_METRIC: u32 = 256;

/// Sets the MTU of a bridge that is there; another's is left alone.
pub async fn set_bridge_mtu(
    netlink: &Netlink,
    name: &IfName,
    mac: Mac,
    mtu: u32,
) -> Result<(), Error> {
    let bridge = Bridge { name, mac, mtu, addresses: &[], index: 0 };
    match netlink.link(name).await? {
        Some(link) if bridge.is(&link) => set_mtu(netlink, name, link.index, mtu).await,
        _ => Ok(()),
    }
}

/// Sets the MTU of the host's side of a veth pair, likewise.
pub async fn set_veth_mtu(
    netlink: &Netlink,
    endpoint: &Id,
    name: &IfName,
    mtu: u32,
) -> Result<(), Error> {
    match netlink.link(name).await? {
        Some(link) if link.alias == Some(names::veth_alias(endpoint)) => {
            set_mtu(netlink, name, link.index, mtu).await
        }
        _ => Ok(()),
    }
}

pub(super) async fn set_mtu(
    netlink: &Netlink,
    name: &IfName,
    index: u32,
    mtu: u32,
) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
    netlink
        .pipeline(vec![Request::set_link(message).tolerate(libc::ENODEV)])
        .await
        .map_err(|source| Error::Configure { name: name.clone(), source })
}

/// Deletes a link that was found to be netd's own.
pub(super) async fn delete(netlink: &Netlink, name: &IfName, index: u32) -> Result<(), Error> {
    netlink
        .pipeline(vec![Request::delete_link(index)])
        .await
        .map_err(|source| Error::Delete { name: name.clone(), source })
}

/// Whether a link has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ipv6 {
    On,
    Off,
}

/// IPv6 on where one of `addresses` is of it, and off otherwise.
pub(super) fn set_ipv6(link: &IfName, addresses: &[IpNetwork]) -> Result<Ipv6, Error> {
    if addresses.iter().any(IpNetwork::is_ipv6) {
        sysctl::enable_ipv6(link)?;
        Ok(Ipv6::On)
    } else {
        sysctl::disable_ipv6(link)?;
        Ok(Ipv6::Off)
    }
}

/// An address that is usable at once: IPAM is why nobody else has it, not
/// duplicate address detection.
pub(super) fn address_message(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address.ip(), address.prefix())
            .build(),
        IpNetwork::V6(address) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(address.ip(), address.prefix())
                .build();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

fn by_name(name: &IfName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name.as_str())
}

/// Sets a link up; used where nothing else is to be changed.
pub(super) fn up(index: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).up().build()
}
