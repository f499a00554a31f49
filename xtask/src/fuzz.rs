//! `cargo xtask fuzz`: the pipeline under libFuzzer, from the corpus that is in
//! the repository, and back into it.
//!
//! The corpus is one file, `fuzz/corpus.bin`: inputs one after the other, each
//! behind its length (four bytes, big-endian). `cargo test` plays all of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// What libFuzzer wants to know of the code: the branches that it takes, and
/// what it compares.
const COVERAGE: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];
/// Bytes of the longest input.
const LONGEST: u32 = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to try
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let work = shell::target_dir().join("fuzz");
    let target = build(&work)?;
    let packed = shell::root().join("fuzz/corpus.bin");
    let (tried, kept) = (work.join("corpus"), work.join("kept"));
    for folder in [&tried, &kept] {
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
    }
    unpack(&packed, &tried)?;

    let mut run = std::process::Command::new("nice");
    run.args(["-n", "19"])
        .arg(&target)
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", work.display()))
        .arg("-print_final_stats=1")
        .arg(&tried);
    shell::run(&format!("Fuzzing the pipeline for {} s", args.seconds), &mut run)?;

    // What was kept before is among the inputs that were tried.
    fs::remove_dir_all(&kept)
        .and_then(|()| fs::create_dir(&kept))
        .with_context(|| format!("failed to empty {}", kept.display()))?;
    let mut merge = std::process::Command::new(&target);
    merge.arg("-merge=1").arg(&kept).arg(&tried);
    shell::run("Keeping the inputs that each show something new", &mut merge)?;
    pack(&kept, &packed)
}

/// Builds the target into `work`; returns its binary.
fn build(work: &Path) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        // So that build scripts are not looked into.
        .args(["--target", shell::host(), "--target-dir"])
        .arg(work)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    shell::run("Building the fuzz target", &mut command)?;
    Ok(work.join(shell::host()).join("release/pipeline"))
}

fn unpack(packed: &Path, folder: &Path) -> Result<()> {
    if !packed.exists() {
        return Ok(());
    }
    let bytes = fs::read(packed).with_context(|| format!("failed to read {}", packed.display()))?;
    let mut rest = bytes.as_slice();
    let mut number = 0;
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_be_bytes(*len))?;
        ensure!(len <= behind.len(), "{} is cut short", packed.display());
        let (input, behind) = behind.split_at(len);
        let file = folder.join(format!("{number:05}"));
        fs::write(&file, input).with_context(|| format!("failed to write {}", file.display()))?;
        number += 1;
        rest = behind;
    }
    Ok(())
}

fn pack(folder: &Path, packed: &Path) -> Result<()> {
    let mut inputs = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?
    {
        let path = entry?.path();
        inputs.push(fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?);
    }
    inputs.sort();
    let mut bytes = Vec::new();
    for input in &inputs {
        bytes.extend(u32::try_from(input.len())?.to_be_bytes());
        bytes.extend(input);
    }
    fs::write(packed, &bytes).with_context(|| format!("failed to write {}", packed.display()))?;
    shell::heading(format_args!("{} inputs, {} bytes", inputs.len(), bytes.len()));
    Ok(())
}
