//! `cargo xtask lint`: formatting, lints, the length of files, spelling, and
//! the dependencies. Warnings are errors.
//!
//! cargo-deny is not run: it takes several minutes to compile on two cores,
//! and its advisories need a database from the network. `deny.toml` is kept
//! for those who have it (`cargo deny check`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{setup, shell, toolchain};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Over this, a file must say why it is long.
const MAX_LINES: usize = 500;
/// How a file says so, in its module comment.
const REASON: &str = "Long because";

/// The release of typos, as its wheel counts it.
const TYPOS: &str = "1.42.3";
const MACHETE: &str = "0.9.2";

pub(crate) fn main(_: &Args) -> Result<()> {
    setup::ensure()?;
    shell::run("Formatting", shell::cargo().args(["fmt", "--all", "--check"]))?;
    check_lengths()?;

    let typos = setup::ensure_typos(TYPOS)?;
    shell::run("Spelling", Command::new(typos).current_dir(shell::root()))?;
    let machete = setup::ensure_machete(MACHETE)?;
    shell::run("Unused dependencies", Command::new(machete).current_dir(shell::root()))?;

    let mut clippy = shell::cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--exclude",
        "netd-ebpf",
        "--all-targets",
        "--",
        "-Dwarnings",
    ]);
    shell::run("Clippy", &mut clippy)?;
    shell::run("Clippy on what fuzzers use", &mut clippy_fuzzed())?;
    shell::run("Clippy on the eBPF crate", &mut clippy_ebpf())?;
    shell::run("Warnings of the eBPF crate's own compiler", &mut check_ebpf()?)?;
    shell::heading("No complaints");
    Ok(())
}

/// What only a fuzzer compiles of netd, and lacks what only tests have.
fn clippy_fuzzed() -> Command {
    let mut command = shell::cargo();
    command
        .args(["clippy", "--package", "netd", "--package", "netd-common", "--target-dir"])
        .arg(shell::target_dir().join("lint"))
        .args(["--", "-Dwarnings"])
        .env("RUSTFLAGS", "--cfg=fuzzing");
    command
}

/// Clippy with the host's rules: the compiler that has the eBPF target has no
/// Clippy, and aya-ebpf type-checks on the host, where it only has to be told
/// that nothing unwinds. `--target` keeps that flag from build scripts.
fn clippy_ebpf() -> Command {
    let mut command = shell::cargo();
    command
        .args(["clippy", "--package", "netd-ebpf", "--target", shell::host()])
        .args(["--target-dir"])
        .arg(shell::target_dir().join("lint"))
        .args(["--", "-Dwarnings"])
        .env("RUSTFLAGS", "-Cpanic=abort");
    command
}

/// The warnings of code that only the eBPF target has.
fn check_ebpf() -> Result<Command> {
    let toolchain = toolchain::find(shell::root())?;
    let mut command = toolchain.cargo("rustc", shell::root(), &shell::target_dir().join("lint"));
    command.args(["--", "-Dwarnings"]);
    Ok(command)
}

fn check_lengths() -> Result<()> {
    shell::heading(format_args!("Files over {MAX_LINES} lines say why"));
    let mut files = Vec::new();
    for crate_dir in ["netd", "netd-common", "netd-ebpf", "tests", "xtask"] {
        find_sources(&shell::root().join(crate_dir), &mut files)?;
    }
    let mut unexplained = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        let lines = text.lines().count();
        if lines > MAX_LINES && !explains_length(&text) {
            unexplained.push(format!("{} has {lines} lines", file.display()));
        }
    }
    if !unexplained.is_empty() {
        bail!("{}; split it, or say `//! {REASON} …` in its head", unexplained.join(", "));
    }
    Ok(())
}

fn explains_length(source: &str) -> bool {
    source.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(REASON))
}

fn find_sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::explains_length;

    #[test]
    fn a_reason_counts_in_the_module_comment_only() {
        assert!(explains_length("//! Routes.\n//! Long because the table is one.\n\nuse x;\n"));
        assert!(!explains_length("//! Routes.\n\n// Long because\nfn f() {}\n"));
    }
}
