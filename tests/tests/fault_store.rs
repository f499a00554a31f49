//! A store that was cut short or overwritten, and one whose disk is full: the
//! error says so, nothing is done by half, and nothing is lost.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use netd_tests::{
    Agent, Program, Topology, exchange,
    topology::{HOST, at},
};

#[test]
fn a_damaged_store_is_told_and_the_containers_run_on() {
    let net = Topology::new();
    let mut agent = net.agent();
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    exchange(&mut stream, b"before");
    agent.kill();

    let store = agent.root().join("lib/netd.redb");
    let whole = fs::read(&store).expect("read the store");
    let half = whole.len() / 2;
    for damaged in [&whole[..0], &whole[..100], &whole[..half], &vec![0x5a; whole.len()]] {
        fs::write(&store, damaged).expect("damage the store");
        let refused = agent.agent_command().output();
        assert_eq!(refused.code, 1, "{refused}");
        let error = format!("the store `{}` is damaged", store.display());
        assert!(refused.error().starts_with(&error), "{refused}");
        assert!(refused.hint().contains("move"), "{refused}");
        assert_eq!(fs::read(&store).expect("read it").len(), damaged.len(), "it is left alone");
        exchange(&mut stream, b"goes on");
        exchange(&mut net.outside.connect(at(HOST, 8080)), b"a new one");
    }

    fs::write(&store, &whole).expect("repair the store");

    let journal = store.with_extension("journal");
    let kept = fs::read(&journal).expect("read the journal");
    fs::write(&journal, [b"{}\n", &kept[..]].concat()).expect("damage the journal");
    let refused = agent.agent_command().output();
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.error().contains("netd.journal` is damaged"), "{refused}");
    assert!(refused.hint().contains("go on without what was done last"), "{refused}");

    fs::write(&journal, &kept).expect("repair the journal");
    agent.start_again();
    exchange(&mut stream, b"goes on");
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}

/// A disk of a few MB.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        let mount = Program::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "netd-test"]);
        mount.arg(at).output().ok();
        Self(at.to_owned())
    }

    /// Leaves this many bytes of it, rounded up to pages.
    fn fill(&self, free: usize) {
        let mut file = File::create(self.filler()).expect("make the file");
        let mut filled = 0;
        while file.write_all(&[1; 4096]).is_ok() {
            filled += 4096;
        }
        file.set_len(filled - free as u64).expect("cut the file");
    }

    fn clear(&self) {
        fs::remove_file(self.filler()).expect("remove the file");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Program::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// What runs, or is there, by name. A container whose start was refused may be
/// there until it is given up, for to remove it takes a disk, too.
fn names(agent: &Agent, list: &str) -> BTreeSet<String> {
    let rows = agent.json(list);
    let rows = rows.as_array().expect("a list").iter();
    rows.filter(|row| row["State"].as_str().is_none_or(|state| state == "running"))
        .filter_map(|row| row["Name"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_full_disk_is_told_and_nothing_that_was_promised_is_lost() {
    let net = Topology::new();
    let mut agent = net.agent();
    let folder = agent.root().join("lib");
    agent.stop();
    let disk = Disk::mount(&folder);
    agent.start_again();
    let clean = agent.snapshot();
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut stream = net.outside.connect(at(HOST, 8080));
    let lists = ["ps", "network ls"];
    let mut kept = lists.map(|list| names(&agent, list));

    for (round, free) in [0, 4096, 16_384, 65_536].into_iter().enumerate() {
        disk.fill(free);
        let commands = ["run -d --name N -- sleep infinity", "network create N"];
        for (command, kept) in commands.iter().zip(&mut kept) {
            let refused = (0..200).find_map(|n| {
                let name = format!("r{round}n{n}");
                let answer = agent.netd(&command.replace('N', &name));
                if answer.code == 0 {
                    kept.insert(name);
                    return None;
                }
                Some(answer)
            });
            let refused = refused.expect("the disk is full in the end");
            let error = "no space left on the disk of the store";
            assert!(refused.error().contains(error), "{refused}");
            assert!(refused.hint().contains("free some space"), "{refused}");
        }
        assert_eq!(lists.map(|list| names(&agent, list)), kept);
        exchange(&mut stream, b"goes on");

        if round % 2 == 0 {
            agent.kill();
            disk.clear();
            agent.start_again();
        } else {
            disk.clear();
        }
        assert_eq!(lists.map(|list| names(&agent, list)), kept, "with {free} bytes left");
        let name = format!("after{round}");
        agent.netd(&format!("network create {name}")).ok();
        kept[1].insert(name);
        agent.kill();
        agent.start_again();
        assert_eq!(lists.map(|list| names(&agent, list)), kept);
        exchange(&mut stream, b"goes on");
    }

    let [_, networks] = &kept;
    for row in agent.json("ps -a").as_array().expect("a list") {
        agent.netd(&format!("rm -f {}", row["Name"].as_str().expect("a name"))).ok();
    }
    for name in networks.iter().filter(|name| *name != "bridge") {
        agent.netd(&format!("network rm {name}")).ok();
    }
    agent.snapshot().assert_same(&clean);
}
