//! Requests and answers of the control API, as JSON. Lists have the keys of
//! DESIGN §6 (Docker's style, so `PascalCase`).
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /v1/info` | | [`Info`] |
//! | `GET /v1/networks` | | `[NetworkSummary]` |
//! | `POST /v1/networks` | [`NetworkCreate`] | [`Created`] |
//! | `POST /v1/networks/prune` | | [`Pruned`] |
//! | `GET /v1/networks/{name}` | | Docker's `network inspect` object |
//! | `DELETE /v1/networks/{name}` | | |
//! | `POST /v1/networks/{name}/connect` | [`Connect`] | |
//! | `POST /v1/networks/{name}/disconnect` | [`Connect`] | |
//! | `GET /v1/containers?all=` | | `[ContainerSummary]` |
//! | `POST /v1/containers` | [`ContainerCreate`] | [`Sandbox`] |
//! | `GET /v1/containers/{name}` | | Docker's `inspect` object |
//! | `GET /v1/containers/{name}/sandbox` | | [`Sandbox`] |
//! | `POST /v1/containers/{name}/started` | [`Started`] | |
//! | `POST /v1/containers/{name}/stop` | [`Stop`] | |
//! | `DELETE /v1/containers/{name}?force=` | | |
//! | `GET /v1/ports?container=` | | `[PortRow]` |
//! | `POST /v1/containers/{name}/ports` | [`Ports`] | `[PortRow]` |
//! | `DELETE /v1/containers/{name}/ports` | [`Ports`] | |
//! | `GET /v1/ipam` | | `[LeaseRow]` |
//! | `GET /v1/flows` | | `[FlowRow]` |
//! | `GET /v1/stats` | | `[StatRow]` |
//! | `GET /v1/monitor` | | lines, each a [`super::monitor::MonitorEvent`], without an end |
//!
//! An error is an [`ApiError`] with status 400 (bad request), 404 (no such
//! thing), 409 (conflict) or 500; 403 (who asks is not root), 408, 413 and 503
//! are those of [`super::limits`]. A connection has one request.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    pub version: String,
    pub pid: u32,
    pub state_dir: PathBuf,
    /// `tcx` or `clsact`.
    pub attach: String,
    /// Where maps and links are pinned.
    pub pins: PathBuf,
    pub uplinks: Vec<String>,
    #[serde(default)]
    pub xdp: Vec<UplinkXdp>,
    pub networks: usize,
    pub containers: usize,
}

/// Whether XDP runs on an uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UplinkXdp {
    pub link: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why it is off.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkCreate {
    pub name: String,
    #[serde(default)]
    pub subnets: Vec<String>,
    #[serde(default)]
    pub gateways: Vec<String>,
    #[serde(default)]
    pub ip_ranges: Vec<String>,
    #[serde(default)]
    pub aux_addresses: BTreeMap<String, String>,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub ipv6: bool,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    /// Names of the networks that were removed.
    pub networks_deleted: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    pub container: String,
    #[serde(default)]
    pub ip: Option<String>,
    #[serde(default)]
    pub ip6: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSummary {
    pub id: String,
    pub name: String,
    pub driver: String,
    pub scope: String,
    pub subnets: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerCreate {
    #[serde(default)]
    pub name: Option<String>,
    /// A network's name or id, `none`, `host` or `container:N`.
    #[serde(default)]
    pub network: Option<String>,
    #[serde(default)]
    pub ip: Option<String>,
    #[serde(default)]
    pub ip6: Option<String>,
    /// `-p`, each a [`crate::model::PortSpec`].
    #[serde(default)]
    pub publish: Vec<String>,
    #[serde(default)]
    pub publish_all: bool,
    /// `--expose`: `PORT[-END][/proto]`.
    #[serde(default)]
    pub expose: Vec<String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    pub command: Vec<String>,
    #[serde(default)]
    pub auto_remove: bool,
}

/// What a process needs to be started in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sandbox {
    pub id: String,
    pub name: String,
    /// Namespace file to enter.
    pub netns: PathBuf,
    /// Holds `log`, `pid` and `exit`.
    pub run_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The supervising shim.
    pub shim: u32,
    /// The container's command.
    pub pid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Seconds between SIGTERM and SIGKILL.
    pub timeout: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub specs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    pub id: String,
    pub name: String,
    /// `created`, `running` or `exited`.
    pub state: String,
    pub pid: Option<u32>,
    pub command: String,
    pub networks: Vec<String>,
    /// As `docker ps` prints them: `0.0.0.0:8080->80/tcp`.
    pub ports: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortRow {
    pub container: String,
    pub network: String,
    pub host_ip: String,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: String,
    pub from: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LeaseRow {
    pub network: String,
    pub subnet: String,
    pub address: String,
    /// Container's name; `gateway` or the aux address's name otherwise.
    pub owner: String,
    pub mac: Option<String>,
    /// Seconds since the endpoint last sent; `None`: never, or not an endpoint.
    pub last_seen: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowRow {
    pub protocol: String,
    pub state: String,
    pub original: FlowTuple,
    pub reply: FlowTuple,
    /// `snat`, `dnat`, `hairpin` or `none`.
    pub nat: String,
    pub container: String,
    /// Seconds since a packet was last seen.
    pub age: u64,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FlowTuple {
    pub src: String,
    pub dst: String,
    pub src_port: u16,
    pub dst_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatRow {
    /// `from_container`, …
    pub program: String,
    /// A verdict or a drop reason.
    pub outcome: String,
    /// `true`: the outcome is a drop reason.
    pub drop: bool,
    pub packets: u64,
    pub bytes: u64,
}
