//! The agent is killed after each single step of each kind of plan. The next
//! one finds everything as it was before the request, or as the request wanted
//! it, and takes the request again.

use netd_tests::{Agent, DEADLINE, Snapshot, Topology, eventually};

/// What a crash must not leave half done. What the agent logs and where it
/// keeps its counters is not of it.
const SECTIONS: [&str; 19] = [
    "links",
    "addresses",
    "routes",
    "rules",
    "mounts",
    "files",
    "pins",
    "processes",
    "map ENDPOINTS",
    "map LINKS",
    "map SUBNETS",
    "map TRUSTED",
    "map PORTS",
    "map ALLOW",
    "map RESERVED_PORTS",
    "map HOST_ADDRS",
    "map UPLINKS",
    "port ls",
    "ipam",
];

fn shape(agent: &Agent) -> Snapshot {
    // The numbers of links that were made again.
    agent.snapshot_of(&SECTIONS).without("/link_index = ").without("/ifindex = ")
}

struct Case {
    /// What is there before.
    prepare: &'static [&'static str],
    request: &'static str,
    /// What takes it back, with what was prepared.
    clean: &'static [&'static str],
}

/// Whether the agent is killed by its own hand.
#[track_caller]
fn crashes(agent: &mut Agent, request: &str) -> bool {
    let output = agent.netd(request);
    if output.code == 0 {
        return false;
    }
    eventually(DEADLINE, &format!("the agent has crashed: {output}"), || {
        (!agent.runs()).then_some(())
    });
    assert!(output.code == 1 && output.stderr.starts_with("error: "), "{output}");
    agent.kill();
    true
}

/// Gives at how many places the request was cut short.
fn cut_short_everywhere(case: &Case) -> u32 {
    let net = Topology::new();
    let mut agent = net.agent();
    for line in case.prepare {
        agent.netd(line).ok();
    }
    let before = shape(&agent);
    agent.kill();
    let mut after = 0;
    loop {
        // Finds what the last crash left, and has the next one before it.
        agent.set_environment("NETD_CRASH_AFTER", Some(after.to_string()));
        agent.start_again();
        let found = shape(&agent);
        if found != before {
            // The last one: the changes were on disk, and the answer was lost.
            break;
        }
        assert!(crashes(&mut agent, case.request), "{after}: the last step is the commit");
        after += 1;
        assert!(after < 100, "it comes to an end");
    }
    agent.kill();
    agent.set_environment("NETD_CRASH_AFTER", None);
    agent.start_again();
    for line in case.clean {
        agent.netd(line).ok();
    }
    agent.assert_clean();

    // Had nothing happened, it would be the same.
    for line in case.prepare {
        agent.netd(line).ok();
    }
    agent.netd(case.request).ok();
    for line in case.clean {
        agent.netd(line).ok();
    }
    agent.assert_clean();
    after
}

#[track_caller]
fn check(case: &Case, at_least: u32) {
    let places = cut_short_everywhere(case);
    eprintln!("`netd {}` was cut short at {places} places", case.request);
    assert!(places >= at_least, "{places}");
}

const RUN: &str = "run -d --name web -p 8080:80 -p 5353:53/udp,from=192.0.2.0/24 -- sleep infinity";
const MINE: &str = "network create --subnet 172.18.0.0/16 --ipv6 mine";
/// For containers: a bridge with IPv6 has a further address, of its own
/// accord, from its first port on.
const MINE4: &str = "network create --subnet 172.18.0.0/16 mine";

#[test]
fn a_network_that_is_created() {
    check(&Case { prepare: &[], request: MINE, clean: &["network rm mine"] }, 4);
}

#[test]
fn a_network_that_is_removed() {
    check(&Case { prepare: &[MINE], request: "network rm mine", clean: &[] }, 4);
}

/// Its logs may be gone before it is.
#[test]
fn a_container_that_is_removed() {
    let net = Topology::new();
    let mut agent = net.agent();
    agent.netd(RUN).ok();
    agent.netd("stop web").ok();
    let mut after = 0;
    loop {
        agent.kill();
        agent.set_environment("NETD_CRASH_AFTER", Some(after.to_string()));
        agent.start_again();
        if agent.json("ps -a").as_array().is_some_and(Vec::is_empty) {
            break;
        }
        assert!(crashes(&mut agent, "rm web"), "{after}: the last step is the commit");
        after += 1;
    }
    assert!(after >= 3, "{after}");
    agent.assert_clean();
}

/// Its process has ended by then, so each start goes on with it.
#[test]
fn a_container_that_is_stopped() {
    let net = Topology::new();
    let mut agent = net.agent();
    agent.netd(RUN).ok();
    agent.kill();
    agent.set_environment("NETD_CRASH_AFTER", Some("0".to_owned()));
    agent.start_again();
    assert!(crashes(&mut agent, "stop web"));
    let mut after = 1;
    loop {
        agent.set_environment("NETD_CRASH_AFTER", Some(after.to_string()));
        if agent.try_start().is_ok() {
            break;
        }
        after += 1;
        assert!(after < 100, "it comes to an end");
    }
    assert!(after >= 8, "{after}");
    let list = agent.json("ps -a");
    assert_eq!(list[0]["State"], "exited", "{list}");
    agent.netd("rm web").ok();
    agent.assert_clean();
}

#[test]
fn a_network_that_a_container_is_connected_to() {
    check(
        &Case {
            prepare: &[MINE4, RUN],
            request: "network connect mine web",
            clean: &["rm -f web", "network rm mine"],
        },
        5,
    );
}

#[test]
fn a_network_that_a_container_is_disconnected_from_with_its_default_route() {
    check(
        &Case {
            prepare: &[MINE4, RUN, "network connect mine web"],
            request: "network disconnect bridge web",
            clean: &["rm -f web", "network rm mine"],
        },
        6,
    );
}

#[test]
fn ports_that_are_added() {
    check(
        &Case {
            prepare: &[RUN],
            request: "port add web 9000-9001:90-91 9002:92,from=192.0.2.0/24",
            clean: &["rm -f web"],
        },
        6,
    );
}

#[test]
fn ports_that_are_removed() {
    check(&Case { prepare: &[RUN], request: "port rm web 8080:80", clean: &["rm -f web"] }, 3);
}

/// What undoes a plan is cut short too, at each of its steps.
#[test]
fn a_plan_that_is_undone() {
    let net = Topology::new();
    let mut agent = net.agent();
    agent.netd(MINE4).ok();
    agent.netd(RUN).ok();
    let before = shape(&agent);
    agent.kill();
    // Late in the plan, so that there is much to undo.
    agent.set_environment("NETD_CRASH_AFTER", Some("4".to_owned()));
    agent.start_again();
    assert!(crashes(&mut agent, "network connect mine web"));
    agent.set_environment("NETD_CRASH_AFTER", None);
    let mut after = 0;
    loop {
        agent.set_environment("NETD_CRASH_UNDO_AFTER", Some(after.to_string()));
        if agent.try_start().is_ok() {
            break;
        }
        after += 1;
    }
    assert!(after >= 4, "{after}");
    shape(&agent).assert_same(&before);
    agent.netd("network connect mine web").ok();
    agent.netd("rm -f web").ok();
    agent.netd("network rm mine").ok();
    agent.assert_clean();
}

/// A container's start is not one plan: sandbox, process, and that it runs.
#[test]
fn a_container_that_is_started() {
    let net = Topology::new();
    let mut agent = net.agent();
    let before = shape(&agent);
    let empty = |agent: &Agent, list: &str| agent.json(list).as_array().is_some_and(Vec::is_empty);
    let mut after = 0;
    loop {
        agent.kill();
        agent.set_environment("NETD_CRASH_AFTER", Some(after.to_string()));
        agent.start_again();
        if agent.netd(RUN).code == 0 {
            break;
        }
        eventually(DEADLINE, "the agent has crashed", || (!agent.runs()).then_some(()));
        agent.kill();
        agent.set_environment("NETD_CRASH_AFTER", None);
        agent.start_again();
        // A sandbox that was ready, but of which nobody had heard, goes again.
        eventually(DEADLINE, "no sandbox is left", || {
            let exited = || agent.json("ps -a")[0]["State"] == "exited";
            (empty(&agent, "ps -a") || exited()).then_some(())
        });
        if !empty(&agent, "ps -a") {
            agent.netd("rm web").ok();
        }
        shape(&agent).assert_same(&before);
        after += 1;
        assert!(after < 100, "it comes to an end");
    }
    assert!(after >= 12, "{after}");
    agent.kill();
    agent.set_environment("NETD_CRASH_AFTER", None);
    agent.start_again();
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}
