//! Each goal with its figure, as the repository keeps it: for readers in
//! Markdown, and in JSON for the next run to be compared with.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{introduction, tables};
use crate::{
    bench::{
        goals::{self, Row},
        results::{Machine, Results},
    },
    shell,
};

pub(crate) const FILE: &str = "docs/benchmark.json";
const TEXT: &str = "docs/benchmark.md";

/// A run's verdicts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

impl Kept {
    /// `file`: as it is, or in the repository.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .or_else(|_| fs::read_to_string(shell::root().join(file)))
            .with_context(|| format!("failed to read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} holds no run's verdicts", file.display()))
    }
}

/// Writes both files.
pub(super) fn write(results: &Results) -> Result<()> {
    let kept = Kept { machine: results.machine.clone(), rows: goals::rows(results) };
    let json = serde_json::to_string_pretty(&kept)? + "\n";
    fs::write(shell::root().join(FILE), json)?;
    let table = tables::goals(results);
    let text = format!(
        "# netd's goals\n\n{}\n\n{}\n\n\
         *Met*: the whole interval reaches the goal. *Short*: the whole interval misses it. \
         *Within noise*: the goal is in the interval.\n\n{}",
        introduction(results).join("\n\n"),
        table.note,
        table.markdown()
    );
    Ok(fs::write(shell::root().join(TEXT), text)?)
}
