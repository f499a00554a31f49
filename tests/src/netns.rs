//! Network namespaces: made, entered, and gone again.

use std::{
    fs::File,
    net::SocketAddr,
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns, unshare},
};

use crate::{DEADLINE, Program, TestDir, eventually};

/// A network namespace; clones share it. One that the fixture made goes with
/// its [`TestDir`].
#[derive(Clone, Debug)]
pub struct NetNs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    file: File,
    /// Keeps the bind mount for as long as anyone has the namespace.
    _dir: Option<Arc<TestDir>>,
}

impl NetNs {
    /// A new namespace with `lo` up, bound to `ns/NAME` in the directory.
    pub fn new(dir: &Arc<TestDir>, name: &str) -> Self {
        let folder = dir.path().join("ns");
        std::fs::create_dir_all(&folder).expect("create the folder for namespaces");
        let path = folder.join(name);
        File::create(&path).expect("create the namespace's file");
        let bind = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            // `/proc/self` is the process: its first thread's namespace.
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        };
        thread::scope(|scope| scope.spawn(bind).join())
            .expect("the thread lives")
            .expect("make a network namespace");
        let ns = Self::open(name, &path, Some(dir.clone()));
        // Addresses are there at once, not after duplicate detection.
        for scope in ["all", "default"] {
            ns.set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0");
        }
        ns.ip("link set lo up");
        ns
    }

    /// The namespace of a running process.
    pub fn of_process(name: &str, pid: u32) -> Self {
        Self::open(name, &PathBuf::from(format!("/proc/{pid}/ns/net")), None)
    }

    fn open(name: &str, path: &Path, dir: Option<Arc<TestDir>>) -> Self {
        let file = File::open(path)
            .unwrap_or_else(|e| panic!("open the namespace {}: {e}", path.display()));
        Self(Arc::new(Inner { name: name.to_owned(), path: path.to_owned(), file, _dir: dir }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Runs `work` on a thread inside the namespace and waits for it. Sockets
    /// made there stay in the namespace wherever they are used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0.file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(value) => value,
            Err(cause) => panic::resume_unwind(cause),
        }
    }

    /// A program to run inside.
    pub fn command(&self, program: &str) -> Program {
        Program::new(program).inside(self)
    }

    /// Runs a line of words inside; it must succeed. Gives its output.
    #[track_caller]
    pub fn exec(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a program");
        self.command(program).args(words).output().ok()
    }

    /// `ip …`, which must succeed.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        self.exec(&format!("ip {line}"))
    }

    /// A veth pair between two namespaces, both ends up.
    #[track_caller]
    pub fn veth(&self, name: &str, peer_ns: &Self, peer: &str) {
        let path = peer_ns.path().display();
        self.ip(&format!("link add {name} type veth peer name {peer} netns {path}"));
        self.ip(&format!("link set {name} up"));
        peer_ns.ip(&format!("link set {peer} up"));
    }

    /// A link's number.
    #[track_caller]
    pub fn ifindex(&self, link: &str) -> u32 {
        self.run(|| if_nametoindex(link)).unwrap_or_else(|e| panic!("find {link}: {e}"))
    }

    /// `net/ipv4/ip_forward` and its like.
    pub fn sysctl(&self, key: &str) -> String {
        let path = Path::new("/proc/sys").join(key);
        let value = self.run(|| std::fs::read_to_string(&path));
        value.unwrap_or_else(|e| panic!("read {key}: {e}")).trim().to_owned()
    }

    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys").join(key);
        let done = self.run(|| std::fs::write(&path, value));
        done.unwrap_or_else(|e| panic!("set {key} to {value}: {e}"));
    }

    /// Packets that the namespace's stack has found corrupt, of any protocol
    /// (what `nstat` calls `InCsumErrors`).
    pub fn checksum_errors(&self) -> u64 {
        let tables = self.run(|| {
            ["snmp", "netstat"].map(|table| {
                std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))
                    .expect("read the counters")
            })
        });
        tables.iter().map(|table| sum_counter(table, "InCsumErrors")).sum()
    }

    /// Whether a program could take the port now.
    pub fn can_bind_tcp(&self, at: SocketAddr) -> std::io::Result<()> {
        self.run(|| std::net::TcpListener::bind(at)).map(drop)
    }

    /// Waits until a program listens. Not by binding: that could take the port
    /// from under it.
    #[track_caller]
    pub fn wait_for_listener(&self, port: u16) {
        let listeners = format!("ss -Hltn sport = :{port}");
        eventually(DEADLINE, &format!("port {port} has a listener"), || {
            (!self.exec(&listeners).trim().is_empty()).then_some(())
        });
    }

    pub fn can_bind_udp(&self, at: SocketAddr) -> std::io::Result<()> {
        self.run(|| std::net::UdpSocket::bind(at)).map(drop)
    }
}

/// The tables come in pairs of lines, names and values, both after `Proto:`.
fn sum_counter(table: &str, name: &str) -> u64 {
    let lines: Vec<_> = table.lines().collect();
    let pairs = lines
        .chunks_exact(2)
        .flat_map(|pair| pair[0].split_whitespace().zip(pair[1].split_whitespace()));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.parse::<u64>().expect("a counter is a number"))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum_counter;

    #[test]
    fn counters_of_all_protocols_are_summed() {
        let table = "Tcp: A InCsumErrors\nTcp: 1 2\nUdp: InCsumErrors B\nUdp: 3 4\n";
        assert_eq!(sum_counter(table, "InCsumErrors"), 5);
    }
}
