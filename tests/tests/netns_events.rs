//! `netd monitor`, `netd flows --follow` and `netd stats --watch`: what becomes
//! of things, as it happens, and only what was asked for.

use std::{fs, path::PathBuf};

use netd_tests::{
    Agent, DEADLINE, Process, SILENCE, Topology, eventually,
    json::{number, text},
    snapshot,
    topology::{HOST, at},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const METRICS: &str = "127.0.0.1:9469";

/// A running command and the file that it writes to.
struct Reader {
    process: Process,
    file: PathBuf,
}

impl Reader {
    fn start(agent: &Agent, line: &str) -> Self {
        let file = agent.dir().path().join(line.replace(' ', "_"));
        let process = agent.command(line.split_whitespace()).start(&file);
        Self { process, file }
    }

    /// A `netd monitor`, once the agent knows of it as the `nth`.
    fn monitor(agent: &Agent, nth: usize, flags: &str) -> Self {
        let reader = Self::start(agent, &format!("monitor {flags}"));
        let listeners = format!("netd_monitor_listeners {nth}");
        eventually(DEADLINE, "it listens", || {
            let url = format!("http://{METRICS}/metrics");
            let metrics = agent.host().command("curl").args(["-sS", &url]).output().ok();
            metrics.lines().any(|line| line.starts_with(&listeners)).then_some(())
        });
        reader
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).expect("the command's output")
    }

    /// The whole lines of JSON so far.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// `TYPE ACTION CONTAINER NETWORK DETAIL` of each.
    fn stories(&self) -> Vec<String> {
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or("-").to_owned();
        let keys = ["Type", "Action", "Container", "Network", "Detail"];
        let events = self.events();
        events.iter().map(|event| keys.map(|key| word(event, key)).join(" ")).collect()
    }

    #[track_caller]
    fn story(&self, wanted: &str) {
        eventually(DEADLINE, &format!("`{wanted}` is told"), || {
            self.stories().iter().any(|story| story == wanted).then_some(())
        });
    }
}

fn agent(net: &Topology) -> Agent {
    net.agent_with(&json!({ "metrics-address": METRICS }))
}

#[test]
fn a_containers_life_is_told_in_order() {
    let net = Topology::new();
    let agent = agent(&net);
    let all = Reader::monitor(&agent, 1, "--json");
    let people = Reader::monitor(&agent, 2, "--type container,network,port");
    agent.network("blue", "172.18.0.0/24", "");
    let web = agent.container("web", "--network blue --ip 172.18.0.9 -p 8080:80");
    agent.netd("port add web 8443:80,from=10.0.0.0/8").ok();
    agent.netd("port rm web 8080:80").ok();
    agent.netd("network connect bridge web").ok();
    agent.netd("network disconnect bridge web").ok();
    agent.netd("stop -t 1 web").ok();
    agent.netd("rm web").ok();
    agent.netd("network rm blue").ok();
    all.story("network remove - blue 172.18.0.0/24");
    let stories = all.stories();
    let steps = [
        "network create - blue 172.18.0.0/24",
        "container create web - sleep infinity",
        "network connect web blue 172.18.0.9",
        "port publish web blue 0.0.0.0:8080->80/tcp",
        "container start web - pid",
        "port publish web blue 0.0.0.0:8443->80/tcp,from=10.0.0.0/8",
        "port unpublish web blue 0.0.0.0:8080->80/tcp",
        "network connect web bridge",
        "network disconnect web bridge",
        "port unpublish web blue 0.0.0.0:8443->80/tcp,from=10.0.0.0/8",
        "network disconnect web blue 172.18.0.9",
        "container exit web - code",
        "container remove web - -",
        "network remove - blue 172.18.0.0/24",
    ];
    let mut rest = stories.iter();
    for step in steps {
        // An empty detail is empty, not absent.
        let step = step.trim_end_matches(" -");
        assert!(rest.any(|story| story.starts_with(step)), "no `{step}` next in {stories:#?}");
    }
    let listing = eventually(DEADLINE, "people are told too", || {
        Some(people.text()).filter(|text| text.contains("network remove"))
    });
    let line = listing.lines().find(|line| line.contains("port publish")).expect("a line");
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    assert_eq!(words, ["port", "publish", "-", "-", "0.0.0.0:8080->80/tcp", "web", "blue"]);
    drop(web);
}

#[test]
fn what_was_taken_away_and_put_right_is_told() {
    let net = Topology::new();
    let agent = agent(&net);
    let all = Reader::monitor(&agent, 1, "--json");
    let people = Reader::monitor(&agent, 2, "--type repair");
    let told = |what: &str| {
        eventually(DEADLINE, &format!("`{what}` is told"), || {
            let repairs = |story: &String| story.starts_with("repair restore - - ");
            all.stories().iter().any(|it| repairs(it) && it.contains(what)).then_some(())
        });
        eventually(DEADLINE, "people are told", || people.text().contains(what).then_some(()));
    };
    net.host.ip("link set netd0 down");
    told("link `netd0` was set down");
    let pins = snapshot::map_pins(agent.root());
    let flows = pins.iter().find(|pin| pin.ends_with("FLOWS")).expect("its pin");
    net.host.exec(&format!("rm {}", flows.display()));
    told("the pin of the map FLOWS was taken away");
}

#[test]
fn a_filter_shows_what_it_is_for_and_no_drop_is_told_to_those_who_want_none() {
    let net = Topology::new();
    let agent = agent(&net);
    agent.network("blue", "172.18.0.0/24", "");
    agent.network("red", "172.19.0.0/24", "");
    let ports = Reader::monitor(&agent, 1, "--json --type port");
    let blue = Reader::monitor(&agent, 2, "--json --network blue --type container,network,port");
    let api = Reader::monitor(&agent, 3, "--json --container api");
    let refused = Reader::monitor(&agent, 4, "--json --reason source_not_allowed");
    agent.container("web", "--network blue -p 8080:80,from=203.0.113.0/24");
    agent.container("api", "--network red -p 8081:80");
    assert!(net.outside.connect_tcp(at(HOST, 8080), SILENCE).is_err());
    let drop = eventually(DEADLINE, "the drop is shown", || refused.events().pop());
    assert_eq!((text(&drop, "/Type"), text(&drop, "/Container")), ("drop", "web"));
    api.story("port publish api red 0.0.0.0:8081->80/tcp");
    ports.story("port publish api red 0.0.0.0:8081->80/tcp");
    blue.story("port publish web blue 0.0.0.0:8080->80/tcp,from=203.0.113.0/24");
    let all = |reader: &Reader, key: &str, wanted: &str| {
        reader.events().iter().all(|event| event[key] == wanted)
    };
    assert!(all(&ports, "Type", "port"), "{:?}", ports.stories());
    assert!(all(&blue, "Network", "blue"), "{:?}", blue.stories());
    assert!(all(&api, "Container", "api"), "{:?}", api.stories());
    assert!(all(&refused, "Reason", "source_not_allowed"));
}

#[test]
fn filters_that_fit_nothing_are_refused() {
    let net = Topology::new();
    let agent = agent(&net);
    let output = agent.netd("monitor --reason isolate");
    let error = "unknown drop reason `isolate`: did you mean `isolated`?";
    assert_eq!((output.code, output.error()), (1, error), "{output}");
    assert_eq!(agent.netd("monitor --type prot").code, 2);
}

#[test]
fn uplinks_are_told_as_they_come_change_and_go() {
    let net = Topology::new();
    let agent = agent(&net);
    let uplinks = Reader::monitor(&agent, 1, "--json --type uplink");
    let told = |action: &str, link: &str, detail: &str| {
        eventually(DEADLINE, &format!("{link}: {action} {detail}"), || {
            let wanted = |event: &Value| {
                event["Action"] == action && event["Interface"] == link && event["Detail"] == detail
            };
            uplinks.events().iter().any(wanted).then_some(())
        });
    };
    net.host.veth("up7", &net.outside, "eth7");
    told("add", "up7", "");
    net.host.ip("addr add 198.51.100.7/24 dev up7");
    told("change", "up7", " -> 198.51.100.7");
    net.host.ip("link del up7");
    told("remove", "up7", "");
}

#[test]
fn flows_are_followed_from_their_begin() {
    let net = Topology::new();
    let agent = agent(&net);
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut before = net.outside.connect(at(HOST, 8080));
    netd_tests::exchange(&mut before, b"hello");
    let mut reader = Reader::start(&agent, "flows --follow --json --interval 0.1 --container web");
    let flow = |event: &str| {
        eventually(DEADLINE, &format!("a flow: {event}"), || {
            reader.events().into_iter().find(|line| line["Event"] == event)
        })
    };
    assert_eq!(text(&flow("exists"), "/State"), "ESTABLISHED");
    let mut stream = net.outside.connect(at(HOST, 8080));
    netd_tests::exchange(&mut stream, b"hello");
    let new = flow("new");
    assert_eq!(number(&new, "/Original/DstPort"), 8080);
    assert_eq!((text(&new, "/Nat"), text(&new, "/Container")), ("dnat", "web"));
    drop(stream);
    assert_eq!(text(&flow("update"), "/Container"), "web");
    // A port that goes takes its flows along.
    agent.netd("port rm web 8080:80").ok();
    flow("end");
    reader.process.signal(Signal::SIGINT);
    assert_eq!(reader.process.wait(), 0);
}

#[test]
fn rates_are_lines_where_there_is_no_terminal() {
    let net = Topology::new();
    let agent = agent(&net);
    let web = agent.container("web", "-p 8080:80");
    let _server = web.ns.echo_tcp("0.0.0.0:80");
    let mut lines = Reader::start(&agent, "stats --watch --json --interval 0.1");
    let mut table = Reader::start(&agent, "stats --watch --interval 0.1");
    eventually(DEADLINE, "the first rates", || lines.events().pop());
    let delivered = |line: &Value| {
        line["Rates"].as_array().expect("rates").iter().any(|rate| {
            rate["Program"] == "from_uplink"
                && rate["Outcome"] == "deliver"
                && rate["PacketsPerSecond"].as_f64().is_some_and(|packets| packets > 0.0)
        })
    };
    eventually(DEADLINE, "packets are seen as a rate", || {
        netd_tests::exchange(&mut net.outside.connect(at(HOST, 8080)), b"hello");
        lines.events().iter().any(delivered).then_some(())
    });
    eventually(DEADLINE, "and in the table", || {
        let text = table.text();
        let line = text.lines().find(|line| line.contains("deliver"))?.to_owned();
        (line.split_whitespace().count() == 5 && text.starts_with("TIME ")).then_some(())
    });
    for reader in [&mut lines, &mut table] {
        reader.process.signal(Signal::SIGTERM);
        assert_eq!(reader.process.wait(), 0);
    }
}
