//! Programs on the root of the cgroup v2 hierarchy, where every process of the
//! machine is: each is a pinned `bpf_link`, which a later agent takes over
//! without a gap. The programs of others there run beside ours.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr, links::FdLink},
};
use netd_common::abi::names::SOCKET_PROGRAMS;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs},
};

use super::{
    Error,
    bpffs::failed,
    link::{Amiss, Held},
    load::program_of,
};

#[derive(Debug)]
pub(super) struct Cgroup {
    held: Held,
    /// Where netd mounts the hierarchy if nobody has.
    own: PathBuf,
}

impl Cgroup {
    pub(super) fn new(pins: PathBuf, own: PathBuf) -> Self {
        Self { held: Held::new(pins), own }
    }

    /// Attaches all programs, or takes over what an earlier agent attached.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), Error> {
        fs::create_dir_all(self.held.pins()).map_err(failed(self.held.pins()))?;
        let root = self.root()?;
        for name in SOCKET_PROGRAMS {
            if self.held.is_in_place(name) {
                continue;
            }
            let program = loaded(ebpf, name)?;
            attach(program, &mut self.held, &root, name).map_err(|source| Error::Attach {
                program: name,
                link: "the root of the cgroups".to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    /// Puts back what somebody has taken off or unpinned, and says what.
    pub(super) fn mend(&mut self, ebpf: &mut Ebpf) -> Result<Vec<String>, Error> {
        if !self.held.pins().is_dir() {
            fs::create_dir_all(self.held.pins()).map_err(failed(self.held.pins()))?;
        }
        let mut told = Vec::new();
        let mut detached = false;
        for (program, amiss) in self.held.mend()? {
            detached |= amiss == Amiss::Detached;
            told.push(match amiss {
                Amiss::Unpinned => format!("the pin of `{program}`"),
                Amiss::Detached => format!("the program `{program}` on the root of the cgroups"),
            });
        }
        if detached {
            self.attach(ebpf)?;
        }
        Ok(told)
    }

    /// The root of the hierarchy, mounted if need be.
    fn root(&self) -> Result<File, Error> {
        if let Some(root) = mounted()?.iter().find_map(|path| open(path).ok()) {
            return Ok(root);
        }
        fs::create_dir_all(&self.own).map_err(failed(&self.own))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("cgroup2"), &self.own, Some("cgroup2"), flags, None::<&str>)
            .map_err(|source| Error::CgroupMount { path: self.own.clone(), source })?;
        open(&self.own).map_err(failed(&self.own))
    }

    /// Takes netd's programs off, and its mount away.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        for name in SOCKET_PROGRAMS {
            self.held.let_go(name)?;
        }
        gone(fs::remove_dir(self.held.pins())).map_err(failed(self.held.pins()))?;
        // The table has no symbolic links in it.
        let own = fs::canonicalize(&self.own).unwrap_or_else(|_| self.own.clone());
        if mounted()?.contains(&own) {
            umount2(&self.own, MntFlags::MNT_DETACH)
                .map_err(|source| Error::CgroupMount { path: self.own.clone(), source })?;
        }
        gone(fs::remove_dir(&self.own)).map_err(failed(&self.own))
    }
}

/// A program of the kernel's, by its name in [`SOCKET_PROGRAMS`].
pub(super) fn loaded<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, Error> {
    let program: &mut CgroupSockAddr = program_of(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(|source| Error::Program { name, source: Box::new(source) })?;
    }
    Ok(program)
}

fn attach(
    program: &mut CgroupSockAddr,
    held: &mut Held,
    root: &File,
    name: &str,
) -> anyhow::Result<()> {
    if held.take_over(name, program.fd()?.as_fd())? {
        return Ok(());
    }
    // A link lets others in by itself, and before Linux 6.16 takes no flag.
    let id = program.attach(root, CgroupAttachMode::Single)?;
    let attached: FdLink = program.take_link(id)?.try_into()?;
    attached.pin(held.pins().join(name)).context("failed to pin the link")?;
    held.hold(name).context("failed to open the link's pin")
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let root = File::open(path)?;
    // Something else may have been mounted over it.
    match fstatfs(&root)?.filesystem_type() {
        CGROUP2_SUPER_MAGIC => Ok(root),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Where the hierarchy's root is mounted.
fn mounted() -> Result<Vec<PathBuf>, Error> {
    let table = Path::new("/proc/self/mountinfo");
    Ok(roots(&fs::read_to_string(table).map_err(failed(table))?))
}

/// The mount points of whole cgroup v2 hierarchies in a mountinfo table
/// (`proc_pid_mountinfo(5)`): no bind mount of a subtree, nor what one covers.
fn roots(table: &str) -> Vec<PathBuf> {
    let mut mounts = BTreeMap::new();
    for line in table.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let kind = fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 1));
        if let [_, _, _, root, at, ..] = fields[..] {
            mounts.insert(unescaped(at), (kind, root).eq(&(Some(&"cgroup2"), "/")));
        }
    }
    mounts.into_iter().filter_map(|(at, is_root)| is_root.then_some(at)).collect()
}

/// Blanks and the like stand there as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        let byte = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.map_or('\\', char::from));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    path.push_str(rest);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(root: &str, at: &str, kind: &str) -> String {
        format!("41 31 0:38 {root} {at} rw,relatime shared:9 - {kind} none rw\n")
    }

    #[test]
    fn only_a_whole_hierarchy_counts() {
        let table = [
            line("/", "/", "ext4"),
            line("/", "/sys/fs/cgroup", "tmpfs"),
            line("/", "/sys/fs/cgroup/cpu", "cgroup"),
            line("/machine.slice/one", "/jail/cgroup", "cgroup2"),
            line("/", "/sys/fs/cgroup/unified", "cgroup2"),
        ];
        assert_eq!(roots(&table.concat()), [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert!(roots("").is_empty());
    }

    #[test]
    fn what_covers_a_hierarchy_counts_in_its_place() {
        let whole = line("/", "/sys/fs/cgroup", "cgroup2");
        let part = line("/user.slice", "/sys/fs/cgroup", "cgroup2");
        assert!(roots(&format!("{whole}{part}")).is_empty());
        assert_eq!(roots(&format!("{part}{whole}")).len(), 1);
    }

    #[test]
    fn blanks_in_a_path_are_read() {
        let table = line("/", r"/my\040cgroups", "cgroup2");
        assert_eq!(roots(&table), [PathBuf::from("/my cgroups")]);
    }
}
