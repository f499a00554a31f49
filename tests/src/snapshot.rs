//! Everything of netd's that can be seen, as text to compare: the kernel's
//! side (links, addresses, routes, mounts, pins, map entries, processes) and
//! the agent's (networks, containers, ports, leases).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    mem::{offset_of, size_of_val},
    path::{Path, PathBuf},
};

use netd_common::abi::{Config, Endpoint, names};
use nix::net::if_::if_indextoname;
use serde_json::Value;

use crate::{
    Agent,
    dir::mounts_below,
    json::{mask, rows, text},
};

/// Text by section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    #[track_caller]
    pub(crate) fn take(agent: &Agent) -> Self {
        let mut all = Self::take_only(agent, &|_| true);
        all.0.extend(state(agent));
        all
    }

    /// These sections alone, none of networks' or containers' details.
    #[track_caller]
    pub(crate) fn take_of(agent: &Agent, sections: &[&str]) -> Self {
        let mut some = Self::take_only(agent, &|name| sections.contains(&name));
        for list in LISTS.iter().filter(|list| sections.contains(list)) {
            some.0.insert((*list).to_owned(), lines_of_list(agent, list));
        }
        some
    }

    fn take_only(agent: &Agent, wanted: &dyn Fn(&str) -> bool) -> Self {
        let mut sections = BTreeMap::new();
        let mut put = |name: &str, text: &dyn Fn() -> String| {
            if wanted(name) {
                sections.insert(name.to_owned(), text());
            }
        };
        let host = agent.host();
        put("links", &|| links(&host.ip("-d -j link")));
        put("addresses", &|| links(&host.ip("-j addr")));
        put("routes", &|| host.ip("route show table all").replace(" linkdown", ""));
        put("rules", &|| host.ip("rule"));
        put("mounts", &|| paths(&mounts_below(agent.dir().path())));
        put("files", &|| paths(&files_below(&agent.root().join("run"))));
        put("pins", &|| pins(agent));
        put("processes", &|| processes(agent));
        for pin in map_pins(agent.root()) {
            let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
            put(&format!("map {name}"), &|| entries(agent, &name, &pin));
        }
        Self(sections)
    }

    /// These sections alone.
    #[must_use]
    pub fn only(&self, sections: &[&str]) -> Self {
        let wanted = |name: &&String| sections.contains(&name.as_str());
        let names = self.0.keys().filter(wanted);
        Self(names.map(|name| (name.clone(), self.0[name].clone())).collect())
    }

    /// The section of a map, or another.
    pub fn section(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Without the lines that have this in them.
    #[must_use]
    pub fn without(&self, part: &str) -> Self {
        let kept = |text: &String| {
            let lines: Vec<_> = text.lines().filter(|line| !line.contains(part)).collect();
            lines.join("\n")
        };
        Self(self.0.iter().map(|(name, text)| (name.clone(), kept(text))).collect())
    }

    /// Without what traffic makes by itself.
    #[must_use]
    pub fn without_flows(&self) -> Self {
        let mut same = self.clone();
        for map in [names::FLOWS, names::EMBRYONIC] {
            same.0.remove(&format!("map {map}"));
        }
        same
    }

    /// Panics with the lines that differ.
    #[track_caller]
    pub fn assert_same(&self, before: &Self) {
        let names: BTreeSet<_> = before.0.keys().chain(self.0.keys()).collect();
        let mut differences = String::new();
        for name in names {
            let (old, new) = (before.section(name), self.section(name));
            if old != new {
                let _ = write!(differences, "\n== {name}\n{}", difference(old, new));
            }
        }
        assert!(differences.is_empty(), "not as it was before:{differences}");
    }
}

fn difference(old: &str, new: &str) -> String {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (old.lines().collect(), new.lines().collect());
    let gone = before.difference(&after).map(|line| format!("- {line}\n"));
    let come = after.difference(&before).map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

/// What `ip -j` shows of links, one member a line, without what follows from
/// carrier: the kernel tells that later, in its own time.
fn links(shown: &str) -> String {
    let mut shown: Value = serde_json::from_str(shown).expect("ip prints JSON");
    mask(&mut shown, &|key| {
        key.ends_with("_timer")
            || key.starts_with("topology_change")
            // A bridge takes these from its ports, and keeps them.
            || ["gso_", "gro_", "tso_"].iter().any(|kind| key.starts_with(kind))
            || ["operstate", "state", "valid_life_time"].contains(&key)
    });
    let mut lines = String::new();
    for link in rows(&shown) {
        flatten(text(link, "/ifname"), link, &mut lines);
    }
    lines
}

/// `path/to/member = value`, so that a line says whose it is.
fn flatten(path: &str, value: &Value, lines: &mut String) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                flatten(&format!("{path}/{key}"), member, lines);
            }
        }
        Value::Array(items) => {
            for item in items.iter().filter(|item| **item != "LOWER_UP" && **item != "NO-CARRIER") {
                flatten(&format!("{path}[]"), item, lines);
            }
        }
        scalar => {
            let _ = writeln!(lines, "{path} = {scalar}");
        }
    }
}

fn paths(paths: &[PathBuf]) -> String {
    let mut lines: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    lines.sort();
    lines.join("\n")
}

/// Every file and folder below; none where there is no folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let inner = if is_folder { files_below(&entry.path()) } else { Vec::new() };
            [entry.path()].into_iter().chain(inner)
        })
        .collect()
}

/// All that is pinned, but for the programs of the containers that are there:
/// those come a little after them. A link that was made again has another index:
/// pins of links that are there have their names.
fn pins(agent: &Agent) -> String {
    let pins = files_below(&agent.root().join("bpf")).into_iter().filter_map(|pin| {
        let Some((link, program)) = linked(agent, &pin) else { return Some(pin) };
        let comes_late = program.ends_with("_container");
        (!comes_late).then(|| pin.with_file_name(format!("{link}-{program}")))
    });
    let mut pins: Vec<_> = pins.collect();
    pins.sort();
    paths(&pins)
}

/// The link and the program of a pinned `bpf_link`, whose link is there.
fn linked(agent: &Agent, pin: &Path) -> Option<(String, String)> {
    let (index, program) = pin.file_name()?.to_str()?.split_once('-')?;
    let index = index.parse().ok()?;
    let link = agent.host().run(|| if_indextoname(index)).ok()?.into_string().ok()?;
    (!link.is_empty()).then(|| (link, program.to_owned()))
}

/// The pinned maps.
pub fn map_pins(root: &Path) -> Vec<PathBuf> {
    let is_map = |path: &PathBuf| names::MAPS.iter().any(|name| path.ends_with(name));
    files_below(&root.join("bpf")).into_iter().filter(is_map).collect()
}

/// Programs in the test's namespaces, by name.
fn processes(agent: &Agent) -> String {
    let names = agent.dir().processes().into_iter().filter_map(|pid| {
        Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.join("\n")
}

/// A map's entries, one a line, without what changes by itself.
fn entries(agent: &Agent, map: &str, pin: &Path) -> String {
    // Counters, and the programs' own ids: a new agent brings new programs.
    // Events have nothing to show once they are read, and what settles is not
    // long about it.
    let own = [names::STATS, names::SLOW, names::EVENTS, names::EVENT_SLOTS, names::SETTLING];
    if own.contains(&map) {
        return String::new();
    }
    let dump = agent.host().exec(&format!("bpftool -j map dump pinned {}", pin.display()));
    let dump: Value = serde_json::from_str(&dump).expect("bpftool prints JSON");
    let volatile = match map {
        names::ENDPOINTS => offset_of!(Endpoint, last_seen)..size_of::<Endpoint>(),
        names::CONFIG => {
            let start = offset_of!(Config, route_generation);
            start..start + size_of_val(&Config::default().route_generation)
        }
        // Only that there is a flow: its counters and times go on.
        names::FLOWS | names::EMBRYONIC => 0..usize::MAX,
        _ => 0..0,
    };
    let lines = rows(&dump).iter().map(|entry| {
        let value = bytes(&entry["value"]).into_iter().enumerate();
        let value: String =
            value.filter(|(i, _)| !volatile.contains(i)).map(|(_, byte)| byte).collect();
        format!("{} = {value}", bytes(&entry["key"]).concat())
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.join("\n")
}

/// bpftool's `["0x0a", …]` as hex digits; anything else as it stands.
fn bytes(value: &Value) -> Vec<String> {
    let Some(bytes) = value.as_array() else {
        return vec![value.to_string()];
    };
    let digits = |byte: &Value| byte.as_str().map(|byte| byte.trim_start_matches("0x").to_owned());
    bytes.iter().map(|byte| digits(byte).unwrap_or_else(|| byte.to_string())).collect()
}

fn lines_of(list: &Value) -> String {
    let mut lines = String::new();
    for (n, item) in rows(list).iter().enumerate() {
        flatten(&n.to_string(), item, &mut lines);
    }
    lines
}

/// What the agent has stored, as it tells it.
fn state(agent: &Agent) -> Vec<(String, String)> {
    let mut sections = Vec::new();
    for (list, inspect) in [("network ls", "network inspect"), ("ps -a", "inspect")] {
        let listed = agent.json(list);
        for row in rows(&listed) {
            let line = format!("{inspect} {}", text(row, "/Name"));
            sections.push((line.clone(), lines_of(&agent.inspect(&line))));
        }
        sections.push((list.to_owned(), lines_of(&listed)));
    }
    sections.extend(LISTS.map(|list| (list.to_owned(), lines_of_list(agent, list))));
    sections
}

const LISTS: [&str; 2] = ["port ls", "ipam"];

fn lines_of_list(agent: &Agent, list: &str) -> String {
    let mut listed = agent.json(list);
    mask(&mut listed, &|key| key == "LastSeen");
    lines_of(&listed)
}
