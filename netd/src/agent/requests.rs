//! Each request of the API: look at the host, plan, carry out, answer.

use std::collections::BTreeSet;

use super::{Agent, host::Routes, lifecycle::START};
use crate::{
    api::{
        Request, ServiceError, inspect, rows,
        service::{Kind, Reply, Which},
        types::{
            ContainerCreate, ContainerSummary, Created, Info, NetworkCreate, PortRow, Ports,
            Pruned, Sandbox,
        },
    },
    controller::{self, Action, Op, Plan},
    executor::ExecError,
    model::{ContainerState, Id, Mode},
};

/// Tries to find a host port that no other program holds.
const PORT_TRIES: usize = 10;

type Result<T, E = ServiceError> = std::result::Result<T, E>;

impl Agent {
    pub(super) async fn answer(&mut self, request: Request) {
        // A reply that can't be sent has nobody waiting for it.
        macro_rules! reply {
            ($to:ident, $value:expr) => {{
                let _ = $to.send($value);
            }};
        }
        // Once the flows have ended that the request ended.
        macro_rules! reply_late {
            ($to:ident, $value:expr) => {{
                let value = $value;
                self.reply_late($to, value);
            }};
        }
        match request {
            Request::Info(to) => reply!(to, Ok(self.info())),
            Request::NetworkList(to) => reply!(to, Ok(rows::networks(&self.state))),
            Request::NetworkCreate(request, to) => reply!(to, self.network_create(&request).await),
            Request::NetworkPrune(to) => reply!(to, self.network_prune().await),
            Request::NetworkInspect(name, to) => reply!(to, self.network_inspect(&name)),
            Request::NetworkRemove(name, to) => reply!(to, self.network_remove(&name).await),
            Request::NetworkConnect(name, request, to) => reply!(
                to,
                self.plan_for_container(|agent, host| {
                    controller::plan_connect(&agent.state, host, &name, &request)
                        .map(|plan| (plan, ()))
                })
                .await
            ),
            Request::NetworkDisconnect(name, request, to) => reply_late!(
                to,
                self.plan_for_container(|agent, _| {
                    controller::plan_disconnect(&agent.state, &name, &request)
                        .map(|plan| (plan, ()))
                })
                .await
            ),
            Request::ContainerList(which, to) => reply!(to, Ok(self.container_list(which))),
            Request::ContainerCreate(request, to) => {
                reply!(to, self.container_create(&request).await);
            }
            Request::ContainerInspect(name, to) => reply!(to, self.container_inspect(&name)),
            Request::ContainerSandbox(name, to) => reply!(to, self.container_sandbox(&name)),
            Request::ContainerStarted(name, started, to) => {
                reply!(to, self.container_started(&name, &started).await);
            }
            Request::ContainerStop(name, stop, to) => self.container_stop(&name, &stop, to).await,
            Request::ContainerRemove(name, removal, to) => {
                self.container_remove(&name, removal, to).await;
            }
            Request::PortList(name, to) => reply!(to, self.port_list(name.as_deref())),
            Request::PortAdd(name, ports, to) => {
                reply_late!(to, self.port_add(&name, &ports).await);
            }
            Request::PortRemove(name, ports, to) => reply_late!(
                to,
                self.plan_for_container(|agent, _| {
                    controller::plan_unpublish(&agent.state, &name, &ports.specs)
                        .map(|plan| (plan, ()))
                })
                .await
            ),
            Request::Ipam(to) => reply!(to, Ok(self.lease_rows())),
            Request::Flows(to) => self.flow_rows(to),
            Request::Stats(to) => reply!(to, self.stat_rows()),
            Request::Monitor(filter, to) => reply!(to, self.listen(filter)),
            Request::Metrics(to) => reply!(to, self.metrics()),
            Request::Docker(call, to) => reply!(to, self.docker_call(&call).await),
        }
    }

    /// Answers when all flows have ended that are to end by now; the actor goes
    /// on meanwhile.
    pub(super) fn reply_late<T: Send + 'static>(&self, to: Reply<T>, answer: Result<T>) {
        match self.work.reaper.ended() {
            None => drop(to.send(answer)),
            Some(ended) => drop(tokio::spawn(async move {
                ended.await;
                let _ = to.send(answer);
            })),
        }
    }

    fn info(&self) -> Info {
        Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state_dir: self.paths.state.clone(),
            attach: self.work.datapath.mode().to_string(),
            pins: self.work.datapath.pins().to_owned(),
            uplinks: self.host.uplinks.clone(),
            xdp: self.host.xdp_rows(),
            networks: self.state.networks.len(),
            containers: self.state.containers.len(),
        }
    }

    async fn network_create(&mut self, request: &NetworkCreate) -> Result<Created> {
        let id = self
            .plan_and_run(|agent, host| {
                controller::plan_network_create(&agent.state, host, request)
            })
            .await?;
        // Its gateway is one of the host's addresses from now on.
        self.refresh_host(Routes::AreTheSame).await?;
        Ok(Created { id: id.to_string() })
    }

    async fn network_prune(&mut self) -> Result<Pruned> {
        let (plan, names) = controller::plan_prune(&self.state);
        self.change_networks(&plan).await?;
        Ok(Pruned { networks_deleted: names.iter().map(ToString::to_string).collect() })
    }

    async fn network_remove(&mut self, name: &str) -> Result<()> {
        let plan = controller::plan_network_remove(&self.state, name)?;
        self.change_networks(&plan).await
    }

    /// Carries out a plan of networks: their gateways are addresses of the
    /// host's.
    pub(super) async fn change_networks(&mut self, plan: &Plan) -> Result<()> {
        self.carry_out(plan).await?;
        Ok(self.refresh_host(Routes::AreTheSame).await?)
    }

    fn network_inspect(&self, name: &str) -> Result<serde_json::Value> {
        let network = controller::find_network(&self.state, name)?;
        to_json(&inspect::network(&self.state, network))
    }

    fn container_inspect(&self, name: &str) -> Result<serde_json::Value> {
        let container = controller::find_container(&self.state, name)?;
        to_json(&inspect::container(&self.state, container))
    }

    fn container_list(&self, which: Which) -> Vec<ContainerSummary> {
        rows::containers(&self.state, which == Which::All)
    }

    async fn container_create(&mut self, request: &ContainerCreate) -> Result<Sandbox> {
        let id: Id = self
            .plan_for_container(|agent, host| {
                controller::plan_container_create(&agent.state, host, request)
            })
            .await?;
        let sandbox = self.container_sandbox(id.as_str())?;
        self.expect_start(id, START);
        Ok(sandbox)
    }

    /// Where a container's processes live. One that has ended keeps its run
    /// directory (its logs), but nothing to enter.
    fn container_sandbox(&self, name: &str) -> Result<Sandbox> {
        let container = controller::find_container(&self.state, name)?;
        let over = matches!(container.state, ContainerState::Exited { .. });
        Ok(Sandbox {
            id: container.id.to_string(),
            name: container.name.to_string(),
            netns: match (&container.mode, over) {
                (Mode::Host, true) => self.paths.netns_dir().join(container.id.as_str()),
                _ => container.netns.clone(),
            },
            run_dir: self.paths.containers_dir().join(container.id.as_str()),
        })
    }

    fn port_list(&self, name: Option<&str>) -> Result<Vec<PortRow>> {
        match name {
            None => Ok(rows::ports(&self.state, self.state.containers.values())),
            Some(name) => {
                let container = controller::find_container(&self.state, name)?;
                Ok(rows::ports(&self.state, [container]))
            }
        }
    }

    async fn port_add(&mut self, name: &str, ports: &Ports) -> Result<Vec<PortRow>> {
        let added = self
            .plan_for_container(|agent, host| {
                controller::plan_publish(&agent.state, host, name, &ports.specs)
            })
            .await?;
        let added: BTreeSet<_> = added.into_iter().collect();
        let container = controller::find_container(&self.state, name)?;
        Ok(container
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.ports.iter().map(move |mapping| (endpoint, mapping)))
            .filter(|(_, mapping)| added.contains(*mapping))
            .map(|(endpoint, mapping)| rows::port(&self.state, container, endpoint, mapping))
            .collect())
    }

    /// Plans against a fresh look at the host and carries the plan out.
    pub(super) async fn plan_and_run<T>(
        &mut self,
        plan: impl Fn(&Self, &controller::Host) -> Result<(Plan, T), controller::Error>,
    ) -> Result<T> {
        let host = self.observe().await?;
        self.plan_with(host, plan).await
    }

    /// As [`Agent::plan_and_run`], for a container: what it must know of the
    /// host is soon seen.
    pub(super) async fn plan_for_container<T>(
        &mut self,
        plan: impl Fn(&Self, &controller::Host) -> Result<(Plan, T), controller::Error>,
    ) -> Result<T> {
        let host = self.observe_ports()?;
        self.plan_with(host, plan).await
    }

    /// A host port that was netd's choice and turns out to be taken is chosen
    /// again.
    async fn plan_with<T>(
        &mut self,
        mut host: controller::Host,
        plan: impl Fn(&Self, &controller::Host) -> Result<(Plan, T), controller::Error>,
    ) -> Result<T> {
        for _ in 0..PORT_TRIES {
            let (steps, answer) = plan(self, &host)?;
            let error = match self.journal_and_run(&steps).await? {
                Ok(()) => return Ok(answer),
                Err(error) => error,
            };
            match error.refused_port() {
                Some(refused) if !host.avoid_ports.contains(&refused) => {
                    host.avoid_ports.push(refused);
                    let again = plan(self, &host)?.0;
                    if again.steps.iter().any(|step| reserves(step, refused)) {
                        return Err(error.into());
                    }
                }
                _ => return Err(error.into()),
            }
        }
        Err(ServiceError::new(Kind::Conflict, "all ports are allocated"))
    }

    /// Runs a plan that leaves netd no choice.
    pub(super) async fn carry_out(&mut self, plan: &Plan) -> Result<()> {
        Ok(self.journal_and_run(plan).await??)
    }

    /// The intent is on disk before the first step, the changes before the
    /// answer. A plan that fails is undone and leaves no intent. One without
    /// steps needs none.
    async fn journal_and_run(&mut self, plan: &Plan) -> Result<Result<(), ExecError>> {
        if plan.steps.is_empty() {
            if !plan.changes.is_empty() {
                self.store.put(&plan.changes)?;
                self.work.committed();
                self.commit(&plan.changes);
            }
            return Ok(Ok(()));
        }
        let intent = self.store.begin(plan)?;
        if let Err(error) = self.work.run(plan).await {
            tracing::debug!("a plan failed and was undone: {error}");
            if let Err(error) = self.store.abort(intent) {
                tracing::error!("failed to end an intent: {error}");
            }
            return Ok(Err(error));
        }
        if let Err(error) = self.store.commit(intent, &plan.changes) {
            // What is not on disk did not happen.
            for undo in self.work.rollback(plan).await {
                tracing::error!("failed to undo: {undo}");
            }
            // An update of what is there has no opposite but its removal.
            self.restore().await;
            return Err(error.into());
        }
        self.work.committed();
        self.commit(&plan.changes);
        Ok(Ok(()))
    }

    /// What is on disk is so from now on, and is told.
    fn commit(&mut self, changes: &[controller::Change]) {
        for change in changes {
            self.tell_change(change);
            self.state.commit(change.clone());
        }
    }
}

fn reserves(step: &controller::Step, port: (crate::model::Protocol, u16)) -> bool {
    step.action == Action::Apply
        && matches!(&step.op, Op::HostPort { protocol, port: number, .. } if (*protocol, *number) == port)
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| ServiceError::internal(error.to_string()))
}

impl From<controller::Error> for ServiceError {
    fn from(error: controller::Error) -> Self {
        Self { kind: error.kind(), message: error.to_string(), hint: error.hint() }
    }
}

impl From<ExecError> for ServiceError {
    fn from(error: ExecError) -> Self {
        let kind = if error.refused_port().is_some() { Kind::Conflict } else { Kind::Internal };
        let causes =
            std::iter::successors(std::error::Error::source(&error.failed.error), |e| e.source());
        let message = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let hint = error.hint().map(ToOwned::to_owned);
        Self { kind, message, hint }
    }
}

macro_rules! internal {
    ($($error:ty),+) => {$(
        impl From<$error> for ServiceError {
            fn from(error: $error) -> Self {
                tracing::error!("{error}");
                Self::internal(anyhow::Error::from(error).chain().map(ToString::to_string)
                    .collect::<Vec<_>>().join(": "))
            }
        }
    )+};
}

internal!(crate::kernel::Error, crate::datapath::Error);

impl From<crate::store::StoreError> for ServiceError {
    fn from(error: crate::store::StoreError) -> Self {
        let hint = error.hint();
        let causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
        let message = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        Self { kind: Kind::Internal, message, hint }
    }
}

impl From<anyhow::Error> for ServiceError {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(format!("{error:#}"))
    }
}
