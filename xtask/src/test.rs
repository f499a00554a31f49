//! `cargo xtask test`: all tests. Those of the crates run as the user; those
//! of the `tests` crate make namespaces and load programs, so they run as root.

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
}

pub(crate) fn main(args: &Args) -> Result<()> {
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
    if !shell::is_root() {
        // Asks for the password before cargo's output begins; built as the
        // user, so that `target/` stays the user's.
        shell::run(
            "Becoming root for the tests in namespaces",
            shell::as_root("true")?.stdin(std::process::Stdio::inherit()),
        )?;
        root.env(runner_variable(), "sudo --preserve-env");
    }
    shell::run("Tests in network namespaces (root)", &mut root)
}

/// The variable that names cargo's runner for the host's own target.
fn runner_variable() -> String {
    format!("CARGO_TARGET_{}_RUNNER", shell::host().to_uppercase().replace(['-', '.'], "_"))
}
