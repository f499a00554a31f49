//! The report of a run: Markdown, SVG charts and one HTML page with both in
//! it, all made of [`Results`].

mod charts;
mod kept;
mod page;
mod readme;
mod tables;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    results::Results,
    rounds::{BRIEF, BRIEF_MIB},
};

pub(crate) use kept::{FILE as KEPT, Kept};
pub(crate) use readme::update as update_readme;

/// Rows of text under a title.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// What one must know to read it; Markdown without links.
    pub(crate) note: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// A chart as a file of its own.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) svg: String,
}

impl Table {
    fn new(title: &str, note: &str, head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let head = head.into_iter().map(Into::into).collect();
        Self { title: title.to_owned(), note: note.to_owned(), head, rows: Vec::new() }
    }

    /// Without its title.
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<_> = self
            .head
            .iter()
            .enumerate()
            .map(|(n, _)| if n == 0 { "---" } else { "---:" })
            .collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}| {} |\n{rows}", line(&self.head), rule.join(" | "))
    }
}

/// Writes all of it into a folder.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    put("results.json", &serde_json::to_string_pretty(results)?)?;
    let tables = tables::all(results);
    let charts = charts::all(results)?;
    for chart in &charts {
        put(chart.file, &chart.svg)?;
    }
    put("report.md", &markdown(results, &tables, &charts))?;
    put("index.html", &page::html(&introduction(results), &tables, &charts))
}

fn markdown(results: &Results, tables: &[Table], charts: &[Chart]) -> String {
    let mut text = format!("# netd beside others\n\n{}\n", introduction(results).join("\n\n"));
    for chart in charts {
        let _ = writeln!(text, "\n![{}]({})", chart.title, chart.file);
    }
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        let _ = write!(text, "\n## {}\n\n{}\n\n{}", table.title, table.note, table.markdown());
    }
    text
}

/// Where and how it was measured, in paragraphs.
fn introduction(results: &Results) -> Vec<String> {
    let machine = &results.machine;
    let busy = if machine.load > 0.5 {
        format!(
            " The machine was busy with other things ({:.1} of its CPUs): ratios survive that, \
             absolute figures do not.",
            machine.load
        )
    } else {
        String::new()
    };
    let more = match results.more {
        0 => String::new(),
        more => format!(
            ", and {more} brief ones of what the goals are about ({BRIEF} s each, or {BRIEF_MIB} MiB)"
        ),
    };
    vec![
        format!(
            "{}, commit {}. Linux {}, {} × {}, {} GiB.{busy}",
            machine.date,
            machine.commit,
            machine.kernel,
            machine.cpus,
            machine.processor,
            machine.memory_gib
        ),
        format!(
            "Each contender has the same machines: two containers, the host, and an outside behind \
             a veth uplink. {} rounds, {} s each (iperf3: whole seconds){more}; within a round the \
             contenders take turns at every cell. Figures are medians over the rounds; [brackets] hold the \
             interval that has the median with 95 % (all rounds, if there are fewer than six). A \
             ratio is taken within each round first.",
            results.rounds, results.seconds
        ),
        "TCP_RR and UDP_RR: one byte there and one back. CRR: connect, one byte there and back, \
         close. On one CPU, client and server share it, so that a rate is what a transaction costs; \
         what contenders run beside them (docker-proxy) has all CPUs. On all CPUs, latency is as \
         users have it."
            .to_owned(),
    ]
}
