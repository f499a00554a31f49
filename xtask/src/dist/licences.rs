//! The licences of the crates that are linked into netd: most of them ask to
//! be handed on with the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell;

/// Names of the files that a crate's licence is in.
const NAMES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// Writes the crates' names, their licences, and each text once.
pub(super) fn write(path: &Path) -> Result<()> {
    let output = shell::cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(shell::host())
        .output()
        .context("failed to start cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let text = notice(&metadata)?;
    let folder = path.parent().context("the file is in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn notice(metadata: &Value) -> Result<String> {
    let linked = linked(metadata)?;
    let mut list = "netd is linked with these crates:\n\n".to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in array(&metadata["packages"]) {
        // The workspace's own have no source.
        if package["source"].is_null() || !linked.contains(string(&package["id"])) {
            continue;
        }
        let name = format!("{} {}", string(&package["name"]), string(&package["version"]));
        let licence = string(&package["license"]);
        ensure!(!licence.is_empty(), "{name} has no licence");
        let _ = writeln!(list, "  {name}: {licence}");
        let manifest = Path::new(string(&package["manifest_path"]));
        for text in texts_of(manifest.parent().context("a manifest is in a folder")?)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        let _ = write!(list, "\n{}\n{}:\n\n{}\n", "-".repeat(78), names.join(", "), text.trim());
    }
    Ok(list)
}

/// Ids of the packages that netd's binaries are made of: netd's and the eBPF
/// crate's normal dependencies, and theirs.
fn linked(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes: BTreeMap<_, _> =
        array(&metadata["resolve"]["nodes"]).map(|node| (string(&node["id"]), node)).collect();
    let mut todo: Vec<_> = array(&metadata["packages"])
        .filter(|package| package["source"].is_null())
        .filter(|package| ["netd", "netd-ebpf"].contains(&string(&package["name"])))
        .map(|package| string(&package["id"]))
        .collect();
    ensure!(todo.len() == 2, "the workspace has lost netd or netd-ebpf");
    let mut linked = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes.get(id).with_context(|| format!("cargo metadata lacks {id}"))?;
        let normal = |dependency: &&Value| {
            array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
        };
        todo.extend(array(&node["deps"]).filter(normal).map(|it| string(&it["pkg"])));
    }
    Ok(linked)
}

fn texts_of(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file() && NAMES.iter().any(|known| name.starts_with(known)) {
            texts.push(String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
        }
    }
    Ok(texts)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
