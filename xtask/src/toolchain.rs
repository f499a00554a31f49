//! Owns the knowledge of what the eBPF crate is compiled and linked with.
//!
//! netd's build script includes this file by its path, so that there is one
//! place for it: it must use nothing but `std` and `anyhow`, and must not know
//! how the tools come onto the machine (`setup` does).

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

/// The target of the eBPF crate.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// The bpf-linker that `setup` installs, and the oldest one accepted.
pub(crate) const LINKER_VERSION: (u32, u32, u32) = (0, 13, 0);
/// The LLVM that this bpf-linker is built with. It reads bitcode of this
/// version and older ones, so the compiler's must not be newer.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// Where Debian's package `rustc-web` puts its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Variables that the outer cargo, rustup or clippy sets for the host's build
/// and that must not reach the build for the eBPF target. `CARGO_HOME`,
/// registries and proxies are meant to reach it.
const FOREIGN_VARIABLES: [&str; 9] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];
const FOREIGN_PREFIXES: [&str; 10] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "RUSTC_",
    "RUSTDOC",
];

/// A compiler that has `core` for [`TARGET`], or can build it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// A rustc with a prebuilt `core`. A stable one, as Debian's is, must be
    /// told to accept the unstable features that the target needs.
    Prebuilt { rustc: PathBuf },
    /// rustup's nightly with `rust-src`, which builds `core` itself.
    Nightly,
}

/// All that is needed to build the eBPF crate.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// Finds the toolchain for the workspace at `root`; the error names what is
/// missing and how to get it.
pub(crate) fn find(root: &Path) -> Result<Toolchain> {
    match (find_compiler(), find_linker(root)) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => {
            let mut missing = Vec::new();
            if compiler.is_none() {
                missing.push(format!("a rustc with `core` for {TARGET}"));
            }
            if linker.is_none() {
                let (major, minor, _) = LINKER_VERSION;
                missing.push(format!("bpf-linker {major}.{minor} or newer"));
            }
            bail!(
                "the eBPF toolchain is incomplete: {} not found; run `cargo xtask setup`",
                missing.join(" and ")
            )
        }
    }
}

/// Finds a compiler, one with a prebuilt `core` first: it needs no nightly.
pub(crate) fn find_compiler() -> Option<Compiler> {
    [DEBIAN_RUSTC, "rustc"]
        .into_iter()
        .map(PathBuf::from)
        .find(|rustc| has_prebuilt_core(rustc) && has_linkable_llvm(Command::new(rustc)))
        .map(|rustc| Compiler::Prebuilt { rustc })
        .or_else(|| {
            (has_nightly_source() && has_linkable_llvm(nightly("rustc")))
                .then_some(Compiler::Nightly)
        })
}

/// Finds bpf-linker: the workspace's own first, then one in `PATH` if it is
/// new enough.
pub(crate) fn find_linker(root: &Path) -> Option<PathBuf> {
    let in_path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(tools(root).join("bin"))
        .chain(env::split_paths(&in_path))
        .map(|folder| folder.join("bpf-linker"))
        .filter(|linker| linker.is_file())
        .find(|linker| linker_version(linker).is_some_and(|version| version >= LINKER_VERSION))
}

/// The workspace's own tools, as `cargo install --root` lays them out.
pub(crate) fn tools(root: &Path) -> PathBuf {
    root.join(".tools")
}

impl Toolchain {
    /// The command that runs cargo's `subcommand` on the eBPF crate, for the
    /// workspace at `root`, with its output under `target_dir`.
    pub(crate) fn cargo(&self, subcommand: &str, root: &Path, target_dir: &Path) -> Command {
        let mut command = match &self.compiler {
            Compiler::Prebuilt { rustc } => {
                // The outer cargo does: only the compiler is another one.
                let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
                clear_foreign_variables(&mut command);
                command.env("RUSTC", rustc);
                command
            }
            Compiler::Nightly => {
                let mut command = nightly("cargo");
                clear_foreign_variables(&mut command);
                command
            }
        };
        command
            .arg(subcommand)
            .args(["--release", "--package", "netd-ebpf", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir)
            .current_dir(root)
            .env("RUSTC_BOOTSTRAP", "1")
            // Separated by 0x1f: the linker's path may hold spaces.
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                [
                    "-Cdebuginfo=2".to_owned(),
                    "-Clink-arg=--btf".to_owned(),
                    // With it, what is zeroed is zeroed by a loop over its bytes.
                    "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
                    format!("-Clinker={}", self.linker.display()),
                ]
                .join("\x1f"),
            );
        if self.compiler == Compiler::Nightly {
            command.arg("-Zbuild-std=core");
        }
        command
    }
}

fn nightly(tool: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", tool]);
    command
}

fn clear_foreign_variables(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if FOREIGN_VARIABLES.contains(&text)
            || FOREIGN_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}

fn has_prebuilt_core(rustc: &Path) -> bool {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]);
    let Some(folder) = stdout(&mut command) else {
        return false;
    };
    let Ok(entries) = Path::new(folder.trim()).read_dir() else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

fn has_nightly_source() -> bool {
    let mut command = nightly("rustc");
    command.args(["--print", "sysroot"]);
    stdout(&mut command).is_some_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn has_linkable_llvm(mut rustc: Command) -> bool {
    stdout(rustc.arg("-vV"))
        .as_deref()
        .and_then(llvm_major)
        .is_some_and(|major| major <= LLVM_MAJOR)
}

/// The LLVM of `rustc -vV`'s output.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

fn linker_version(linker: &Path) -> Option<(u32, u32, u32)> {
    parse_version(&stdout(Command::new(linker).arg("--version"))?)
}

/// Reads `NAME MAJOR.MINOR.PATCH`, as every cargo-built tool prints it.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The output of a command that succeeded.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.stderr(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{llvm_major, parse_version};

    #[test]
    fn versions_are_read_as_the_tools_print_them() {
        assert_eq!(parse_version("bpf-linker 0.13.0\n"), Some((0, 13, 0)));
        assert_eq!(parse_version("bpf-linker 0.14.1-dev"), Some((0, 14, 1)));
        assert_eq!(parse_version("bpf-linker"), None);
        assert_eq!(llvm_major("rustc 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
