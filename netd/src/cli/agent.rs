//! `netd agent`: the arguments only. What it does is given to [`super::main`].

use std::{path::PathBuf, process::ExitCode};

use super::error::Outcome;
use crate::paths::Paths;

/// Run the agent, in the foreground
///
/// The agent owns the networks, addresses and eBPF programs of this network
/// namespace. It needs root. When it ends, traffic flows on; when it starts
/// again, it finds everything as it was.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  netd agent
  netd agent --config /etc/netd/netd.json --bip 10.5.0.1/24
  netd agent --root /tmp/lab --docker-plugin off --default-address-pool base=10.200.0.0/16,size=24")]
pub struct Args {
    /// Configuration file, JSON [default: /etc/netd/netd.json, or DIR/netd.json with --root; may be absent]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Attach by clsact filters even where the kernel has TCX.
    #[arg(long, hide = true)]
    clsact: bool,

    /// Seconds until what Docker seems to have lost is collected.
    #[arg(long, hide = true, default_value_t = 300)]
    docker_patience: u64,
    /// Take the place of a version of netd whose maps have another layout: containers run on, connections that are open end
    #[arg(long)]
    replace_datapath: bool,

    /// Serve Docker behind `netd docker-relay`, which has the plugin socket
    #[arg(long)]
    docker_relay: bool,

    /// How log lines are written to stderr; `NETD_LOG` says which, as in `debug` or `netd::agent=trace`
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,

    #[command(flatten)]
    flags: ConfigFlags,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What the agent is started with.
#[derive(Clone, Debug)]
pub struct Options {
    pub paths: Paths,
    /// `--config`: it must exist. Otherwise `paths.config`, which may not.
    pub config: Option<PathBuf>,
    /// Attach by clsact filters even where the kernel has TCX.
    pub clsact: bool,
    /// Seconds until what Docker seems to have lost is collected.
    pub docker_patience: u64,
    /// Take the place of a version of netd with other maps.
    pub replace_datapath: bool,
    pub log_format: LogFormat,
    pub flags: ConfigFlags,
}

/// The keys of `netd.json` as flags; each overrides the file's. They are text
/// as in the file and are checked with it, so that both refuse the same things
/// with the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Configuration (each overrides its key in the file)")]
pub struct ConfigFlags {
    /// Address and prefix of the default bridge, or `host`: 172.C.D.1/24 of the host's own A.B.C.D
    #[arg(long, value_name = "ADDRESS/PREFIX|host")]
    pub bip: Option<String>,

    /// Where automatic addresses of the default network come from
    #[arg(long, value_name = "CIDR")]
    pub fixed_cidr: Option<String>,

    /// Default route of containers on the default network
    #[arg(long, value_name = "ADDRESS")]
    pub default_gateway: Option<String>,

    /// MTU of networks that set none [default: the default route's]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,

    /// Containers of the default network reach each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub icc: Option<bool>,

    /// Masquerade the default network's outbound traffic
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ip_masq: Option<bool>,

    /// IPv6 on the default network
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv6: Option<bool>,

    /// A pool that subnets are cut from, /SIZE each; may be repeated
    #[arg(
        long = "default-address-pools",
        visible_alias = "default-address-pool",
        value_name = "base=CIDR,size=SIZE",
        value_parser = pool
    )]
    pub default_address_pools: Option<Vec<PoolFlag>>,

    /// Default host address of `-p`
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,

    /// Interfaces to the outside [default: all that are not netd's own]
    #[arg(long, value_name = "LINK", value_delimiter = ',')]
    pub uplinks: Option<Vec<String>>,

    /// XDP on the uplinks
    #[arg(long, value_name = "MODE", value_parser = ["auto", "native", "generic", "off"])]
    pub xdp: Option<String>,

    /// Accepted as in daemon.json: containers always outlive the agent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub live_restore: Option<bool>,

    /// Entries of the flow table
    #[arg(long, value_name = "ENTRIES")]
    pub flow_table_size: Option<u32>,

    /// Where metrics for Prometheus are served, at /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_address: Option<String>,

    /// Docker's plugin socket, or `off` [default: /run/docker/plugins/netd.sock]
    #[arg(long, value_name = "PATH|off")]
    pub docker_plugin: Option<String>,

    /// dockerd's own socket, where its names are read, or `off` [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH|off")]
    pub docker_socket: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFlag {
    pub base: String,
    /// Prefix length.
    pub size: u8,
}

/// dockerd's spelling: `base=10.0.0.0/8,size=24`, in either order.
fn pool(text: &str) -> Result<PoolFlag, String> {
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("base", value)) if base.is_none() => base = Some(value.to_owned()),
            Some(("size", value)) if size.is_none() => size = value.parse().ok(),
            _ => {
                return Err(format!("unexpected `{part}`: base=CIDR,size=SIZE is expected"));
            }
        }
    }
    match (base, size) {
        (Some(base), Some(size)) => Ok(PoolFlag { base, size }),
        _ => Err("base=CIDR,size=SIZE is expected".to_owned()),
    }
}

pub(super) fn run(
    args: Args,
    mut paths: Paths,
    run_agent: fn(Options) -> anyhow::Result<()>,
) -> Outcome {
    let Args { config, clsact, docker_patience, docker_relay, replace_datapath, log_format, flags } =
        args;
    if docker_relay {
        paths.plugin_socket.clone_from(&paths.relayed_socket);
    }
    run_agent(Options {
        paths,
        config,
        clsact,
        docker_patience,
        replace_datapath,
        log_format,
        flags,
    })?;
    Ok(ExitCode::SUCCESS)
}
