//! Runs the programs that a command is made of, and shows what it is doing.
//! Knows no command.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    fs::{self, File},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How many lines of a failed step's output are shown.
const SHOWN_LINES: usize = 40;

/// How much of a step's title its log's name takes, in bytes: a title may be
/// longer than a file's name, of which Linux allows 255.
const MAX_LOG_NAME: usize = 100;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir)
}

/// cargo, run in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    // Relative to where cargo runs, which is the root.
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()))
}

/// The target of the host, as rustc calls it.
pub(crate) fn host() -> &'static str {
    env!("XTASK_HOST")
}

/// Finds a program in `PATH`, or where Debian keeps those of root: they are
/// not in an ordinary user's `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

pub(crate) fn is_root() -> bool {
    // The owner of a process's folder is its effective user.
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

/// A command that runs as root: itself, or through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = which("sudo") else {
        bail!("this needs root: run it as root, or install sudo");
    };
    let mut command = Command::new(sudo);
    command.arg("--preserve-env").arg("--").arg(program);
    Ok(command)
}

/// Prints what comes next.
pub(crate) fn heading(title: impl Display) {
    if std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
        eprintln!("\x1b[1;32m==>\x1b[0m \x1b[1m{title}\x1b[0m");
    } else {
        eprintln!("==> {title}");
    }
}

/// Runs a command that shows its own progress.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    heading(title);
    let status = command.status().with_context(|| format!("failed to start {}", line(command)))?;
    ensure_success(title, status)
}

/// Runs a command quietly: shows the seconds that go by, and its last lines if
/// it fails. All of its output is kept in a log, which is named then.
pub(crate) fn run_quietly(title: &str, command: &mut Command) -> Result<()> {
    heading(title);
    let folder = target_dir().join("xtask");
    fs::create_dir_all(&folder)?;
    let path = folder.join(log_name(title));
    let log =
        File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start {}", line(command)))?;
    let status = wait_with_clock(&mut child)?;
    if !status.success() {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            eprintln!("    {line}");
        }
        eprintln!("    (all of it: {})", path.display());
    }
    ensure_success(title, status)
}

/// The name of the log of the step `title`.
fn log_name(title: &str) -> String {
    let name: String = title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(MAX_LOG_NAME)
        .collect();
    format!("{name}.log")
}

/// Waits for a child; says every so often how long that has taken.
fn wait_with_clock(child: &mut Child) -> Result<ExitStatus> {
    let terminal = std::io::stderr().is_terminal();
    let interval = Duration::from_secs(if terminal { 1 } else { 15 });
    let start = Instant::now();
    let mut next = interval;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= next {
            next += interval;
            let seconds = start.elapsed().as_secs();
            if terminal {
                eprint!("\r    {seconds} s ");
                std::io::stderr().flush()?;
            } else {
                eprintln!("    {seconds} s");
            }
        }
        thread::sleep(Duration::from_millis(50));
    };
    if terminal {
        eprint!("\r");
    }
    eprintln!("    took {:.1} s", start.elapsed().as_secs_f32());
    Ok(status)
}

fn ensure_success(title: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} failed ({status})", title.to_lowercase());
    }
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_named_by_its_step() {
        assert_eq!(
            log_name("Building bpf-linker (about a minute)"),
            "building-bpf-linker--about-a-minute-.log"
        );
    }

    #[test]
    fn a_long_title_is_a_name_that_a_file_can_have() {
        assert_eq!(log_name(&"Installing é ".repeat(50)).len(), MAX_LOG_NAME + ".log".len());
    }
}
