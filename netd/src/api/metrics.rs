//! `/metrics` for Prometheus, on TCP: what the agent counts, named and in units
//! as Prometheus has it (<https://prometheus.io/docs/practices/naming/>), in its
//! text format 0.0.4.

use std::{
    fmt, io,
    net::{self, SocketAddr},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request as HttpRequest, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tokio::net::TcpListener;

use super::{
    limits::Limits,
    serve,
    service::{Handle, Request},
    types::{StatRow, UplinkXdp},
};

/// What the agent knows at the moment at which it is asked.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub stats: Vec<StatRow>,
    pub networks: usize,
    /// By state.
    pub containers: Vec<(&'static str, usize)>,
    /// By protocol.
    pub ports: Vec<(&'static str, usize)>,
    pub pools: Vec<PoolFill>,
    pub uplinks: Vec<UplinkXdp>,
    pub flows: FlowFill,
    /// Of `netd monitor`.
    pub listeners: usize,
    pub process: Usage,
}

/// The addresses of a network's subnet.
#[derive(Clone, Debug)]
pub struct PoolFill {
    pub network: String,
    pub subnet: String,
    /// That may be given by themselves.
    pub addresses: f64,
    pub used: usize,
}

/// Entries of the flow tables; a flow has two.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowFill {
    /// As the last sweep found them.
    pub entries: u64,
    pub limit: u64,
    /// Since the agent's start.
    pub expired: u64,
}

/// The agent's process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_fds: u64,
    pub max_fds: u64,
    /// Since the epoch.
    pub start_seconds: f64,
}

/// The requests of a socket, by route.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<Vec<(&'static str, String)>, Counter>,
    seconds: Family<Vec<(&'static str, String)>, Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        // From 0.5 ms to 16 s.
        let histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        Self { answered: Family::default(), seconds: Family::new_with_constructor(histogram) }
    }
}

impl Requests {
    /// `router`, its requests counted.
    pub fn count<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.layer(from_fn_with_state(self.clone(), count))
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("netd_api");
        let (answered, seconds) = (self.answered.clone(), self.seconds.clone());
        registry.register("requests", "Requests that were answered", answered);
        registry.register(
            "request_duration_seconds",
            "From a request's headers to its answer's",
            seconds,
        );
        registry
    }
}

async fn count(State(requests): State<Requests>, request: HttpRequest, next: Next) -> Response {
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let begin = Instant::now();
    let answer = next.run(request).await;
    let labels = vec![("method", method), ("route", route)];
    requests.seconds.get_or_create(&labels).observe(begin.elapsed().as_secs_f64());
    let mut labels = labels;
    labels.push(("code", answer.status().as_str().to_owned()));
    requests.answered.get_or_create(&labels).inc();
    answer
}

/// A bound `metrics-address`.
#[derive(Debug)]
pub struct Server(TcpListener);

impl Server {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Self)
    }

    /// Answers `GET /metrics` until `shutdown` ends.
    pub async fn serve(self, handle: Handle, shutdown: impl Future<Output = ()>) {
        let router = Router::new().route("/metrics", get(metrics)).with_state(handle);
        let limits = Limits {
            connections: 16,
            body: 0,
            body_time: Duration::from_secs(1),
            refuse: |_, status, why| (status, why.to_owned()).into_response(),
            ..Limits::default()
        };
        serve::serve(self.0, |_| Ok(()), router, limits, shutdown).await;
    }
}

async fn metrics(State(agent): State<Handle>) -> Response {
    match agent.call(Request::Metrics).await {
        Ok(snapshot) => {
            let text = text(snapshot, agent.counts());
            ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.message).into_response(),
    }
}

/// All metrics, in the text format.
fn text(snapshot: Snapshot, requests: &Requests) -> String {
    let mut own = Registry::default();
    own.register_collector(Box::new(snapshot));
    let mut text = String::new();
    for registry in [own, requests.registry()] {
        prometheus_text::encode(&mut text, &registry).expect("a string takes any text");
    }
    text
}

/// A family whose values are at hand.
fn family<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, M)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    let Some((_, first)) = values.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    values.try_for_each(|(labels, value)| value.encode(family.encode_family(&labels)?))
}

/// One value, without labels.
fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
}

#[expect(clippy::cast_precision_loss, reason = "counts of things that a host has")]
fn gauge(value: usize) -> ConstGauge<f64> {
    ConstGauge::new(value as f64)
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        family(encoder, "netd_build_info", "The agent's version", [(version, gauge(1))])?;
        self.encode_packets(encoder)?;
        self.encode_flows(encoder)?;
        self.encode_things(encoder)?;
        self.process.encode(encoder)
    }
}

impl Snapshot {
    fn encode_packets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Of = fn(&StatRow) -> u64;
        let mut counted = |drop: bool, name: &str, help: &str, of: Of| {
            let label = if drop { "reason" } else { "verdict" };
            let rows = self.stats.iter().filter(|row| row.drop == drop);
            let values = rows.map(|row| {
                let labels = [("program", row.program.as_str()), (label, row.outcome.as_str())];
                (labels, ConstCounter::new(of(row)))
            });
            family(encoder, name, help, values)
        };
        counted(false, "netd_packets", "Packets that were let through", |row| row.packets)?;
        counted(false, "netd_bytes", "Bytes of the packets that were let through", |row| {
            row.bytes
        })?;
        counted(true, "netd_dropped_packets", "Packets that were dropped", |row| row.packets)?;
        counted(true, "netd_dropped_bytes", "Bytes of the packets that were dropped", |row| {
            row.bytes
        })
    }

    fn encode_flows(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let FlowFill { entries, limit, expired } = self.flows;
        single(
            encoder,
            "netd_flow_entries",
            "Entries of the flow tables, two a flow",
            &ConstGauge::new(entries),
        )?;
        single(
            encoder,
            "netd_flow_entries_limit",
            "Entries that the flow tables have room for",
            &ConstGauge::new(limit),
        )?;
        single(
            encoder,
            "netd_flow_entries_expired",
            "Entries that were forgotten, their flows being over",
            &ConstCounter::new(expired),
        )
    }

    fn encode_things(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        single(encoder, "netd_networks", "Networks", &gauge(self.networks))?;
        let counts = |label: &'static str, counts: &[(&'static str, usize)]| -> Vec<_> {
            counts.iter().map(|(value, count)| ([(label, *value)], gauge(*count))).collect()
        };
        let containers = counts("state", &self.containers);
        family(encoder, "netd_containers", "Containers", containers)?;
        let ports = counts("protocol", &self.ports);
        family(encoder, "netd_published_ports", "Published ports", ports)?;
        let of =
            |pool: &PoolFill| [("network", pool.network.clone()), ("subnet", pool.subnet.clone())];
        family(
            encoder,
            "netd_subnet_addresses",
            "Addresses that containers of a subnet may be given",
            self.pools.iter().map(|pool| (of(pool), ConstGauge::new(pool.addresses))),
        )?;
        family(
            encoder,
            "netd_subnet_addresses_used",
            "Addresses of a subnet that containers have",
            self.pools.iter().map(|pool| (of(pool), gauge(pool.used))),
        )?;
        family(
            encoder,
            "netd_uplink_info",
            "Interfaces to the outside",
            self.uplinks.iter().map(|uplink| {
                ([("link", uplink.link.as_str()), ("xdp", uplink.mode.as_str())], gauge(1))
            }),
        )?;
        single(
            encoder,
            "netd_monitor_listeners",
            "Readers of `netd monitor`",
            &gauge(self.listeners),
        )
    }
}

impl Usage {
    /// As Prometheus' client libraries name them
    /// (<https://prometheus.io/docs/instrumenting/writing_clientlibs/>).
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        single(
            encoder,
            "process_cpu_seconds",
            "CPU time of the agent",
            &ConstCounter::new(self.cpu_seconds),
        )?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the agent", self.resident_bytes),
            ("process_open_fds", "File descriptors that the agent has open", self.open_fds),
            ("process_max_fds", "File descriptors that the agent may have", self.max_fds),
        ] {
            single(encoder, name, help, &ConstGauge::new(value))?;
        }
        let start = ConstGauge::new(self.start_seconds);
        single(encoder, "process_start_time_seconds", "When the agent started", &start)
    }
}
