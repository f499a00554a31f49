//! `cargo xtask build`: netd's binary, with the eBPF programs inside.

use std::path::PathBuf;

use anyhow::Result;

use crate::{setup, shell};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build with optimisations
    #[arg(long)]
    release: bool,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let binary = netd(if args.release { Profile::Release } else { Profile::Dev })?;
    shell::heading(format_args!("Built {}", binary.display()));
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds netd after the set-up that it needs; returns its binary.
pub(crate) fn netd(profile: Profile) -> Result<PathBuf> {
    setup::ensure()?;
    let mut command = shell::cargo();
    command.args(["build", "--package", "netd", "--bin", "netd"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    shell::run("Building netd", &mut command)?;
    Ok(binary(profile))
}

/// Where netd's binary is once it has been built.
pub(crate) fn binary(profile: Profile) -> PathBuf {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    shell::target_dir().join(folder).join("netd")
}
