//! What the kernel must have.

use super::{Check, Host, Status};

/// Kernel releases, as (major, minor).
/// `bpf_loop` is from 5.17 (kernel commit e6f2dd0f8067), the youngest of the
/// helpers without which nothing works.
const NEEDED: (u32, u32) = (5, 17);
const TCX: (u32, u32) = (6, 6);
/// BPF memory is charged to the cgroup from here on, not to the locked memory.
const MEMCG: (u32, u32) = (5, 11);

pub(super) fn version(host: &Host) -> Check {
    let release = host.proc("sys/kernel/osrelease").unwrap_or_default();
    let check = |status, text: &str| Check::new("kernel", status, format!("{release}: {text}"));
    match parse(&release) {
        Some(version) if version >= TCX => check(Status::Ok, "programs attach by TCX links"),
        Some(version) if version >= NEEDED => {
            check(Status::Note, "no TCX before 6.6, programs attach by clsact filters")
        }
        Some(_) => check(Status::Problem, "too old").action("run Linux 5.17 or newer"),
        None => Check::new("kernel", Status::Warning, "its release is not readable"),
    }
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn btf(host: &Host) -> Check {
    if host.sys_exists("kernel/btf/vmlinux") {
        Check::new("btf", Status::Ok, "/sys/kernel/btf/vmlinux")
    } else {
        Check::new("btf", Status::Warning, "the kernel has no BTF")
            .action("run a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels are")
    }
}

pub(super) fn bpffs(host: &Host) -> Check {
    let mounts = host.mounts("bpf");
    let known = host
        .proc("filesystems")
        .is_some_and(|text| text.lines().any(|line| line.ends_with("\tbpf")));
    match mounts.first() {
        Some(point) => Check::new("bpffs", Status::Ok, format!("mounted on {point}")),
        None if known => Check::new("bpffs", Status::Warning, "not mounted")
            .action("mount -t bpf bpf /sys/fs/bpf"),
        None => Check::new("bpffs", Status::Problem, "the kernel has no bpf file system")
            .action("run a kernel with CONFIG_BPF_SYSCALL=y"),
    }
}

pub(super) fn cgroup(host: &Host) -> Check {
    let check = |status, found: &str| Check::new("cgroup v2", status, found);
    match host.mounts("cgroup2").first() {
        Some(point) => check(Status::Ok, &format!("mounted on {point}")),
        None => check(Status::Note, "not mounted: the agent mounts it under its run directory"),
    }
}

pub(super) fn memlock(host: &Host) -> Check {
    let name = "locked memory";
    let release = host.proc("sys/kernel/osrelease").unwrap_or_default();
    if parse(&release).is_some_and(|version| version >= MEMCG) {
        return Check::new(name, Status::Ok, "not what limits BPF maps since Linux 5.11");
    }
    let limits = host.proc("self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|line| line.split_ascii_whitespace().next())
        .unwrap_or("unknown");
    if soft == "unlimited" {
        Check::new(name, Status::Ok, soft)
    } else {
        Check::new(name, Status::Warning, format!("limited to {soft} bytes"))
            .action("start the agent with `ulimit -l unlimited`, or LimitMEMLOCK=infinity")
    }
}
