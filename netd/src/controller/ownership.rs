//! What belongs to Docker is changed by Docker: netd's own commands show it,
//! publish its ports, and refer to Docker's for the rest.

use super::{Error, Result, State, find_container};
use crate::model::{Container, Network, Owner};

/// For `network connect` and `disconnect`.
pub(super) fn check(network: &Network, container: &Container, verb: &str) -> Result<()> {
    let instead = || format!("docker network {verb} {} {}", network.name, container.name);
    check_network(network, instead)?;
    check_container(container, instead)
}

/// The container of a request that only Docker can meet if it is Docker's:
/// `docker VERB NAME`.
pub fn find_own_container<'a>(state: &'a State, name: &str, verb: &str) -> Result<&'a Container> {
    let container = find_container(state, name)?;
    check_container(container, || format!("docker {verb} {}", container.name))?;
    Ok(container)
}

pub(super) fn check_network(network: &Network, instead: impl FnOnce() -> String) -> Result<()> {
    match network.owner {
        Owner::Netd => Ok(()),
        Owner::Docker => {
            Err(Error::Dockers { what: "network", name: network.name.clone(), instead: instead() })
        }
    }
}

pub(super) fn check_container(
    container: &Container,
    instead: impl FnOnce() -> String,
) -> Result<()> {
    match container.owner {
        Owner::Netd => Ok(()),
        Owner::Docker => Err(Error::Dockers {
            what: "container",
            name: container.name.clone(),
            instead: instead(),
        }),
    }
}
