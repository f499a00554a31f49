//! Networks that Docker creates with `-d netd`.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use netd_common::abi::Family;
use serde_json::Value;

use super::{endpoint::forget, find_network, id};
use crate::{
    api::docker::types::{CreateNetwork, IpamData, Options},
    controller::{
        Error, Host, Plan, Result, State,
        endpoint::annexes,
        network::{self, Blueprint},
        subnets::{self, Except, family_of},
    },
    ipam::{check_pool, first_gateway, parse_subnet},
    model::{Name, Network, Owner, Pool},
};

const GENERIC: &str = "com.docker.network.generic";
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const INTERNAL: &str = "com.docker.network.internal";
/// Auxiliary addresses that are the containers' default routes (moby,
/// `daemon/libnetwork/drivers/bridge/bridge_linux.go`).
const DEFAULT_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// `CreateNetwork`. One that is there already is not made again.
pub fn plan_docker_network(state: &State, host: &Host, request: &CreateNetwork) -> Result<Plan> {
    let id = id(&request.network_id)?;
    let (options, switches) = options(&request.options)?;
    if !switches.ipv4 {
        return Err(Error::NotYet("a network without IPv4".to_owned()));
    }
    let known = state.networks.get(&id);
    let mut pools = vec![pool(state, host, known, Family::V4, &request.ipv4)?];
    if switches.ipv6 {
        pools.push(pool(state, host, known, Family::V6, &request.ipv6)?);
    }
    if let Some(known) = known {
        let subnets = |pools: &[Pool]| pools.iter().map(|pool| pool.subnet).collect::<Vec<_>>();
        let same = known.owner == Owner::Docker && subnets(&known.pools) == subnets(&pools);
        return if same {
            Ok(Plan::default())
        } else {
            Err(Error::NetworkExists(known.name.clone()))
        };
    }
    let blueprint = Blueprint {
        // Docker tells its name to those who ask.
        name: id.short().parse::<Name>()?,
        id,
        owner: Owner::Docker,
        options: &options,
        pools,
        internal: switches.internal,
        ipv6: switches.ipv6,
        labels: BTreeMap::new(),
    };
    network::create(state, host, blueprint)
}

/// `DeleteNetwork`, with what Docker has lost of it. One that is unknown is
/// gone already.
pub fn plan_docker_network_remove(state: &State, id: &str) -> Result<Plan> {
    let mut plan = Plan::default();
    let Some(network) = find_network(state, id) else { return Ok(plan) };
    for container in state.containers.values() {
        let stale = container.endpoints.iter().filter(|endpoint| endpoint.network == network.id);
        let stale: Vec<_> = stale.map(|endpoint| &endpoint.id).collect();
        if !stale.is_empty() {
            forget(state, &mut plan, container, &stale)?;
        }
    }
    // Several went at once, none of them as the last of its annex.
    for annex in annexes(state, network) {
        if plan.steps.iter().all(|step| step.op != annex) {
            plan.revert(annex);
        }
    }
    network::remove(&mut plan, network);
    Ok(plan)
}

struct Switches {
    ipv4: bool,
    ipv6: bool,
    internal: bool,
}

/// `-o`'s options, as text, and Docker's own switches, which
/// `default-network-opts` of `daemon.json` puts among the former.
fn options(given: &Options) -> Result<(BTreeMap<String, String>, Switches)> {
    let mut options: BTreeMap<String, String> = match given.get(GENERIC) {
        Some(Value::Object(options)) => {
            options.iter().map(|(key, value)| (key.clone(), text_of(value))).collect()
        }
        _ => BTreeMap::new(),
    };
    let mut switch = |key: &'static str, default| -> Result<bool> {
        let inner = options.remove(key);
        match given.get(key).map(text_of).or(inner).as_deref() {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Error::NotBool { key, value: other.to_owned() }),
        }
    };
    let switches = Switches {
        ipv4: switch(ENABLE_IPV4, true)?,
        ipv6: switch(ENABLE_IPV6, false)?,
        internal: switch(INTERNAL, false)?,
    };
    Ok((options, switches))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One family's subnet: what Docker's IPAM settled, or one of netd's choice
/// where it settled none (`--ipam-driver null`).
fn pool(
    state: &State,
    host: &Host,
    known: Option<&Network>,
    family: Family,
    data: &[IpamData],
) -> Result<Pool> {
    let given = match data {
        [] => None,
        [one] => Some(one),
        _ => return Err(Error::MultipleSubnets),
    };
    let settled = given.filter(|data| !data.pool.is_empty());
    let settled = settled.map(|data| parse_subnet("subnet", &data.pool)).transpose()?;
    let settled = settled.filter(|subnet| !subnet.ip().is_unspecified());
    let kept = known
        .and_then(|known| known.pools.iter().find(|pool| family_of(pool.subnet.ip()) == family));
    let subnet = match (settled, kept) {
        (Some(subnet), _) => subnet,
        (None, Some(kept)) => kept.subnet,
        (None, None) => subnets::choose(state, host, family, None, Except::Nothing)?,
    };
    if family_of(subnet.ip()) != family {
        return Err(Error::NotAddress { what: "subnet of this family", value: subnet.to_string() });
    }
    let mut aux = BTreeMap::new();
    let mut default_gateway = None;
    for (name, address) in given.iter().flat_map(|data| &data.aux_addresses) {
        let address = address_of("auxiliary address", &text_of(address))?;
        if DEFAULT_GATEWAYS.contains(&name.as_str()) {
            default_gateway = Some(address);
        } else {
            aux.insert(name.clone(), address);
        }
    }
    let gateway = match given.map(|data| data.gateway.as_str()).filter(|text| !text.is_empty()) {
        Some(text) => address_of("gateway", text)?,
        None => first_gateway(subnet, aux.values().chain(&default_gateway))?,
    };
    let pool = Pool { subnet, ip_range: None, gateway, default_gateway, aux };
    check_pool(&pool)?;
    if known.is_none() {
        subnets::check(state, host, "subnet", subnet, Except::Pool(subnet))?;
    }
    Ok(pool)
}

/// `172.18.0.1/16`, or without the prefix.
pub(super) fn address_of(what: &'static str, text: &str) -> Result<IpAddr> {
    let address = text.parse::<IpNetwork>().map(|address| address.ip());
    address.map_err(|_| Error::NotAddress { what, value: text.to_owned() })
}
