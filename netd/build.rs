//! Builds the eBPF crate and lays its object where `datapath` embeds it:
//! `include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netd-ebpf.o"))`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

/// What the object is made of, relative to the workspace.
const SOURCES: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "netd-common/Cargo.toml",
    "netd-common/src",
    "netd-ebpf/Cargo.toml",
    "netd-ebpf/src",
    "xtask/src/toolchain.rs",
];

fn main() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo runs this")?);
    let root = manifest_dir.parent().context("the crate is in the workspace's root")?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo runs this")?);

    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }

    let toolchain = toolchain::find(root)?;
    println!("cargo::rerun-if-changed={}", toolchain.linker.display());

    build(&toolchain, root, &out_dir)
}

fn build(toolchain: &toolchain::Toolchain, root: &Path, out_dir: &Path) -> Result<()> {
    let target_dir = out_dir.join("ebpf-target");
    let status = toolchain
        .cargo("build", root, &target_dir)
        .status()
        .context("failed to start cargo for netd-ebpf")?;
    ensure!(status.success(), "failed to build netd-ebpf; its errors are above");

    let object = target_dir.join(toolchain::TARGET).join("release/netd-ebpf");
    let place = out_dir.join("netd-ebpf.o");
    fs::copy(&object, &place)
        .with_context(|| format!("failed to copy {} to {}", object.display(), place.display()))?;
    Ok(())
}
