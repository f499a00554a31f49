//! Where everything of one agent lives. The one place that knows a path;
//! it must not know what is stored there.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// Every path of an agent, derived from `--root` or the system's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What outlives a boot: the store.
    pub state: PathBuf,
    /// What ends with a boot: sockets, namespaces, containers' run directories.
    pub run: PathBuf,
    /// The control API's socket.
    pub socket: PathBuf,
    /// Pinned maps and links; must be on bpffs.
    pub pins: PathBuf,
    /// `netd.json`; may be absent.
    pub config: PathBuf,
    /// Docker's plugin socket.
    pub plugin_socket: PathBuf,
    /// dockerd's own socket.
    pub docker_socket: PathBuf,
    /// Where the agent serves Docker's plugin behind `netd docker-relay`, which
    /// then has `plugin_socket`.
    pub relayed_socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to create directory `{path}`")]
pub struct PathError {
    path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl Paths {
    /// The paths below `root`, or the system's without one. A relative root is
    /// taken from the current directory, so that they stay true after a `cd`.
    pub fn new(root: Option<&Path>) -> Self {
        let Some(root) = root else {
            return Self {
                state: "/var/lib/netd".into(),
                run: "/run/netd".into(),
                socket: "/run/netd/netd.sock".into(),
                pins: "/sys/fs/bpf/netd".into(),
                config: "/etc/netd/netd.json".into(),
                plugin_socket: "/run/docker/plugins/netd.sock".into(),
                docker_socket: "/var/run/docker.sock".into(),
                relayed_socket: "/run/netd/plugin.sock".into(),
            };
        };
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self {
            state: root.join("lib"),
            run: root.join("run"),
            socket: root.join("run/netd.sock"),
            pins: root.join("bpf"),
            config: root.join("netd.json"),
            plugin_socket: root.join("run/plugins/netd.sock"),
            docker_socket: root.join("run/docker.sock"),
            relayed_socket: root.join("run/plugin.sock"),
        }
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.state.join("netd.redb")
    }

    /// Where namespaces are bound, one file a container.
    pub fn netns_dir(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// Containers' run directories, one a container.
    pub fn containers_dir(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Where cgroup v2 is mounted, if it is nowhere else.
    pub fn cgroup(&self) -> PathBuf {
        self.run.join("cgroup")
    }

    /// Creates the directories of the state and of the run files, each for
    /// root alone. The pins' directory is the datapath's: it needs bpffs.
    pub fn ensure(&self) -> Result<(), PathError> {
        for path in [self.state.clone(), self.run.clone(), self.netns_dir(), self.containers_dir()]
        {
            create_private(&path)?;
        }
        Ok(())
    }
}

/// Creates `path`, mode 0700, and what is missing above it. One that is there
/// keeps its mode: its owner may have opened it on purpose.
pub fn create_private(path: &Path) -> Result<(), PathError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PathError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_root_moves_every_path() {
        let paths = Paths::new(Some(Path::new("/tmp/x")));
        for path in [
            &paths.state,
            &paths.run,
            &paths.socket,
            &paths.pins,
            &paths.config,
            &paths.plugin_socket,
            &paths.docker_socket,
            &paths.relayed_socket,
            &paths.store(),
            &paths.netns_dir(),
            &paths.containers_dir(),
            &paths.cgroup(),
        ] {
            assert!(path.starts_with("/tmp/x"), "{}", path.display());
        }
    }

    #[test]
    fn directories_are_for_root_alone_and_ensuring_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(&dir.path().join("root")));
        paths.ensure().unwrap();
        paths.ensure().unwrap();
        for path in [&paths.state, &paths.run, &paths.netns_dir()] {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }
}
