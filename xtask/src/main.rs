//! netd's build and test commands: `cargo xtask COMMAND`. This file only
//! dispatches; each command is one module.

mod bench;
mod build;
mod demo;
mod dist;
mod fuzz;
mod lint;
mod load;
mod run;
mod setup;
mod shell;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, try and test netd.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building, testing and the demo need
    Setup(setup::Args),
    /// Build netd, its eBPF programs included
    Build(build::Args),
    /// Build netd and run it as root
    Run(run::Args),
    /// Show netd's main job on real traffic, on hosts made for it
    Demo(demo::Args),
    /// Run all tests
    Test(test::Args),
    /// Look for packets and texts that break a rule of what reads them
    Fuzz(fuzz::Args),
    /// Measure netd beside what people use instead, and draw the result
    Bench(bench::Args),
    /// The benchmark's load generator
    #[command(hide = true)]
    Load(load::Args),
    /// Check formatting, lints, spelling and dependencies
    Lint(lint::Args),
    /// Make what users install: the binary and a Debian package
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Setup(args) => setup::main(&args),
        Command::Build(args) => build::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Load(args) => load::main(&args),
        Command::Lint(args) => lint::main(&args),
        Command::Dist(args) => dist::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
