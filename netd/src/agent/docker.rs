//! Docker's calls, Docker's names, and what Docker has lost.
//!
//! A plugin is never told what dockerd forgot: a sandbox that ended with its
//! namespace, an endpoint that a crash left behind. What looks so is suspected
//! first and collected when it has looked so for a while.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Agent, Notice, host::Routes};
use crate::{
    api::{
        ServiceError,
        docker::{
            Call,
            engine::{self, EngineError, View},
            types::{EndpointRef, RequestedAddress, RequestedPool},
        },
    },
    controller::{Plan, docker},
    kernel::netns,
    model::{Container, ContainerState, Endpoint, Id, Owner, PoolId},
};

/// Between a call of Docker's and a look at its names: it tells them when its
/// own work is done.
const SOON: Duration = Duration::from_millis(300);
/// Looks that follow each other ever more slowly, for a minute, while something
/// is still unnamed: a busy dockerd lists a container long after it has joined.
const QUICK_LOOKS: u32 = 20;
/// How often what netd itself can see is looked over.
const LOOK_OVER: Duration = Duration::from_secs(10);
/// A lease without an endpoint may be of a container that is being made.
const LEASE_PATIENCE: u32 = 5;

type Result<T, E = ServiceError> = std::result::Result<T, E>;

/// Something that may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Suspect {
    /// In no sandbox, or its interface outside of it.
    Outside(Id),
    /// An address that no endpoint has.
    Lease(PoolId, String),
    /// Not in dockerd's own list.
    Endpoint(Id),
    Network(Id),
    Pool(PoolId),
}

#[derive(Debug)]
pub(super) struct Docker {
    /// dockerd's; `None`: it is not asked.
    socket: Option<PathBuf>,
    /// How long something is suspected before it is collected.
    patience: Duration,
    suspects: HashMap<Suspect, Instant>,
    look: Instant,
    look_over: Instant,
    /// Since the last call.
    looks: u32,
    /// An answer of dockerd's is awaited.
    asking: bool,
}

impl Docker {
    pub(super) fn new(socket: Option<PathBuf>, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            socket,
            patience,
            suspects: HashMap::new(),
            look: now + SOON,
            look_over: now + patience.min(LOOK_OVER),
            looks: 0,
            asking: false,
        }
    }

    /// When the next of its tasks is due.
    pub(super) fn due(&self) -> Instant {
        if self.asking { self.look_over } else { self.look.min(self.look_over) }
    }

    fn look_soon(&mut self) {
        self.looks = 0;
        self.look = Instant::now() + SOON;
    }

    /// Whether it has been one for long enough; from now on, if not before.
    fn is_overdue(&mut self, suspect: Suspect, patience: Duration) -> bool {
        let now = Instant::now();
        now.duration_since(*self.suspects.entry(suspect).or_insert(now)) >= patience
    }

    /// Those that are no longer suspected are forgotten.
    fn clear(&mut self, kind: fn(&Suspect) -> bool, still: &HashSet<Suspect>) {
        self.suspects.retain(|suspect, _| !kind(suspect) || still.contains(suspect));
    }
}

impl Agent {
    pub(super) async fn docker_call(&mut self, call: &Call) -> Result<Value> {
        let answer = match call {
            Call::CreateNetwork(request) => {
                self.plan_and_run(|agent, host| {
                    Ok((docker::plan_docker_network(&agent.state, host, request)?, ()))
                })
                .await?;
                self.refresh_host(Routes::AreTheSame).await?;
                json!({})
            }
            Call::DeleteNetwork(request) => {
                let plan = docker::plan_docker_network_remove(&self.state, &request.network_id)?;
                self.carry_out(&plan).await?;
                self.refresh_host(Routes::AreTheSame).await?;
                json!({})
            }
            Call::CreateEndpoint(request) => {
                let chosen = self
                    .plan_for_container(|agent, host| {
                        docker::plan_create_endpoint(&agent.state, host, request)
                    })
                    .await?;
                json!({ "Interface": chosen })
            }
            Call::EndpointInfo(request) => {
                self.known_endpoint(request)?;
                json!({ "Value": {} })
            }
            Call::Join(request) => {
                let (plan, joined) = docker::plan_join(&self.state, request)?;
                self.carry_out(&plan).await?;
                json!(joined)
            }
            Call::Program(request) => {
                self.plan_for_container(|agent, host| {
                    Ok((docker::plan_program(&agent.state, host, request)?, ()))
                })
                .await?;
                json!({})
            }
            Call::Revoke(request) => self.done(docker::plan_revoke(&self.state, request)?).await?,
            Call::Leave(request) => self.done(docker::plan_leave(&self.state, request)?).await?,
            Call::DeleteEndpoint(request) => {
                self.done(docker::plan_delete_endpoint(&self.state, request)?).await?
            }
            Call::RequestPool(request) => {
                let pool = self
                    .plan_and_run(|agent, host| {
                        docker::plan_request_pool(&agent.state, host, request)
                    })
                    .await?;
                json!(RequestedPool {
                    pool_id: pool.id.to_string(),
                    pool: pool.subnet.to_string(),
                    data: [].into(),
                })
            }
            Call::ReleasePool(request) => {
                self.done(docker::plan_release_pool(&self.state, request)).await?
            }
            Call::RequestAddress(request) => {
                let (plan, address) = docker::plan_request_address(&self.state, request)?;
                self.carry_out(&plan).await?;
                json!(RequestedAddress { address: address.to_string(), data: [].into() })
            }
            Call::ReleaseAddress(request) => {
                self.done(docker::plan_release_address(&self.state, request)?).await?
            }
        };
        if matches!(call, Call::CreateNetwork(_) | Call::Join(_) | Call::Program(_)) {
            self.docker.look_soon();
        }
        Ok(answer)
    }

    async fn done(&mut self, plan: Plan) -> Result<Value> {
        self.carry_out(&plan).await?;
        Ok(json!({}))
    }

    fn known_endpoint(&self, request: &EndpointRef) -> Result<()> {
        let id = &request.endpoint_id;
        let missing = || ServiceError::not_found(format!("endpoint {id} not found"));
        docker::find_endpoint(&self.state, id).map(|_| ()).ok_or_else(missing)
    }

    /// What is due by [`Docker::due`].
    pub(super) async fn docker_due(&mut self) {
        let now = Instant::now();
        if now >= self.docker.look_over {
            self.docker.look_over = now + self.docker.patience.min(LOOK_OVER);
            self.collect_lost().await;
        }
        if now >= self.docker.look && !self.docker.asking {
            self.ask_docker();
        }
    }

    /// Asks for Docker's names, if there is anything of Docker's.
    fn ask_docker(&mut self) {
        let any = self.state.networks.values().any(|it| it.owner == Owner::Docker)
            || !self.state.pools.is_empty();
        self.docker.look = Instant::now() + self.docker.patience;
        let Some(socket) = self.docker.socket.clone().filter(|_| any) else { return };
        self.docker.asking = true;
        let notices = self.notices.clone();
        tokio::spawn(async move {
            let seen = View::take(&socket).await;
            let _ = notices.send(Notice::Docker(seen)).await;
        });
    }

    /// dockerd has answered, or not.
    pub(super) async fn docker_seen(&mut self, seen: Result<View, EngineError>) {
        self.docker.asking = false;
        match seen {
            Ok(view) => {
                let changes = docker::plan_names(&self.state, &view);
                let plan = Plan { steps: vec![], changes };
                if let Err(error) = self.carry_out(&plan).await {
                    tracing::error!("failed to note Docker's names: {}", error.message);
                }
                self.collect_forgotten(&view).await;
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::debug!("Docker's names are not to be had: {error:#}");
            }
        }
        self.docker.looks += 1;
        if self.has_unnamed() && self.docker.looks < QUICK_LOOKS {
            self.docker.look = Instant::now() + SOON * self.docker.looks;
        }
    }

    fn has_unnamed(&self) -> bool {
        let unnamed = |container: &Container| {
            container.owner == Owner::Docker
                && container.endpoints.iter().any(|endpoint| endpoint.id == container.id)
        };
        self.state.containers.values().any(unnamed)
            || self.state.networks.values().any(|network| {
                network.owner == Owner::Docker && network.name.as_str() == network.id.short()
            })
    }

    /// Endpoints whose sandbox is gone, at once; those that are outside of
    /// one, and leases of nobody, after a while.
    pub(super) async fn collect_lost(&mut self) {
        if self.docker_endpoints().next().is_none() && self.state.pools.is_empty() {
            self.docker.suspects.clear();
            return;
        }
        let links: BTreeSet<String> = match self.work.kernel.netlink.links().await {
            Ok(links) => links.into_iter().map(|link| link.name).collect(),
            Err(error) => return tracing::error!("failed to list the links: {error}"),
        };
        let (mut dead, mut suspects) = (vec![], HashSet::new());
        for (container, endpoint) in self.docker_endpoints() {
            let joined = container.state == ContainerState::Joined;
            let there = |link: &crate::model::IfName| links.contains(link.as_str());
            if joined && !there(&endpoint.host_link) {
                if !netns::exists(&container.netns) {
                    dead.push(endpoint.id.clone());
                }
            } else if !joined || there(&endpoint.container_link) {
                suspects.insert(Suspect::Outside(endpoint.id.clone()));
            }
        }
        for id in dead {
            self.forget_endpoint(&id, "its sandbox is gone").await;
        }
        let strayed = docker::strayed_leases(&self.state);
        suspects.extend(strayed.iter().map(|lease| {
            Suspect::Lease(PoolId::from(lease.pool_id.clone()), lease.address.clone())
        }));
        self.docker.clear(|it| matches!(it, Suspect::Outside(_) | Suspect::Lease(..)), &suspects);
        let patience = self.docker.patience;
        for suspect in suspects {
            match &suspect {
                Suspect::Outside(id) => {
                    let id = id.clone();
                    if self.docker.is_overdue(suspect, patience) {
                        self.forget_endpoint(&id, "it has been in no sandbox for too long").await;
                    }
                }
                Suspect::Lease(pool, address) => {
                    let lease = strayed
                        .iter()
                        .find(|it| it.pool_id == pool.as_str() && it.address == *address);
                    if let Some(lease) = lease
                        && self.docker.is_overdue(suspect.clone(), patience * LEASE_PATIENCE)
                    {
                        tracing::warn!(address, "collected an address that no endpoint has");
                        self.collected(docker::plan_release_address(&self.state, lease)).await;
                    }
                }
                _ => {}
            }
        }
    }

    /// After a boot no endpoint is left, nor is an address in use.
    pub(super) async fn release_leases_of_last_boot(&mut self) {
        for lease in docker::strayed_leases(&self.state) {
            self.collected(docker::plan_release_address(&self.state, &lease)).await;
        }
    }

    /// What dockerd does not list, in two looks that are far enough apart.
    async fn collect_forgotten(&mut self, view: &View) {
        let endpoints: HashSet<&str> =
            view.containers.iter().flat_map(engine::Container::endpoints).collect();
        let networks: HashSet<&str> = view.networks.iter().map(|it| it.id.as_str()).collect();
        let configs = view.networks.iter().flat_map(|it| it.ipam.config.iter().flatten());
        let subnets: HashSet<&str> = configs.map(|it| it.subnet.as_str()).collect();
        let mut suspects: HashSet<Suspect> = HashSet::new();
        for (_, endpoint) in self.docker_endpoints() {
            if !endpoints.contains(endpoint.id.as_str()) {
                suspects.insert(Suspect::Endpoint(endpoint.id.clone()));
            }
        }
        for network in self.state.networks.values().filter(|it| it.owner == Owner::Docker) {
            if !networks.contains(network.id.as_str()) {
                suspects.insert(Suspect::Network(network.id.clone()));
            }
        }
        for pool in self.state.pools.values() {
            if !subnets.contains(pool.subnet.to_string().as_str()) {
                suspects.insert(Suspect::Pool(pool.id.clone()));
            }
        }
        let kind = |it: &Suspect| {
            matches!(it, Suspect::Endpoint(_) | Suspect::Network(_) | Suspect::Pool(_))
        };
        self.docker.clear(kind, &suspects);
        // A network's endpoints go with it.
        let patience = self.docker.patience;
        for suspect in suspects {
            if !self.docker.is_overdue(suspect.clone(), patience) {
                continue;
            }
            match suspect {
                Suspect::Endpoint(id) => {
                    self.forget_endpoint(&id, "Docker does not know it").await;
                }
                Suspect::Network(id) => {
                    tracing::warn!(
                        network = id.short(),
                        "collected a network that Docker does not know"
                    );
                    let plan = docker::plan_docker_network_remove(&self.state, id.as_str());
                    self.collected(plan).await;
                    if let Err(error) = self.refresh_host(Routes::AreTheSame).await {
                        tracing::error!("failed to follow the host's links: {error:#}");
                    }
                }
                Suspect::Pool(id) => {
                    tracing::warn!(pool = %id, "collected an address pool that Docker does not know");
                    let pool = crate::api::docker::types::PoolRef { pool_id: id.to_string() };
                    self.collected(Ok(docker::plan_release_pool(&self.state, &pool))).await;
                }
                _ => {}
            }
        }
    }

    async fn forget_endpoint(&mut self, id: &Id, why: &str) {
        tracing::warn!(endpoint = id.short(), why, "collected an endpoint of Docker's");
        self.collected(docker::plan_forget_endpoint(&self.state, id)).await;
    }

    async fn collected(&mut self, plan: Result<Plan, crate::controller::Error>) {
        let done = match plan {
            Ok(plan) => self.carry_out(&plan).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            tracing::error!("failed to collect what Docker has lost: {}", error.message);
        }
    }

    fn docker_endpoints(&self) -> impl Iterator<Item = (&Container, &Endpoint)> {
        let containers = self.state.containers.values().filter(|it| it.owner == Owner::Docker);
        containers.flat_map(|it| it.endpoints.iter().map(move |endpoint| (it, endpoint)))
    }
}
