//! What is on the host and on the machine, to be compared before and after.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Result, ensure};

use super::scenery::{HOSTS, Host, SCRATCH, Scenery, files_below, ip, mounts, scratch};

/// Things that exist, each in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State(BTreeSet<String>);

impl State {
    /// What there is on the host that netd could have left behind or changed.
    pub(crate) fn of_host(scenery: &Scenery) -> Result<Self> {
        let mut state = Self::default();
        for line in scenery.capture(Host::Host, "ip -oneline link show")?.lines() {
            // The name; its index and flags differ from run to run.
            let name = line.split(": ").nth(1).unwrap_or(line);
            state.add("link", name);
        }
        // IPv6 adds link-local routes by itself, some time after a link came up.
        let routes = scenery.capture(Host::Host, "ip route show table all")?;
        for line in routes.lines().filter(|line| !line.contains("fe80:")) {
            state.add("route", line.trim());
        }
        for folder in ["root/run/netns", "root/bpf"] {
            for path in files_below(&scratch(folder)) {
                state.add("file", path.display());
            }
        }
        Ok(state)
    }

    fn add(&mut self, kind: &str, name: impl std::fmt::Display) {
        self.0.insert(format!("{kind} {name}"));
    }

    /// What the machine has outside the demo's hosts, as far as the demo could
    /// have put it there.
    pub(crate) fn of_machine() -> Result<Self> {
        let mut state = Self::default();
        for line in ip(&["-oneline", "link", "show"])?.lines() {
            state.add("link", line.split(": ").nth(1).unwrap_or(line));
        }
        for host in HOSTS.map(Host::namespace) {
            if Path::new("/run/netns").join(host).exists() {
                state.add("namespace", host);
            }
        }
        for mount in mounts()? {
            state.add("mount", mount.display());
        }
        for path in files_below(Path::new("/sys/fs/bpf/netd")) {
            state.add("pin", path.display());
        }
        if Path::new(SCRATCH).exists() {
            state.add("folder", SCRATCH);
        }
        for program in ["nft list ruleset", "iptables-save", "ip6tables-save"] {
            let mut words = program.split(' ');
            let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
            state.add(program, without_time(&String::from_utf8_lossy(&output.stdout)));
        }
        Ok(state)
    }

    /// An error that names each thing that is not in both.
    pub(crate) fn ensure_equal(&self, now: &Self) -> Result<()> {
        let left = now.0.difference(&self.0).map(|thing| format!("\n  left behind: {thing}"));
        let lost = self.0.difference(&now.0).map(|thing| format!("\n  lost: {thing}"));
        let differences: String = left.chain(lost).collect();
        ensure!(differences.is_empty(), "this is not as it was before:{differences}");
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The rule sets of the host, as the kernel's own tools print them.
pub(crate) fn rule_sets(scenery: &Scenery) -> Result<[String; 3]> {
    let sets = ["nft list ruleset", "iptables-save", "ip6tables-save"]
        .map(|line| scenery.capture(Host::Host, line));
    let [nft, iptables, ip6tables] = sets;
    Ok([nft?, without_time(&iptables?), without_time(&ip6tables?)])
}

/// `iptables-save` says in comments when it ran.
fn without_time(rules: &str) -> String {
    rules
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}
