//! Host ports: which are in use, and which each request gets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use netd_common::abi::Family;

use super::{
    Error, Host, Result, State,
    port::{any_address, host_addresses, is_exactly},
    subnets::family_of,
};
use crate::model::{Name, Network, PortMapping, PortRequest, Protocol};

/// The owner of a port that a request asks for twice.
const SAME_REQUEST: &str = "another port of the same request";

/// Host ports in use, and who uses them; the numbers of allow-lists in use.
pub(super) struct HostPorts<'a> {
    host: &'a Host,
    used: HashMap<(Protocol, u16), Vec<(IpAddr, User<'a>)>>,
    lists: BTreeSet<u32>,
    /// Where the search for a free number goes on.
    next_list: u32,
    /// Those of the request in hand that take no host port, by container port.
    routed: HashMap<(Protocol, u16), Vec<PortMapping>>,
}

/// Who has a host port.
#[derive(Clone, Copy)]
enum User<'a> {
    Container(&'a Name),
    SameRequest,
}

impl std::fmt::Display for User<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::SameRequest => f.write_str(SAME_REQUEST),
        }
    }
}

impl<'a> HostPorts<'a> {
    pub(super) fn of(state: &'a State, host: &'a Host) -> Self {
        let mut ports = Self {
            host,
            used: HashMap::new(),
            lists: BTreeSet::new(),
            next_list: 1,
            routed: HashMap::new(),
        };
        for container in state.containers.values() {
            for mapping in container.endpoints.iter().flat_map(|e| &e.ports) {
                ports.take(mapping, User::Container(&container.name));
            }
        }
        ports
    }

    /// These are about to go: their host ports are free again.
    pub(super) fn give_back(&mut self, mappings: &[PortMapping]) {
        for mapping in mappings {
            if let Some(users) = self.used.get_mut(&(mapping.protocol, mapping.host_port)) {
                users.retain(|(ip, _)| *ip != mapping.host_ip);
            }
        }
    }

    /// Mappings for a new endpoint, all that is requested or none.
    pub(super) fn allocate_all(
        &mut self,
        requests: &[PortRequest],
        network: &Network,
        seed: u32,
    ) -> Result<Vec<PortMapping>> {
        if requests.is_empty() {
            return Ok(vec![]);
        }
        if network.internal {
            return Err(Error::InternalNetwork(network.name.clone()));
        }
        let families: Vec<Family> =
            network.pools.iter().map(|pool| family_of(pool.gateway)).collect();
        let mut mappings = vec![];
        for request in requests {
            let addresses = host_addresses(request, network.host_binding, &families)?;
            mappings.extend(self.allocate(request, &addresses, seed, |ip| network.is_routed(ip))?);
        }
        Ok(mappings)
    }

    /// A mapping on each of `addresses`, all with the same host port.
    pub(super) fn allocate(
        &mut self,
        request: &PortRequest,
        addresses: &[IpAddr],
        seed: u32,
        is_routed: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<PortMapping>> {
        let protocol = request.protocol;
        let (routed, held): (Vec<_>, Vec<_>) =
            addresses.iter().copied().partition(|address| is_routed(*address));
        let mut mappings = vec![];
        for host_ip in routed {
            mappings.extend(self.route(request, host_ip)?);
        }
        if held.is_empty() {
            return Ok(mappings);
        }
        let host_port = match &request.host {
            // Its checksum covers its ports, which therefore can't change; a
            // spec that would change them is refused as it is read.
            _ if protocol == Protocol::Sctp => {
                self.exactly(&held, request.container_port, protocol)?
            }
            Some(range) if range.start() == range.end() => {
                self.exactly(&held, *range.start(), protocol)?
            }
            Some(range) => range
                .clone()
                .find(|port| self.is_free(&held, *port, protocol))
                .ok_or(Error::PortsExhausted)?,
            None => self.any(&held, protocol, seed)?,
        };
        for host_ip in held {
            let mapping = self.mapping(request, host_ip, host_port);
            self.take(&mapping, User::SameRequest);
            mappings.push(mapping);
        }
        Ok(mappings)
    }

    fn mapping(&mut self, request: &PortRequest, host_ip: IpAddr, host_port: u16) -> PortMapping {
        PortMapping {
            host_ip,
            host_port,
            container_port: request.container_port,
            protocol: request.protocol,
            list: self.list(&request.from),
            from: request.from.clone(),
        }
    }

    /// A port at the container's own address: its host port is ignored, so
    /// two requests may mean the same one.
    fn route(&mut self, request: &PortRequest, host_ip: IpAddr) -> Result<Option<PortMapping>> {
        let same = |other: &&PortMapping| is_exactly(other, request, host_ip);
        let port = (request.protocol, request.container_port);
        match self.routed.get(&port).and_then(|those| those.iter().find(same)) {
            Some(other) if other.from == request.from => Ok(None),
            Some(_) => Err(Error::PortAllocated {
                address: host_ip,
                port: request.container_port,
                owner: SAME_REQUEST.to_owned(),
            }),
            None => {
                let mapping = self.mapping(request, any_address(host_ip), 0);
                self.routed.entry(port).or_default().push(mapping.clone());
                Ok(Some(mapping))
            }
        }
    }

    fn exactly(&self, addresses: &[IpAddr], port: u16, protocol: Protocol) -> Result<u16> {
        let taken = addresses.iter().find_map(|ip| Some((*ip, self.owner(*ip, port, protocol)?)));
        match taken {
            None => Ok(port),
            Some((address, owner)) => {
                Err(Error::PortAllocated { address, port, owner: owner.to_string() })
            }
        }
    }

    /// From the ephemeral range, where no service is expected. The search
    /// starts at a place of the container's own: a port that was just given
    /// back is then not the next one's, whose clients it would surprise.
    fn any(&self, addresses: &[IpAddr], protocol: Protocol, seed: u32) -> Result<u16> {
        let (first, last) = self.host.ephemeral;
        let count = u32::from(last.saturating_sub(first)) + 1;
        let start = first + u16::try_from(seed % count).unwrap_or(0);
        (start..=last)
            .chain(first..start)
            .filter(|port| !self.host.reserved_ports.iter().any(|r| r.contains(port)))
            .find(|port| self.is_free(addresses, *port, protocol))
            .ok_or(Error::PortsExhausted)
    }

    fn is_free(&self, addresses: &[IpAddr], port: u16, protocol: Protocol) -> bool {
        addresses.iter().all(|ip| self.owner(*ip, port, protocol).is_none())
            && !self.host.avoid_ports.contains(&(protocol, port))
    }

    fn owner(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Option<User<'a>> {
        self.used
            .get(&(protocol, port))?
            .iter()
            .find(|(other, _)| {
                let wildcard = ip.is_unspecified() || other.is_unspecified();
                ip == *other || (wildcard && family_of(ip) == family_of(*other))
            })
            .map(|(_, owner)| *owner)
    }

    fn take(&mut self, mapping: &PortMapping, owner: User<'a>) {
        if mapping.list != 0 {
            self.lists.insert(mapping.list);
        }
        if !mapping.is_routed() {
            self.used
                .entry((mapping.protocol, mapping.host_port))
                .or_default()
                .push((mapping.host_ip, owner));
        }
    }

    /// A number for an allow-list that no other one has, or 0 for none.
    fn list(&mut self, from: &[IpNetwork]) -> u32 {
        if from.is_empty() {
            return 0;
        }
        // Those below are taken, and stay so for as long as `self` lives.
        while self.lists.contains(&self.next_list) {
            self.next_list += 1;
        }
        self.lists.insert(self.next_list);
        self.next_list
    }

    /// Each known mapping whose sources change, and what it becomes.
    pub(super) fn change_sources(
        &mut self,
        known: &[(PortMapping, PortRequest)],
    ) -> Result<BTreeMap<PortMapping, PortMapping>> {
        let (mut seen, mut changed) = (BTreeSet::new(), BTreeMap::new());
        for (old, request) in known {
            if !seen.insert(old) {
                return Err(Error::PortAllocated {
                    address: old.host_ip,
                    port: old.host_port,
                    owner: SAME_REQUEST.to_owned(),
                });
            }
            if old.from != request.from {
                let list = self.list(&request.from);
                let new = PortMapping { from: request.from.clone(), list, ..old.clone() };
                changed.insert(old.clone(), new);
            }
        }
        Ok(changed)
    }
}
