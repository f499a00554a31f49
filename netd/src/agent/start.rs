//! From nothing, or from what an earlier agent left, to a serving actor.

use std::{collections::BTreeSet, fs, io, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use netd_common::abi::NetworkKey;
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
};

use super::{
    Agent, Notice, channels, host, journal, lifecycle::START_AGAIN, monitor, reconcile::Tell,
    servers::Bound, work::Work,
};
use crate::{
    api::ServiceError,
    cli::agent::{LogFormat, Options},
    controller::{self, Op},
    datapath::{self, AttachMode, Datapath, Others},
    executor::Effects as _,
    kernel::{self, KernelEffects, process, sysctl::LocalPorts},
    model::{
        Config, ContainerState, Endpoint, Id, Owner, Process,
        config::{ConfigFile, PoolEntry},
    },
    runtime::files::RunDir,
    store::Store,
    systemd,
};

/// `netd agent`: runs until it is told to stop.
pub fn run(options: Options) -> anyhow::Result<()> {
    log(options.log_format);
    let inherited = systemd::Sockets::inherited().context("failed to take over sockets")?;
    let config = configuration(&options)?;
    options.paths.ensure()?;
    kernel::hostport::raise_descriptor_limit().context("failed to raise the descriptor limit")?;
    let beside = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bound = {
        let _entered = beside.enter();
        Bound::new(&options, &config, inherited)?
    };
    // A thread of the actor's own: its netlink sockets are on it too, so that an answer, which
    // the kernel has as soon as it was asked, is there without another thread's help. Not the
    // main thread: it enters containers' namespaces, and that one's is the process's
    // (`/proc/PID/ns/net`).
    let own = runtime::Builder::new_current_thread().enable_all().build()?;
    let actor = thread::Builder::new()
        .name("actor".to_owned())
        .spawn(move || own.block_on(serve(options, config, bound, &beside)))?;
    actor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Log lines go to stderr, from `info` up unless `NETD_LOG` says otherwise.
fn log(format: LogFormat) {
    let level = tracing_subscriber::EnvFilter::try_from_env("NETD_LOG");
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(level.unwrap_or_else(|_| "info".into()));
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text if journal::has_stderr() => {
            lines.with_ansi(false).event_format(journal::Lines).init();
        }
        LogFormat::Text => {
            lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init();
        }
    }
}

async fn serve(
    options: Options,
    config: Config,
    bound: Bound,
    beside: &Runtime,
) -> anyhow::Result<()> {
    let (handle, requests, notify, notices) = channels();
    let agent = Agent::start(options, config, notify, beside.handle().clone()).await?;
    let serving = bound.serve(handle, beside);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
    systemd::ready(&agent.summary());
    let result = Box::pin(agent.serve(requests, notices)).await;
    serving.finish().await;
    result
}

/// The file, then the flags over it.
fn configuration(options: &Options) -> anyhow::Result<Config> {
    let path = options.config.as_ref().unwrap_or(&options.paths.config);
    let file = match fs::read_to_string(path) {
        Ok(text) => text
            .parse::<ConfigFile>()
            .with_context(|| format!("invalid configuration file {}", path.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.config.is_none() => {
            ConfigFile::default()
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", path.display()));
        }
    };
    let flags = options.flags.clone();
    let flags = ConfigFile {
        bip: flags.bip,
        fixed_cidr: flags.fixed_cidr,
        default_gateway: flags.default_gateway,
        mtu: flags.mtu,
        icc: flags.icc,
        ip_masq: flags.ip_masq,
        ipv6: flags.ipv6,
        default_address_pools: flags.default_address_pools.map(|pools| {
            pools.into_iter().map(|pool| PoolEntry { base: pool.base, size: pool.size }).collect()
        }),
        ip: flags.ip,
        uplinks: flags.uplinks,
        xdp: flags.xdp,
        live_restore: flags.live_restore,
        flow_table_size: flags.flow_table_size,
        metrics_address: flags.metrics_address,
        docker_plugin: flags.docker_plugin,
        docker_socket: flags.docker_socket,
    };
    let has_file = file != ConfigFile::default();
    let config = Config::try_from(file.merge(flags));
    if has_file {
        return config.with_context(|| format!("invalid configuration ({})", path.display()));
    }
    Ok(config?)
}

impl Agent {
    async fn start(
        options: Options,
        config: Config,
        notices: mpsc::Sender<Notice>,
        beside: runtime::Handle,
    ) -> anyhow::Result<Self> {
        let paths = options.paths;
        let docker = super::docker::Docker::new(
            config.docker_socket.resolve(&paths.docker_socket),
            Duration::from_secs(options.docker_patience),
        );
        let store = Store::open(&paths.store()).map_err(ServiceError::from)?;
        let boot_id = super::faults::boot_id()?;
        let local_ports = LocalPorts::open()?;
        let rebooted = store.rebooted(&boot_id).map_err(ServiceError::from)?;
        let state = store.load().map_err(ServiceError::from)?;
        let ula = host::unique_local_pool(&paths, &store)?;
        let load = crate::datapath::Options {
            flow_table_size: config.flow_table_size,
            attach: options.clsact.then_some(AttachMode::Clsact),
            others: if options.replace_datapath { Others::Replace } else { Others::Refuse },
        };
        let mut datapath = Datapath::load(&paths.pins, &load).map_err(refused)?;
        if let Some(events) = datapath.take_events() {
            let _entered = beside.enter();
            monitor::read(events, notices.clone()).context("failed to read the drops")?;
        }
        // Everybody else reaches the published ports all the same.
        if let Err(error) = datapath.attach_sockets(paths.cgroup()) {
            let error = anyhow::Error::from(error);
            tracing::warn!("the host itself does not reach published ports: {error:#}");
        }
        let swept = Arc::default();
        let mut agent = Self {
            config,
            paths,
            state,
            store,
            ula,
            work: Work::new(KernelEffects::new()?, datapath, Arc::clone(&swept)),
            local_ports,
            host: host::Told::default(),
            waiting: std::collections::HashMap::new(),
            notices,
            beside,
            monitor: monitor::Monitor::new(),
            exhaustion: super::exhaustion::Exhaustion::default(),
            docker,
            reconcile: super::reconcile::Reconcile::default(),
            swept,
        };
        agent.undo_intents().await?;
        if let Err(error) = agent.reconcile(rebooted).await {
            // Refused before it began: what this start made goes again.
            if agent.state.networks.is_empty() {
                agent.work.datapath.destroy()?;
            }
            return Err(error);
        }
        if agent.work.datapath.remove_other_versions()? {
            tracing::warn!("took the place of another version of netd");
            agent.refresh_host(host::Routes::MayHaveChanged).await?;
        }
        Ok(agent)
    }

    /// What an earlier agent began and did not finish never happened.
    async fn undo_intents(&mut self) -> anyhow::Result<()> {
        for (intent, plan) in self.store.pending()? {
            tracing::warn!(steps = plan.steps.len(), "undoing an unfinished plan");
            for error in self.work.rollback(&plan).await {
                tracing::warn!("failed to undo: {error}");
            }
            self.store.abort(intent)?;
        }
        Ok(())
    }

    /// Makes the kernel what the state says, and the state what is still alive.
    async fn reconcile(&mut self, rebooted: bool) -> anyhow::Result<()> {
        let host = self.observe().await?;
        let plan =
            controller::plan_default_network(&self.state, &host).map_err(ServiceError::from)?;
        self.carry_out(&plan).await?;
        self.release_dead(rebooted).await;
        self.look_for_lost().await;
        // Links that are gone first: they get their old numbers, and what was
        // in the containers with them.
        if rebooted {
            self.release_leases_of_last_boot().await;
        } else {
            // Where nothing was left, nobody has taken it.
            let tell = if self.work.datapath.is_new() { Tell::Nobody } else { Tell::Log };
            let look = self.look(host::Routes::MayHaveChanged).await?;
            self.repair(&look, "", tell).await;
        }
        self.restore().await;
        self.forget_strangers()?;
        self.work.reaper.end_sockets();
        self.refresh_host(host::Routes::MayHaveChanged).await?;
        self.work.datapath.finish_resize()?;
        self.adopt_containers().await;
        Ok(())
    }

    /// Makes everything that the state says must exist.
    pub(super) async fn restore(&mut self) {
        for op in controller::desired_ops(&self.state) {
            // One that is gone for good must not keep the others down.
            if super::reconcile::is_lost(&op) {
                continue;
            }
            if let Err(error) = self.work.apply(&op).await {
                tracing::error!(?op, "failed to restore: {error}");
            }
        }
    }

    /// Removes what an earlier run left in maps and pins and the state does
    /// not know.
    fn forget_strangers(&mut self) -> anyhow::Result<()> {
        let endpoints = || self.state.containers.values().flat_map(|c| &c.endpoints);
        let addresses: BTreeSet<_> = endpoints().flat_map(Endpoint::known_as).collect();
        let ports = controller::desired_ops(&self.state)
            .iter()
            .filter_map(|op| match op {
                Op::Port { host_address, host_port, protocol, .. } => {
                    Some(super::work::port_key(*host_address, *host_port, *protocol))
                }
                _ => None,
            })
            .collect();
        let families =
            self.state.networks.values().flat_map(|network| {
                network.pools.iter().map(move |pool| (network.index, pool.subnet))
            });
        let networks = families
            .map(|(index, subnet)| NetworkKey::new(index, datapath::family(subnet)))
            .collect();
        self.work.datapath.tables.retain(&addresses, &ports, &networks)?;
        let Datapath { tables, quotas, .. } = &mut self.work.datapath;
        quotas.retain(|ifindex| tables.has_link(ifindex))?;
        let lists = endpoints()
            .flat_map(|endpoint| &endpoint.ports)
            .map(|mapping| (mapping.list, mapping.from.as_slice()));
        self.work.datapath.allow.retain(lists)?;
        Ok(())
    }

    /// Releases the containers that nobody runs any more, before anything of
    /// theirs is made again. After a boot, that is all of them.
    async fn release_dead(&mut self, rebooted: bool) {
        let dead: Vec<_> = self
            .state
            .containers
            .values()
            .filter(|container| container.owner == Owner::Netd)
            .filter(|container| match &container.state {
                ContainerState::Running(it) => {
                    rebooted || !process::is_alive(it.shim, it.start_time)
                }
                ContainerState::Created => rebooted,
                // Its program minds it.
                ContainerState::Joined | ContainerState::Exited { .. } => false,
            })
            .map(|container| container.id.clone())
            .collect();
        for id in dead {
            self.over(&id).await;
        }
        self.remove_unknown_files();
    }

    /// Watches the containers that live on. One that has got its process while
    /// no agent was there to be told runs.
    async fn adopt_containers(&mut self) {
        let containers: Vec<_> = self
            .state
            .containers
            .values()
            .filter(|container| container.owner == Owner::Netd)
            .map(|container| (container.id.clone(), container.state.clone()))
            .collect();
        for (id, state) in containers {
            match state {
                ContainerState::Running(it) => self.watch_process(id, it),
                ContainerState::Created => match self.process_of(&id) {
                    Some(process) => self.adopt(id, process).await,
                    None => self.expect_start(id, START_AGAIN),
                },
                ContainerState::Joined | ContainerState::Exited { .. } => {}
            }
        }
    }
}

impl Agent {
    /// The process that a shim has started in a container, while it lives.
    fn process_of(&self, id: &Id) -> Option<Process> {
        let process = RunDir(&self.paths.containers_dir().join(id.as_str())).read_process()?;
        process::is_alive(process.shim, process.start_time).then_some(process)
    }

    async fn adopt(&mut self, id: Id, process: Process) {
        let plan = match controller::plan_started(&self.state, id.as_str(), process) {
            Ok(plan) => plan,
            Err(error) => return tracing::error!(container = id.short(), "{error}"),
        };
        if let Err(error) = self.carry_out(&plan).await {
            return tracing::error!(container = id.short(), "failed to adopt: {error}");
        }
        self.watch_process(id, process);
    }
}

/// What a start is refused for, with the way out where there is one.
fn refused(error: datapath::Error) -> anyhow::Error {
    match error.hint() {
        Some(hint) => ServiceError::internal(error.to_string()).with_hint(hint).into(),
        None => error.into(),
    }
}
