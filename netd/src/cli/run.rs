//! `netd run`: the agent makes the sandbox, this process starts the command
//! in it.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    Context,
    error::{Failure, Outcome},
    output, parse,
};
use crate::{
    api::types::{ContainerCreate, Sandbox, Started},
    model::Process,
    runtime::spawn::{self, Attached, Start},
};

/// How long to wait for the agent to release what an ended container held.
const RELEASE: Duration = Duration::from_secs(10);

/// Run a command in a container: a network namespace of its own
///
/// The command sees the host's files and the caller's directory and
/// environment; only its network is apart. Without -d it has the caller's
/// terminal, and its exit code is netd's; 127 when there is no such command,
/// 126 when it can't be executed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  netd run --rm -- ping -c1 1.1.1.1
  netd run -d --name web --network blue --ip 172.18.0.10 -p 8080:80 -- python3 -m http.server 80
  netd run -d -p 127.0.0.1:5353:53/udp -p 8000-8010:8000-8010 -- ./server
  netd run --rm --network container:web -- ss -ltn")]
pub(super) struct Args {
    /// Leave it in the background and print its id; its output goes to `netd logs`
    #[arg(short, long)]
    detach: bool,

    /// Remove the container when its command ends
    #[arg(long)]
    rm: bool,

    /// Name [default: one is made up]
    #[arg(long)]
    name: Option<String>,

    /// Network's name or id, `none` (only lo), `host` (the host's own) or `container:CTR` (another's)
    #[arg(long, value_name = "NET", visible_alias = "net")]
    network: Option<String>,

    /// IPv4 address on the network [default: a free one]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    ip: Option<String>,

    /// IPv6 address on the network [default: a free one]
    #[arg(long, value_name = "ADDRESS", value_parser = parse::address)]
    ip6: Option<String>,

    #[arg(
        short,
        long,
        value_name = "SPEC",
        value_parser = parse::port_spec,
        help = "Publish a port: [HOST_IP:][HOST[-END]]:CTR[-END][/tcp|udp|sctp][,from=CIDR]…, or CTR \
                for any free one. With from=, only those sources reach it, and nobody of a family \
                that no from= is of"
    )]
    publish: Vec<String>,

    /// Publish each exposed port on a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,

    /// A port that -P publishes: PORT[-END][/tcp|udp|sctp]
    #[arg(long, value_name = "PORT", value_parser = parse::expose)]
    expose: Vec<String>,

    /// An option of the endpoint (com.docker.network.endpoint.…)
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE", value_parser = parse::key_value)]
    options: Vec<(String, String)>,

    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let Self { detach, rm, .. } = self;
        let body = ContainerCreate {
            name: self.name,
            network: self.network,
            ip: self.ip,
            ip6: self.ip6,
            publish: self.publish,
            publish_all: self.publish_all,
            expose: self.expose,
            options: self.options.into_iter().collect(),
            command: self.command,
            auto_remove: rm,
        };
        let sandbox = context.client.container_create(&body).await?;
        let start = Start {
            program: Path::new(spawn::SELF),
            netns: &sandbox.netns,
            run_dir: &sandbox.run_dir,
            command: &body.command,
        };
        if detach {
            started(context, &sandbox, spawn::detached(start), |process| *process).await?;
            output::line(&sandbox.id)?;
            return Ok(ExitCode::SUCCESS);
        }
        let attached: Attached =
            started(context, &sandbox, spawn::attached(start), |attached| attached.process).await?;
        let code = attached.wait()?;
        released(context, &sandbox.id, rm).await;
        Ok(ExitCode::from(code))
    }
}

/// Tells the agent who runs in the sandbox. What could not be started leaves
/// no container behind.
async fn started<T>(
    context: &Context,
    sandbox: &Sandbox,
    spawned: Result<T, crate::runtime::RuntimeError>,
    process: impl Fn(&T) -> Process,
) -> Result<T, Failure> {
    let failure = match spawned {
        Ok(running) => {
            let process = process(&running);
            let body = Started { shim: process.shim, pid: process.pid };
            match context.client.container_started(&sandbox.id, &body).await {
                Ok(()) => return Ok(running),
                Err(error) => {
                    spawn::abort(&process);
                    Failure::from(error)
                }
            }
        }
        Err(error) => error.into(),
    };
    // The first failure is the one to report; the agent releases what stays.
    let _ = context.client.container_remove_force(&sandbox.id).await;
    Err(failure)
}

/// Waits until the agent has seen the end, so that a script's next command
/// finds the name, the address and the ports free. The command's exit code
/// stands whatever happens here.
async fn released(context: &Context, id: &str, removed: bool) {
    let deadline = Instant::now() + RELEASE;
    let mut pause = Duration::from_millis(2);
    while Instant::now() < deadline {
        let Ok(containers) = context.client.containers_all().await else {
            return;
        };
        match containers.iter().find(|container| container.id == id) {
            None => return,
            Some(container) if !removed && container.state != "running" => return,
            Some(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
