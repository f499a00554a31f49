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
            engine::{EngineError, View},
            types::{RequestedAddress, RequestedPool},
        },
    },
    controller::{
        Plan,
        docker::{self, Lost},
    },
    kernel::{netns, observe::Link},
    model::{Container, Owner},
};

/// Between a call of Docker's and a look at its names: it tells them when its
/// own work is done.
const SOON: Duration = Duration::from_millis(300);
/// Looks that follow each other ever more slowly, for a minute, while something
/// is still unnamed: a busy dockerd lists a container long after it has joined.
const QUICK_LOOKS: u32 = 20;
/// How often dockerd is asked for its names at the least.
const ASK: Duration = Duration::from_secs(60);
/// How often what netd itself can see is looked over.
const LOOK_OVER: Duration = Duration::from_secs(10);

type Result<T, E = ServiceError> = std::result::Result<T, E>;

#[derive(Debug)]
pub(super) struct Docker {
    /// dockerd's; `None`: it is not asked.
    socket: Option<PathBuf>,
    /// How long something is suspected before it is collected: longer than
    /// dockerd on the busiest machine needs to start a container.
    patience: Duration,
    /// Since when.
    suspects: HashMap<Lost, Instant>,
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

    /// Those of `found` that have been suspected for long enough. One that is
    /// no longer found, and is `like` them, is cleared of it.
    fn overdue(&mut self, found: BTreeSet<Lost>, like: impl Fn(&Lost) -> bool) -> Vec<Lost> {
        let now = Instant::now();
        self.suspects.retain(|lost, _| !like(lost) || found.contains(lost));
        let overdue = found.into_iter().filter(|lost| {
            let dead = matches!(lost, Lost::Dead(_));
            let patience = if dead { Duration::ZERO } else { self.patience };
            now.duration_since(*self.suspects.entry(lost.clone()).or_insert(now)) >= patience
        });
        overdue.collect()
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
                self.change_networks(&plan).await?;
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
                docker::endpoint_by_id(&self.state, &request.endpoint_id)?;
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

    /// What is due by [`Docker::due`].
    pub(super) async fn docker_due(&mut self) {
        let now = Instant::now();
        if now >= self.docker.look_over {
            self.docker.look_over = now + self.docker.patience.min(LOOK_OVER);
            self.look_for_lost().await;
        }
        if now >= self.docker.look && !self.docker.asking {
            self.ask_docker();
        }
    }

    /// Asks for Docker's names, if there is anything of Docker's.
    fn ask_docker(&mut self) {
        self.docker.look = Instant::now() + self.docker.patience.min(ASK);
        let Some(socket) = self.docker.socket.clone().filter(|_| self.has_docker()) else { return };
        self.docker.asking = true;
        let notices = self.notices.clone();
        self.beside.spawn(async move {
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
                let unlisted = docker::unlisted(&self.state, &view);
                let overdue = self.docker.overdue(unlisted, Lost::is_unlisted);
                self.collect(overdue).await;
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

    fn has_docker(&self) -> bool {
        self.state.networks.values().any(|it| it.owner == Owner::Docker)
            || !self.state.pools.is_empty()
    }

    /// Without a look at the host in hand.
    pub(super) async fn look_for_lost(&mut self) {
        if !self.has_docker() {
            return;
        }
        match self.work.kernel.netlink.links().await {
            Ok(links) => self.collect_lost(&links).await,
            Err(error) => tracing::error!("failed to list the links: {error}"),
        }
    }

    /// What the host's links say is lost.
    pub(super) async fn collect_lost(&mut self, links: &[Link]) {
        if !self.has_docker() {
            self.docker.suspects.clear();
            return;
        }
        let names: HashSet<_> = links.iter().map(|link| link.name.as_str()).collect();
        let lost = docker::lost(&self.state, |name| names.contains(name), netns::exists);
        let overdue = self.docker.overdue(lost, |it| !it.is_unlisted());
        self.collect(overdue).await;
    }

    /// After a boot no endpoint is left, nor is an address in use.
    pub(super) async fn release_leases_of_last_boot(&mut self) {
        let plan = docker::plan_release_strayed(&self.state);
        if let Err(error) = self.carry_out(&plan).await {
            tracing::error!("failed to release addresses: {}", error.message);
        }
    }

    async fn collect(&mut self, overdue: Vec<Lost>) {
        for lost in overdue {
            tracing::warn!("collected what Docker has lost: {lost}");
            let done = match docker::plan_collect(&self.state, &lost) {
                Ok(plan) if matches!(lost, Lost::Network(_)) => self.change_networks(&plan).await,
                Ok(plan) => self.carry_out(&plan).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = done {
                tracing::error!("failed to collect it: {}", error.message);
            }
        }
    }
}
