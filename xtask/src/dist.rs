//! `cargo xtask dist`: what users install, in `target/dist`: the binary, with
//! the eBPF programs inside, and a Debian package of it with units, the
//! configuration, man pages, shell completions and licences.

mod check;
mod licences;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    build::{self, Profile},
    setup, shell,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make and check all but the release build and the package
    #[arg(long)]
    check: bool,
}

const CARGO_DEB: &str = "3.8.0";

pub(crate) fn main(args: &Args) -> Result<()> {
    setup::ensure()?;
    check()?;
    if args.check {
        return Ok(());
    }
    let folder = folder();
    let binary = folder.join("netd");
    let built = build::netd(Profile::Release)?;
    fs::copy(&built, &binary).with_context(|| format!("failed to copy {}", built.display()))?;
    let package = package()?;
    check::package(&package)?;
    shell::heading(format_args!("Made {} and {}", binary.display(), package.display()));
    Ok(())
}

/// Makes what the package holds beside the binary, and looks for mistakes in
/// it.
pub(crate) fn check() -> Result<()> {
    let pages = folder().join("pages");
    if pages.exists() {
        fs::remove_dir_all(&pages)
            .with_context(|| format!("failed to empty {}", pages.display()))?;
    }
    // With the packages of the unit tests, which have built it then.
    let mut build = shell::cargo();
    build.args(["build", "--package", "netd", "--package", "netd-common", "--package", "xtask"]);
    shell::run("Building what makes man pages", build.args(["--example", "pages"]))?;
    let program = shell::target_dir().join("debug/examples/pages");
    shell::run("Man pages and completions", Command::new(program).arg(&pages))?;
    shell::heading("Licences of what is linked in");
    licences::write(&folder().join("THIRD-PARTY-LICENCES.txt"))?;
    check::pages(&pages)?;
    check::units()?;
    check::scripts()
}

/// Always here: the package's list of files names it.
fn folder() -> PathBuf {
    shell::root().join("target/dist")
}

fn packaging() -> PathBuf {
    shell::root().join("packaging")
}

fn package() -> Result<PathBuf> {
    let cargo_deb = setup::ensure_cargo_deb(CARGO_DEB)?;
    let path = folder().join("netd.deb");
    let mut command = Command::new(cargo_deb);
    command
        .args(["deb", "--no-build", "--package", "netd", "--output"])
        .arg(&path)
        .current_dir(shell::root());
    shell::run_quietly("Packing", &mut command)?;
    named_by_debian(&path)
}

/// `netd_0.1.0-1_amd64.deb`: name, version and architecture, as dpkg says them.
fn named_by_debian(path: &Path) -> Result<PathBuf> {
    let output = Command::new("dpkg-deb")
        .args(["--show", "--showformat", "${Package}_${Version}_${Architecture}.deb"])
        .arg(path)
        .output()
        .context("failed to start dpkg-deb")?;
    let name = String::from_utf8(output.stdout)?;
    let named = path.with_file_name(name);
    fs::rename(path, &named).with_context(|| format!("failed to rename {}", path.display()))?;
    Ok(named)
}
