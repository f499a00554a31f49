//! What Docker asks of its network and IPAM driver, as plans. What Docker
//! repeats succeeds, and what it wants gone is gone, known or not: it never
//! asks twice about what it lost.
//!
//! Its endpoints live in [`Container`] records of their sandbox, so that
//! everything that shows or publishes netd's own containers does for Docker's
//! too. Until Docker's API has told whose the sandbox is, a record has the id
//! of its first endpoint.

mod endpoint;
mod ipam;
mod lost;
mod names;
mod network;
mod ports;

pub use endpoint::{plan_create_endpoint, plan_delete_endpoint, plan_join, plan_leave};
pub use ipam::{plan_release_address, plan_release_pool, plan_request_address, plan_request_pool};
pub use lost::{Lost, lost, plan_collect, plan_release_strayed, unlisted};
pub use names::plan_names;
pub use network::{plan_docker_network, plan_docker_network_remove};
pub use ports::{plan_program, plan_revoke};

use super::{Error, Result, State};
use crate::model::{Container, Endpoint, Id, Network, Owner, id::NameError};

/// A network of Docker's by its id.
fn network_by_id<'a>(state: &'a State, id: &str) -> Result<&'a Network> {
    find_network(state, id).ok_or_else(|| Error::NoSuchNetwork(id.to_owned()))
}

fn find_network<'a>(state: &'a State, id: &str) -> Option<&'a Network> {
    let id = Id::try_from(id.to_owned()).ok()?;
    state.networks.get(&id).filter(|network| network.owner == Owner::Docker)
}

/// Docker's endpoints, and the records that they are in.
fn endpoints(state: &State) -> impl Iterator<Item = (&Container, &Endpoint)> {
    let containers = state.containers.values().filter(|it| it.owner == Owner::Docker);
    containers.flat_map(|it| it.endpoints.iter().map(move |endpoint| (it, endpoint)))
}

fn find_endpoint<'a>(state: &'a State, id: &str) -> Option<(&'a Container, &'a Endpoint)> {
    endpoints(state).find(|(_, endpoint)| endpoint.id.as_str() == id)
}

/// An endpoint of Docker's by its id, and the record that it is in.
pub fn endpoint_by_id<'a>(state: &'a State, id: &str) -> Result<(&'a Container, &'a Endpoint)> {
    find_endpoint(state, id).ok_or_else(|| Error::NoSuchEndpoint(id.to_owned()))
}

fn id(text: &str) -> Result<Id, NameError> {
    Id::try_from(text.to_owned())
}
