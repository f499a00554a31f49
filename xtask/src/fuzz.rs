//! `cargo xtask fuzz`: the pipeline and the parsers under libFuzzer, each from
//! the corpus that is in the repository, and back into it.
//!
//! A corpus is one file, `fuzz/corpus/TARGET.bin`: inputs one after the other,
//! each behind its length (four bytes, big-endian). `cargo test` plays all of
//! them. `fuzz/dictionaries/TARGET.dict`, if it is there, has words to try.

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
/// Targets, and bytes of their longest inputs.
const TARGETS: [(&str, u32); 6] = [
    ("pipeline", 1024),
    ("api", 2048),
    ("plugin", 2048),
    ("config", 512),
    ("ports", 128),
    ("subnets", 256),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to try each target
    #[arg(long, default_value_t = 600)]
    seconds: u32,

    /// What to try [default: all, one after the other]
    #[arg(value_parser = TARGETS.map(|(name, _)| name))]
    targets: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let work = shell::target_dir().join("fuzz");
    let binaries = build(&work)?;
    TARGETS
        .into_iter()
        .filter(|(name, _)| args.targets.is_empty() || args.targets.iter().any(|it| it == name))
        .try_for_each(|(name, longest)| fuzz(&binaries, &work, name, longest, args.seconds))
}

fn fuzz(binaries: &Path, work: &Path, name: &str, longest: u32, seconds: u32) -> Result<()> {
    let target = binaries.join(name);
    let packed = shell::root().join(format!("fuzz/corpus/{name}.bin"));
    let words = shell::root().join(format!("fuzz/dictionaries/{name}.dict"));
    let work = work.join(name);
    let (tried, kept) = (work.join("corpus"), work.join("kept"));
    for folder in [&tried, &kept] {
        fs::create_dir_all(folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
    }
    unpack(&packed, &tried)?;

    let mut run = std::process::Command::new("nice");
    run.args(["-n", "19"])
        .arg(&target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={longest}"))
        .arg(format!("-artifact_prefix={}/", work.display()))
        .args(["-print_final_stats=1", "-timeout=20"]);
    if words.exists() {
        run.arg(format!("-dict={}", words.display()));
    }
    shell::run(&format!("Fuzzing `{name}` for {seconds} s"), run.arg(&tried))?;

    // What was kept before is among the inputs that were tried.
    fs::remove_dir_all(&kept)
        .and_then(|()| fs::create_dir(&kept))
        .with_context(|| format!("failed to empty {}", kept.display()))?;
    let mut merge = std::process::Command::new(&target);
    merge.arg("-merge=1").arg(format!("-max_len={longest}")).arg(&kept).arg(&tried);
    shell::run("Keeping the inputs that each show something new", &mut merge)?;
    pack(&kept, &packed)
}

/// Builds the targets into `work`; returns where they are.
fn build(work: &Path) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        // So that build scripts are not looked into.
        .args(["--target", shell::host(), "--target-dir"])
        .arg(work)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    shell::run("Building the fuzz targets", &mut command)?;
    Ok(work.join(shell::host()).join("release"))
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
