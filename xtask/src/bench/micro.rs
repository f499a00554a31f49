//! One packet at a time: `netd-micro` of the tests runs netd's programs, which
//! this crate knows nothing of.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{ns::run, results::Micro};
use crate::build::{self, Profile};

pub(super) fn measure() -> Result<Vec<Micro>> {
    let program = build::binary(Profile::Release).with_file_name("netd-micro");
    let text = run(&mut Command::new(program))?;
    serde_json::from_str(&text).context("netd-micro printed no results")
}
