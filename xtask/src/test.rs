//! `cargo xtask test`: all tests. Those of the crates run as the user; those
//! of the `tests` crate make namespaces and load programs, so they run as root.

use std::process::Command;

use anyhow::Result;

use crate::{
    build::{self, Profile},
    dist, shell,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose name contains this
    #[arg(long)]
    filter: Option<String>,

    /// Run the long tests of load and scale instead, on a release build, and
    /// show what they measure
    #[arg(long)]
    soak: bool,
}

/// What the names of the long tests begin with.
const SOAK: &str = "soak_";

pub(crate) fn main(args: &Args) -> Result<()> {
    if args.soak {
        let netd = build::netd(Profile::Release)?;
        let mut soak = shell::cargo();
        soak.args(["test", "--package", "netd-tests", "--"]).args(["--include-ignored"]);
        soak.args(["--nocapture", "--test-threads", "1"]);
        soak.arg(args.filter.as_deref().unwrap_or(SOAK));
        soak.env("NETD_BIN", netd).env("NETD_SOAK", "1");
        return run_as_root("Long tests in network namespaces (root)", &mut soak);
    }
    build::netd(Profile::Dev)?;

    let mut unit = shell::cargo();
    unit.args(["test", "--package", "netd", "--package", "netd-common", "--package", "xtask"]);
    unit.args(&args.filter);
    shell::run("Unit and property tests", &mut unit)?;
    if args.filter.is_none() {
        dist::check()?;
    }

    let mut root = shell::cargo();
    root.args(["test", "--package", "netd-tests"]).args(&args.filter);
    root.args(["--", "--skip", SOAK]);
    run_as_root("Tests in network namespaces (root)", &mut root)
}

/// Runs cargo so that it runs what it has built as root.
fn run_as_root(title: &str, cargo: &mut Command) -> Result<()> {
    if !shell::is_root() {
        // Asks for the password before cargo's output begins; built as the
        // user, so that `target/` stays the user's.
        shell::run(
            "Becoming root for the tests in namespaces",
            shell::as_root("true")?.stdin(std::process::Stdio::inherit()),
        )?;
        cargo.env(runner_variable(), "sudo --preserve-env");
    }
    shell::run(title, cargo)
}

/// The variable that names cargo's runner for the host's own target.
fn runner_variable() -> String {
    format!("CARGO_TARGET_{}_RUNNER", shell::host().to_uppercase().replace(['-', '.'], "_"))
}
