//! Looks for mistakes in what is to be packaged, with the programs that will
//! read it: groff, shells, systemd, dpkg.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::packaging;
use crate::shell;

/// How far the units' sandboxes leave the host exposed, in tenths, by
/// `systemd-analyze security`: no more than now.
const EXPOSURE: [(&str, u32); 2] = [("netd.service", 51), ("netd-docker.service", 9)];

/// The man pages, by groff; the completions, by their shells.
pub(super) fn pages(folder: &Path) -> Result<()> {
    let mut pages = files(&folder.join("man"))?;
    ensure!(pages.len() > 10, "there are only {} man pages", pages.len());
    pages.sort();
    let mut groff = Command::new("groff");
    groff.args(["-Kutf8", "-man", "-ww", "-Wbreak", "-z", "-Tutf8"]).args(&pages);
    silent("Man pages for groff", &mut groff)?;
    for (shell, file) in [("bash", "netd.bash"), ("zsh", "_netd"), ("fish", "netd.fish")] {
        let file = folder.join("completions").join(file);
        ensure!(file.is_file(), "there are no completions at {}", file.display());
        // Of the others' correctness their generator's tests must do.
        if shell::which(shell).is_some() {
            silent(&format!("Completions for {shell}"), Command::new(shell).arg("-n").arg(file))?;
        }
    }
    Ok(())
}

/// The units, by systemd: it says what it does not understand, and how much
/// their sandboxes leave open.
pub(super) fn units() -> Result<()> {
    // It looks for the programs that they start.
    let folder = shell::target_dir().join("xtask/units");
    fs::create_dir_all(&folder)?;
    let mut units = Vec::new();
    for unit in files(&packaging().join("systemd"))? {
        let text = fs::read_to_string(&unit)?.replace("/usr/bin/netd", "/bin/true");
        let copy = folder.join(unit.file_name().context("units have names")?);
        fs::write(&copy, text)?;
        units.push(copy);
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=yes"]).args(&units);
    silent("Units for systemd", &mut verify)?;
    for (unit, threshold) in EXPOSURE {
        let mut security = Command::new("systemd-analyze");
        security
            .args(["security", "--offline=yes", "--no-pager", "--threshold"])
            .arg(threshold.to_string())
            .arg(folder.join(unit));
        shell::run_quietly(&format!("Sandbox of {unit}"), &mut security)?;
    }
    Ok(())
}

/// The package's scripts, by the shell.
pub(super) fn scripts() -> Result<()> {
    for script in files(&packaging().join("debian"))? {
        let title = format!("Script {}", script.file_name().unwrap_or_default().display());
        silent(&title, Command::new("sh").arg("-n").arg(&script))?;
    }
    Ok(())
}

/// The package: unpacked, its program runs, and its parts are where they belong.
pub(super) fn package(package: &Path) -> Result<()> {
    let root = shell::target_dir().join("xtask/package");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package).arg(&root);
    silent("Unpacking the package", &mut unpack)?;
    for file in [
        "etc/netd/netd.json",
        "usr/bin/netd",
        "usr/lib/systemd/system/netd-docker.service",
        "usr/lib/systemd/system/netd-docker.socket",
        "usr/lib/systemd/system/netd.service",
        "usr/lib/systemd/system/netd.socket",
        "usr/share/bash-completion/completions/netd",
        "usr/share/doc/netd/THIRD-PARTY-LICENCES.txt",
        "usr/share/doc/netd/copyright",
        "usr/share/fish/vendor_completions.d/netd.fish",
        "usr/share/man/man1/netd-network-create.1.gz",
        "usr/share/man/man1/netd.1.gz",
        "usr/share/man/man5/netd.json.5.gz",
        "usr/share/zsh/vendor-completions/_netd",
    ] {
        ensure!(root.join(file).is_file(), "the package lacks {file}");
    }
    shell::run("The packaged program", Command::new(root.join("usr/bin/netd")).arg("--version"))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

/// Runs a program that says something only where something is wrong, though
/// it may exit with 0 all the same.
fn silent(title: &str, command: &mut Command) -> Result<()> {
    shell::heading(title);
    let output =
        command.output().with_context(|| format!("failed to start {}", shell::line(command)))?;
    if output.status.success() && output.stdout.is_empty() && output.stderr.is_empty() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    bail!("{} failed ({})", title.to_lowercase(), output.status)
}
