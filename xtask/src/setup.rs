//! `cargo xtask setup`: brings onto the machine what building, testing and the
//! demo need. What is there already is left alone, wherever it came from, so a
//! second run does nothing.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    shell,
    toolchain::{self, LINKER_VERSION, LLVM_MAJOR},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_: &Args) -> Result<()> {
    ensure()?;
    shell::heading("All that netd needs is installed");
    Ok(())
}

/// Programs that the build, the tests and the demo run, and Debian's packages
/// of them.
const PROGRAMS: [(&str, &str); 19] = [
    ("c++", "g++"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables-save", "iptables"),
    ("iperf3", "iperf3"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("busybox", "busybox-static"),
    ("ping", "iputils-ping"),
    ("tracepath", "iputils-tracepath"),
    ("traceroute", "traceroute"),
    ("bpftool", "bpftool"),
    ("ps", "procps"),
    ("dockerd", "docker.io"),
    ("containerd", "containerd"),
    ("docker-compose", "docker-compose"),
    ("systemd-analyze", "systemd"),
    ("groff", "groff-base"),
    ("promtool", "prometheus"),
];
/// A compiler with a prebuilt `core` for the eBPF target.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// What bpf-linker is built with.
const LINKER_PACKAGES: [&str; 5] =
    ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// A thing that is not on the machine.
struct Missing {
    what: String,
    packages: Vec<&'static str>,
    /// How to get it where Debian's packages are not to be had.
    elsewhere: String,
}

/// Installs what is missing; returns at once if nothing is.
pub(crate) fn ensure() -> Result<()> {
    install(&missing())?;
    if toolchain::find_linker(shell::root()).is_none() {
        install_linker()?;
    }
    toolchain::find(shell::root())?;
    Ok(())
}

/// Installs what is missing on Debian; elsewhere says what to do.
fn install(missing: &[Missing]) -> Result<()> {
    let packages: Vec<_> =
        missing.iter().flat_map(|thing| thing.packages.iter().copied()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if shell::which("apt-get").is_none() {
        bail!("{}", advice(missing));
    }
    install_packages(&packages, missing)
}

fn missing() -> Vec<Missing> {
    let mut missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| shell::which(program).is_none())
        .map(|(program, package)| Missing {
            what: format!("the program `{program}`"),
            packages: vec![package],
            elsewhere: format!("install your distribution's counterpart of Debian's `{package}`"),
        })
        .collect();
    if toolchain::find_compiler().is_none() {
        missing.push(Missing {
            what: format!("a rustc with `core` for {}", toolchain::TARGET),
            packages: COMPILER_PACKAGES.to_vec(),
            elsewhere: format!(
                "`rustup toolchain install nightly --component rust-src` (one with LLVM {LLVM_MAJOR} or older)"
            ),
        });
    }
    if toolchain::find_linker(shell::root()).is_none() && shell::which(&llvm_config()).is_none() {
        let (major, minor, patch) = LINKER_VERSION;
        missing.push(Missing {
            what: format!("bpf-linker {major}.{minor}, or LLVM {LLVM_MAJOR} to build it with"),
            packages: LINKER_PACKAGES.to_vec(),
            elsewhere: format!("put bpf-linker {major}.{minor}.{patch} or newer into PATH"),
        });
    }
    missing
}

fn advice(missing: &[Missing]) -> String {
    let mut text = "there is no apt-get here to install what is missing:".to_owned();
    for Missing { what, elsewhere, .. } in missing {
        let _ = write!(text, "\n  {what}: {elsewhere}");
    }
    text
}

fn install_packages(packages: &[&str], missing: &[Missing]) -> Result<()> {
    let whats: Vec<_> = missing.iter().map(|thing| thing.what.as_str()).collect();
    shell::heading(format_args!("Missing: {}", whats.join(", ")));
    if !shell::is_root() && shell::which("sudo").is_none() {
        bail!(
            "installing packages needs root, and there is no sudo; run this as root:\n  apt-get update && apt-get install {}",
            packages.join(" ")
        );
    }
    if !shell::is_root() {
        // Asks for the password now, not in the middle of a step whose output is in a log.
        shell::run("Becoming root to install packages", Command::new("sudo").arg("--validate"))?;
    }
    // The machine's lists of packages may be there and good: then no update.
    let title = format!("Installing {}", packages.join(" "));
    if apt_knows(packages) && shell::run_quietly(&title, &mut apt_install(packages)?).is_ok() {
        return Ok(());
    }
    shell::run_quietly("Updating the lists of packages", apt("update")?.arg("--quiet"))?;
    shell::run_quietly(&title, &mut apt_install(packages)?)
        .map_err(|error| error.context(advice_for_debian(missing)))
}

fn advice_for_debian(missing: &[Missing]) -> String {
    let mut text = "could not install Debian's packages; install these yourself:".to_owned();
    for Missing { what, packages, elsewhere } in missing {
        let _ = write!(text, "\n  {what}: packages {}, or {elsewhere}", packages.join(" "));
    }
    text.push('\n');
    text
}

fn apt_knows(packages: &[&str]) -> bool {
    Command::new("apt-cache")
        .arg("show")
        .args(packages)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn apt(subcommand: &str) -> Result<Command> {
    let mut command = shell::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", subcommand]);
    Ok(command)
}

fn apt_install(packages: &[&str]) -> Result<Command> {
    let mut command = apt("install")?;
    command.args(["--yes", "--quiet", "--no-install-recommends"]).args(packages);
    Ok(command)
}

fn llvm_config() -> String {
    format!("llvm-config-{LLVM_MAJOR}")
}

fn install_linker() -> Result<()> {
    let (major, minor, patch) = LINKER_VERSION;
    let prefix = Command::new(llvm_config()).arg("--prefix").output()?;
    let prefix = String::from_utf8(prefix.stdout)?;
    let prefix = prefix.trim();
    let mut command = install_tool("bpf-linker", &format!("{major}.{minor}.{patch}"));
    command
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM_MAJOR}")])
        .env("LLVM_PREFIX", prefix)
        .env(format!("LLVM_SYS_{LLVM_MAJOR}1_PREFIX"), prefix);
    shell::run_quietly("Building bpf-linker (about a minute)", &mut command)
}

/// Installs cargo-machete into the workspace's own folder. Unoptimised: it
/// runs for a moment, and compiling it is what takes time.
pub(crate) fn ensure_machete(version: &str) -> Result<PathBuf> {
    let path = toolchain::tools(shell::root()).join("bin/cargo-machete");
    if !is_version(&path, version) {
        let mut command = install_tool("cargo-machete", version);
        shell::run_quietly("Building cargo-machete (about a minute)", command.arg("--debug"))?;
    }
    Ok(path)
}

/// Installs cargo-deb into the workspace's own folder, unoptimised: it packs
/// one program.
pub(crate) fn ensure_cargo_deb(version: &str) -> Result<PathBuf> {
    let path = toolchain::tools(shell::root()).join("bin/cargo-deb");
    if !is_version(&path, version) {
        let mut command = install_tool("cargo-deb", version);
        shell::run_quietly("Building cargo-deb (about two minutes)", command.arg("--debug"))?;
    }
    Ok(path)
}

/// Installs typos into the workspace's own folder, from the wheel that its
/// authors publish: compiling its dictionaries takes many minutes.
pub(crate) fn ensure_typos(version: &str) -> Result<PathBuf> {
    let folder = toolchain::tools(shell::root()).join("python");
    let path = folder.join("bin/typos");
    if !is_version(&path, version) {
        if !Command::new("python3")
            .args(["-m", "pip", "--version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            install(&[Missing {
                what: "pip for python3".to_owned(),
                packages: vec!["python3-pip"],
                elsewhere: format!("install pip, or put typos {version} at {}", path.display()),
            }])?;
        }
        let mut command = Command::new("python3");
        command
            .args(["-m", "pip", "install", "--no-deps", "--upgrade", "--target"])
            .arg(&folder)
            .arg(format!("typos=={version}"));
        shell::run_quietly("Installing typos", &mut command)?;
    }
    Ok(path)
}

/// Installs one of Debian's packages, for a file of it that a contender in the
/// benchmark needs.
pub(crate) fn ensure_file(file: &str, package: &'static str) -> Result<()> {
    if Path::new(file).is_file() {
        return Ok(());
    }
    install(&[Missing {
        what: file.to_owned(),
        packages: vec![package],
        elsewhere: format!("install what your distribution has of Debian's `{package}`"),
    }])?;
    if !Path::new(file).is_file() {
        bail!("Debian's `{package}` has no {file}");
    }
    Ok(())
}

/// Builds a contender in the benchmark from its published source, into the
/// workspace's own folder.
pub(crate) fn install_contender(name: &str, version: &str) -> Result<()> {
    let mut command = install_tool(name, version);
    shell::run_quietly(&format!("Building {name} (some minutes)"), &mut command)
}

fn is_version(program: &Path, version: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version))
}

fn install_tool(name: &str, version: &str) -> Command {
    let mut command = shell::cargo();
    command
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(toolchain::tools(shell::root()))
        // Flags for the workspace are not for the tools.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    command
}
