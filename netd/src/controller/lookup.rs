//! Networks and containers by what people type: a name, an id, or the
//! beginning of an id.

use super::{Error, Result, State};
use crate::model::{Container, DEFAULT_NETWORK, Id, Name, Network};

pub fn find_network<'a>(state: &'a State, name: &str) -> Result<&'a Network> {
    let name = if name == "default" { DEFAULT_NETWORK } else { name };
    let by_name = |network: &&Network| network.name.as_str() == name;
    if let Some(network) = state.networks.values().find(by_name) {
        return Ok(network);
    }
    match by_prefix(state.networks.values(), |network| &network.id, name)[..] {
        [network] => Ok(network),
        [] => Err(Error::NoSuchNetwork(name.to_owned())),
        ref several => {
            Err(Error::AmbiguousNetwork { name: name.to_owned(), matches: several.len() })
        }
    }
}

/// Docker prints names with a `/` in front; it may be typed too.
pub fn find_container<'a>(state: &'a State, name: &str) -> Result<&'a Container> {
    let by_name =
        |container: &&Container| container.name.as_str() == name.strip_prefix('/').unwrap_or(name);
    if let Some(container) = state.containers.values().find(by_name) {
        return Ok(container);
    }
    match by_prefix(state.containers.values(), |container| &container.id, name)[..] {
        [container] => Ok(container),
        [] => Err(Error::NoSuchContainer(name.to_owned())),
        _ => Err(Error::AmbiguousContainer(name.to_owned())),
    }
}

/// The container that has the name, if any.
pub(super) fn named<'a>(state: &'a State, name: &Name) -> Option<&'a Container> {
    state.containers.values().find(|other| other.name == *name)
}

fn by_prefix<'a, T>(
    all: impl Iterator<Item = &'a T>,
    id: impl Fn(&T) -> &Id,
    prefix: &str,
) -> Vec<&'a T> {
    if prefix.is_empty() {
        return vec![];
    }
    all.filter(|one| id(one).as_str().starts_with(prefix)).collect()
}
