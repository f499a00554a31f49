//! The life of Docker's endpoints: created, joined, left, deleted.
//!
//! The links are made at once, the peer in the host's namespace: Docker moves
//! it into the sandbox after it has joined, and back before it deletes it.

use std::path::{Path, PathBuf};

use super::{endpoint_by_id, find_endpoint, id, network::address_of, network_by_id, ports};
use crate::{
    api::docker::types::{CreateEndpoint, EndpointRef, Interface, InterfaceName, Join, Joined},
    controller::{
        Change, Error, Host, Plan, Result, State,
        endpoint::{self, Fixed},
        port::network_of,
    },
    model::{Container, ContainerState, Endpoint, Id, Mac, Mode, Name, Network, Owner},
};

/// `CreateEndpoint`; what Docker did not settle is the answer.
pub fn plan_create_endpoint(
    state: &State,
    host: &Host,
    request: &CreateEndpoint,
) -> Result<(Plan, Interface)> {
    let network = network_by_id(state, &request.network_id)?;
    let given = &request.interface;
    let fixed = Fixed {
        v4: given_address("IPv4 address", &given.address)?,
        v6: given_address("IPv6 address", &given.address6)?,
    };
    let mac = match given.mac_address.as_str() {
        "" => None,
        text => Some(unicast(text)?),
    };
    if let Some((_, known)) = find_endpoint(state, &request.endpoint_id) {
        let same = |asked: Option<std::net::IpAddr>| {
            asked.is_none_or(|asked| known.addresses().any(|address| address.ip() == asked))
        };
        if known.network == network.id && same(fixed.v4) && same(fixed.v6) {
            return Ok((Plan::default(), chosen(given, known)));
        }
        return Err(Error::EndpointExists(known.id.clone()));
    }
    let id = id(&request.endpoint_id)?;
    let endpoint = endpoint::create_outside(state, network, id.clone(), fixed, mac)?;
    let answer = chosen(given, &endpoint);
    let mut plan = Plan::default();
    plan.apply_all(endpoint::ops(state, network, &endpoint, None));
    plan.changes.push(Change::PutContainer(alone(vec![endpoint], &id, &host.now)?));
    Ok((plan, answer))
}

fn given_address(what: &'static str, text: &str) -> Result<Option<std::net::IpAddr>> {
    if text.is_empty() { Ok(None) } else { address_of(what, text).map(Some) }
}

/// A group's address can be no interface's (IEEE 802, I/G bit).
fn unicast(text: &str) -> Result<Mac> {
    let invalid = || Error::NotAddress { what: "MAC address", value: text.to_owned() };
    let mac: Mac = text.parse().map_err(|_| invalid())?;
    if mac.0[0] & 1 == 0 && mac.0 != [0; 6] { Ok(mac) } else { Err(invalid()) }
}

/// Of an endpoint what the request left open.
fn chosen(given: &Interface, endpoint: &Endpoint) -> Interface {
    let open = |given: &str, value: String| if given.is_empty() { value } else { String::new() };
    let address6 = endpoint.address6.map(|address| address.to_string()).unwrap_or_default();
    Interface {
        address: open(&given.address, endpoint.address.to_string()),
        address6: open(&given.address6, address6),
        mac_address: open(&given.mac_address, endpoint.mac.to_string()),
    }
}

/// The record of an endpoint that is in no sandbox.
fn alone(endpoints: Vec<Endpoint>, id: &Id, created: &str) -> Result<Container> {
    Ok(Container {
        id: id.clone(),
        name: name_of(id)?,
        owner: Owner::Docker,
        mode: Mode::Networks,
        state: ContainerState::Created,
        command: vec![],
        auto_remove: false,
        netns: PathBuf::new(),
        endpoints,
        created: created.to_owned(),
    })
}

fn name_of(id: &Id) -> Result<Name> {
    Ok(id.short().parse()?)
}

/// `Join`: all endpoints of a sandbox are in one record from then on.
pub fn plan_join(state: &State, request: &Join) -> Result<(Plan, Joined)> {
    let (container, endpoint) = endpoint_by_id(state, &request.endpoint_id)?;
    let network = network_of(state, endpoint)?;
    let answer = joined(network, endpoint);
    let sandbox = Path::new(&request.sandbox_key);
    if !sandbox.is_absolute() {
        return Err(Error::NotPath { what: "SandboxKey", value: request.sandbox_key.clone() });
    }
    let mut plan = Plan::default();
    if container.state == ContainerState::Joined && container.netns == sandbox {
        return Ok((plan, answer));
    }
    let (mut taken, rest) = without(container, &[&endpoint.id]);
    let there = state.containers.values().find(|other| {
        other.owner == Owner::Docker
            && other.state == ContainerState::Joined
            && other.netns == sandbox
    });
    let mut record = match there {
        Some(there) => there.clone(),
        None => Container {
            state: ContainerState::Joined,
            netns: sandbox.to_owned(),
            ..alone(vec![], &endpoint.id, &container.created)?
        },
    };
    record.endpoints.append(&mut taken);
    plan.changes.extend(instead(container, rest.into_iter().chain([record])));
    Ok((plan, answer))
}

/// Docker looks for a gateway elsewhere (`docker_gwbridge`, which would publish
/// the ports a second time) where it is told of none, unless it is told not to.
fn joined(network: &Network, endpoint: &Endpoint) -> Joined {
    let gateway = |address: Option<ipnetwork::IpNetwork>| {
        let pool = address.and_then(|address| network.pool_of(address.ip()));
        pool.filter(|_| !network.internal).map(|pool| pool.route().to_string()).unwrap_or_default()
    };
    Joined {
        interface_name: InterfaceName {
            src_name: endpoint.container_link.to_string(),
            dst_prefix: network.container_prefix.clone(),
        },
        gateway: gateway(Some(endpoint.address)),
        gateway6: gateway(endpoint.address6),
        disable_gateway_service: network.internal,
    }
}

/// `Leave`: the ports close, for Docker may not say so itself (§2.3). One that
/// is unknown has left.
pub fn plan_leave(state: &State, request: &EndpointRef) -> Result<Plan> {
    let mut plan = Plan::default();
    let Some((container, endpoint)) = find_endpoint(state, &request.endpoint_id) else {
        return Ok(plan);
    };
    if container.state != ContainerState::Joined {
        return Ok(plan);
    }
    let network = network_of(state, endpoint)?;
    let (mut taken, rest) = without(container, &[&endpoint.id]);
    for endpoint in &mut taken {
        ports::close(&mut plan, network, endpoint);
    }
    let left = alone(taken, &endpoint.id, &container.created)?;
    plan.changes.extend(instead(container, rest.into_iter().chain([left])));
    Ok(plan)
}

/// `DeleteEndpoint`. One that is unknown is gone already.
pub fn plan_delete_endpoint(state: &State, request: &EndpointRef) -> Result<Plan> {
    let mut plan = Plan::default();
    if let Some((container, endpoint)) = find_endpoint(state, &request.endpoint_id) {
        forget(state, &mut plan, container, &[&endpoint.id])?;
    }
    Ok(plan)
}

/// An endpoint that Docker will never delete: its addresses go back to their
/// pools too.
pub(super) fn plan_forget_endpoint(state: &State, id: &Id) -> Result<Plan> {
    let mut plan = Plan::default();
    let Some((container, endpoint)) = find_endpoint(state, id.as_str()) else { return Ok(plan) };
    forget(state, &mut plan, container, &[id])?;
    let network = network_of(state, endpoint)?;
    for pool in state.pools.values() {
        let own = network.pools.iter().any(|own| own.subnet == pool.subnet);
        let leased = endpoint.addresses().map(|address| address.ip());
        let leased = leased.filter(|ip| own && pool.leases.contains(ip));
        plan.changes.extend(leased.map(|ip| Change::Release(pool.id.clone(), ip)));
    }
    Ok(plan)
}

/// Removes endpoints from their record, and the record with its last.
pub(super) fn forget(
    state: &State,
    plan: &mut Plan,
    container: &Container,
    ids: &[&Id],
) -> Result<()> {
    let (gone, rest) = without(container, ids);
    for endpoint in &gone {
        plan.revert_all(endpoint::ops(state, network_of(state, endpoint)?, endpoint, None));
    }
    plan.changes.extend(instead(container, rest));
    Ok(())
}

/// Endpoints taken out of their record, and what is left of it. A record that
/// is called after an endpoint which goes is called after one that stays; one
/// without endpoints is of nothing.
fn without(container: &Container, ids: &[&Id]) -> (Vec<Endpoint>, Option<Container>) {
    let (taken, kept): (Vec<_>, Vec<_>) =
        container.endpoints.iter().cloned().partition(|endpoint| ids.contains(&&endpoint.id));
    let rest = kept.first().map(|first| first.id.clone()).map(|first| {
        let mut rest = Container { endpoints: kept, ..container.clone() };
        if ids.contains(&&container.id)
            && let Ok(name) = name_of(&first)
        {
            (rest.id, rest.name) = (first, name);
        }
        rest
    });
    (taken, rest)
}

/// The changes that put records in one's place, which stays where one of them
/// has its id.
fn instead(old: &Container, new: impl IntoIterator<Item = Container>) -> Vec<Change> {
    let new: Vec<_> = new.into_iter().collect();
    let is_gone = new.iter().all(|record| record.id != old.id);
    let gone = is_gone.then(|| Change::RemoveContainer(old.id.clone()));
    gone.into_iter().chain(new.into_iter().map(Change::PutContainer)).collect()
}
