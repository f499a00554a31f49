//! `cargo xtask run -- ARGS`: netd from the source, as root.

use std::{ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Context, Result};

use crate::{
    build::{self, Profile},
    shell,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What netd is given, e.g. `agent`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let netd = build::netd(Profile::Dev)?;
    // In place of this process, so that signals and the exit code are netd's own.
    let error = shell::as_root(&netd)?.args(&args.args).exec();
    Err(error).with_context(|| format!("failed to start {}", netd.display()))
}
