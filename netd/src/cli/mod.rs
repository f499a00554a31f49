//! The command line: one file a command. It parses, asks the agent, prints.
//! It sees the API, the model's words, the paths, `runtime` and `doctor`, and
//! never the agent's state, the kernel or a map.

pub mod agent;
mod docker_relay;
mod doctor;
pub mod error;
mod exec;
mod flows;
mod inspect;
mod ipam;
mod logs;
mod monitor;
mod network;
mod output;
mod parse;
mod port;
mod ps;
mod rm;
mod run;
mod shim;
mod stats;
mod stop;
mod style;
mod watch;

use std::{env, ffi::OsStr, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable};

use self::error::{Failure, Outcome};
use crate::{api::Client, paths::Paths};

/// A container network for a Linux host, in eBPF.
///
/// Networks, addresses, published ports and isolation without iptables,
/// conntrack or a proxy. A root agent (`netd agent`) owns the network; the
/// other commands talk to it.
#[derive(Debug, Parser)]
#[command(
    name = "netd",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  netd agent &
  netd network create --subnet 172.18.0.0/16 blue
  netd run -d --name web --network blue -p 8080:80 -- python3 -m http.server 80
  netd ps

`netd COMMAND --help` has examples of each."
)]
pub struct Cli {
    /// Directory of an agent of its own, apart from the system's: state,
    /// socket, pins and run files are below it
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        env = ROOT_VARIABLE,
        hide_env_values = true
    )]
    root: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

const ROOT_VARIABLE: &str = "NETD_ROOT";

#[derive(Debug, Subcommand)]
enum Command {
    Agent(Box<agent::Args>),
    #[command(subcommand)]
    Network(network::Command),
    Run(Box<run::Args>),
    Ps(ps::Args),
    Inspect(inspect::Args),
    Stop(stop::Args),
    Rm(rm::Args),
    Exec(exec::Args),
    Logs(logs::Args),
    #[command(subcommand)]
    Port(port::Command),
    Ipam(ipam::Args),
    Flows(flows::Args),
    Monitor(monitor::Args),
    Stats(stats::Args),
    Doctor(doctor::Args),
    DockerRelay(docker_relay::Args),
    #[command(hide = true)]
    Shim(shim::Args),
}

/// What every command that asks the agent is given.
#[derive(Debug)]
struct Context {
    /// `--root` as given.
    root: Option<PathBuf>,
    paths: Paths,
    client: Client,
}

/// Runs the command line of this process. `run_agent` is what `netd agent`
/// does once its arguments are read.
pub fn main(run_agent: fn(agent::Options) -> anyhow::Result<()>) -> ExitCode {
    let cli = match parse(env::var_os(ROOT_VARIABLE).as_deref(), env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error),
    };
    let root = cli.root;
    let paths = Paths::new(root.as_deref());
    let outcome = match cli.command {
        Command::Agent(args) => agent::run(*args, paths, run_agent),
        // One thread, and no runtime: it enters namespaces and forks.
        Command::Shim(args) => Ok(args.run()),
        // It must find its sockets before anything else runs.
        Command::DockerRelay(args) => args.run(&paths),
        command => {
            let context = Context { client: Client::new(&paths.socket), paths, root: root.clone() };
            block_on(command.run(&context))
        }
    };
    outcome.unwrap_or_else(|failure| failure.report(root.as_deref()))
}

/// Parses a command line. `root` is the variable: empty is what a script's
/// unset one comes to, and says nothing; an empty `--root` is a mistake.
fn parse(
    root: Option<&OsStr>,
    line: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if root.is_some_and(OsStr::is_empty) {
        command = command.mut_arg("root", |root| root.env(Resettable::Reset));
    }
    Cli::from_arg_matches_mut(&mut command.try_get_matches_from(line)?)
}

/// One thread is enough, and `run` and `exec` need it: namespaces and signal
/// masks are a thread's own.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("failed to start the runtime: {error}")))?
        .block_on(command)
}

impl Command {
    async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Network(command) => command.run(context).await,
            Self::Run(args) => args.run(context).await,
            Self::Ps(args) => args.run(context).await,
            Self::Inspect(args) => args.run(context).await,
            Self::Stop(args) => args.run(context).await,
            Self::Rm(args) => args.run(context).await,
            Self::Exec(args) => args.run(context).await,
            Self::Logs(args) => args.run(context).await,
            Self::Port(command) => command.run(context).await,
            Self::Ipam(args) => args.run(context).await,
            Self::Flows(args) => args.run(context).await,
            Self::Monitor(args) => args.run(context).await,
            Self::Stats(args) => args.run(context).await,
            Self::Doctor(args) => args.run(context).await,
            Self::Agent(_) | Self::Shim(_) | Self::DockerRelay(_) => {
                unreachable!("`main` runs these without a context")
            }
        }
    }
}

impl Context {
    /// Does `each` to every name, Docker's way: all are tried, each failure is
    /// reported, and one failure fails the whole.
    async fn for_each<T>(
        &self,
        names: &[String],
        each: impl AsyncFn(&str) -> Result<T, Failure>,
    ) -> Result<(Vec<T>, ExitCode), Failure> {
        let mut done = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for name in names {
            match each(name).await {
                Ok(value) => done.push(value),
                Err(failure) if failure.is_unreachable() => return Err(failure),
                Err(failure) => {
                    failure.report(self.root.as_deref());
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok((done, code))
    }
}

#[cfg(test)]
mod tests;
