//! The README's part: the table of ratios, and in `docs/` two charts and the
//! goals ([`kept`]).

use std::{fmt::Write as _, fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::{charts, kept, tables};
use crate::{bench::results::Results, shell};

/// Around what this command writes.
const BEGIN: &str = "<!-- netd beside others: written by `cargo xtask bench --readme` -->";
const END: &str = "<!-- end -->";
const FOLDER: &str = "docs";

pub(crate) fn update(results: &Results) -> Result<()> {
    let path = shell::root().join("README.md");
    let text = fs::read_to_string(&path)?;
    let folder = shell::root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut images = String::new();
    for chart in [charts::shares(results)?, charts::ports(results)?] {
        let path = folder.join(chart.file);
        // Of what was left out there is no chart, and an older one would lie.
        if chart.svg.is_empty() {
            remove(&path)?;
            continue;
        }
        fs::write(path, &chart.svg)?;
        let _ = writeln!(images, "![{}]({FOLDER}/{})\n", chart.title, chart.file);
    }
    kept::write(results)?;
    let table = tables::summary(results);
    let machine = &results.machine;
    let more = match results.more {
        0 => String::new(),
        more => format!(" and {more} brief ones"),
    };
    let part = format!(
        "{}\n\n{}\n{images}{}, commit {}: Linux {}, {} × {}, {} rounds{more}.\n",
        table.note,
        table.markdown(),
        machine.date,
        machine.commit,
        machine.kernel,
        machine.cpus,
        machine.processor,
        results.rounds
    );
    let replaced = replace(&text, &part).context("the README has no place for the benchmark")?;
    Ok(fs::write(path, replaced)?)
}

/// Removes a file; one that is not there is removed already.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts `part` between the marks.
fn replace(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{part}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replace};

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n<!-- end -->\n");
        let expected = format!("before\n{BEGIN}\nnew\n{END}\nafter\n<!-- end -->\n");
        assert_eq!(replace(&text, "new\n"), Some(expected));
        assert_eq!(replace("no marks", "new"), None);
    }
}
