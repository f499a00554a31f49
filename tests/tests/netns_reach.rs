//! Who may reach whom, mode by mode: tried with real traffic, TCP and UDP, both
//! families, and kept as a table in README.md. `NETD_UPDATE_README=1` writes it
//! there.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use netd_tests::{
    Agent, Container, Family, NetNs, SILENCE, Topology,
    json::{number, rows, text},
    topology::at,
};

const BEGIN: &str = "<!-- who may reach whom: written by the test netns_reach -->\n";
const END: &str = "<!-- end -->\n";
const HEAD: &str = "| network | its own | others, container's address | others, host's address | \
                    outside, container's address | outside, host's address | host, container's address | gets out |";

const MODES: [(&str, &str); 6] = [
    ("`nat`", ""),
    ("`nat-unprotected`", "GATEWAY=nat-unprotected"),
    ("`routed`", "GATEWAY=routed"),
    ("`enable_icc=false`", "-o com.docker.network.bridge.enable_icc=false"),
    ("`--internal`", "--internal"),
    ("`--internal`, `isolated`", "--internal GATEWAY=isolated"),
];

/// One network of a mode, and who is on it.
struct Subject {
    web: Container,
    neighbour: Container,
    /// The host port that leads to its port 80, where it has one.
    published: Option<u16>,
}

fn options(mode: &str) -> String {
    let bridge = "com.docker.network.bridge.gateway_mode";
    let expand = |word: &str| match word.strip_prefix("GATEWAY=") {
        Some(mode) => format!("-o {bridge}_ipv4={mode} -o {bridge}_ipv6={mode}"),
        None => word.to_owned(),
    };
    mode.split_whitespace().map(expand).collect::<Vec<_>>().join(" ")
}

fn subject(net: &Topology, agent: &Agent, nth: usize, mode: &str) -> Subject {
    let (v4, v6) = (format!("172.{}.0.0/16", 20 + nth), format!("fd00:{}::/64", 20 + nth));
    let options = options(mode);
    agent.network(&format!("n{nth}"), &v4, &format!("--ipv6 --subnet {v6} {options}"));
    for family in Family::ALL {
        let (subnet, via) = (family.pick(&v4, &v6), family.host());
        net.outside.ip(&format!("{} route add {subnet} via {via}", family.flag()));
    }
    let internal = mode.contains("--internal");
    let port = 8080 + u16::try_from(nth).expect("few");
    let publish = if internal { String::new() } else { format!("-p {port}:80 -p {port}:80/udp") };
    let web = agent.container(&format!("web{nth}"), &format!("--network n{nth} {publish}"));
    let neighbour = agent.container(&format!("neighbour{nth}"), &format!("--network n{nth}"));
    Subject { web, neighbour, published: (!internal).then_some(port) }
}

/// Both protocols, which must agree.
fn reaches(from: &NetNs, to: SocketAddr) -> bool {
    let tcp = from.connect_tcp(to, SILENCE).is_ok();
    let udp = from.run(|| udp_echoes(to)).unwrap_or(false);
    assert_eq!(tcp, udp, "TCP and UDP from {} to {to}", from.name());
    tcp
}

fn udp_echoes(to: SocketAddr) -> std::io::Result<bool> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(350)))?;
    Ok((0..2).any(|_| socket.send(b"?").is_ok() && socket.recv(&mut [0]).is_ok()))
}

/// What of the container's own address `from` reaches: port 81 is published
/// nowhere.
fn own_address(from: &NetNs, web: &Container, family: Family) -> &'static str {
    let own = web.address(family);
    match (reaches(from, at(own, 80)), reaches(from, at(own, 81))) {
        (true, true) => "every port",
        (true, false) => "published ports",
        (false, false) => "no",
        (false, true) => "unpublished ports alone",
    }
}

fn host_address(from: &NetNs, subject: &Subject, family: Family) -> &'static str {
    match subject.published {
        None => "–",
        Some(port) if reaches(from, at(family.host(), port)) => "published ports",
        Some(_) => "no",
    }
}

/// A row's cells, in one family.
fn cells(net: &Topology, guest: &Container, subject: &Subject, family: Family) -> Vec<String> {
    let web = &subject.web;
    let _servers: Vec<_> = [80, 81]
        .map(|port| family.any(port))
        .map(|any| (web.ns.echo_tcp(&any), web.ns.echo_udp(&any)))
        .into();
    let out = reaches(&web.ns, at(family.outside(), 7));
    [
        own_address(&subject.neighbour.ns, web, family),
        own_address(&guest.ns, web, family),
        host_address(&guest.ns, subject, family),
        own_address(&net.outside, web, family),
        host_address(&net.outside, subject, family),
        own_address(&net.host, web, family),
        if out { "yes" } else { "no" },
    ]
    .map(str::to_owned)
    .into()
}

#[test]
fn the_table_of_who_may_reach_whom_holds() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("guests", "172.19.0.0/16", "--ipv6 --subnet fd00:19::/64");
    let guest = agent.container("guest", "--network guests");
    let _outside: Vec<_> = Family::ALL
        .map(|family| family.any(7))
        .map(|any| (net.outside.echo_tcp(&any), net.outside.echo_udp(&any)))
        .into();
    let subjects: Vec<_> =
        MODES.iter().enumerate().map(|(nth, (_, mode))| subject(&net, &agent, nth, mode)).collect();

    let mut table = format!("{HEAD}\n|---|---|---|---|---|---|---|---|\n");
    let found: Vec<_> = thread::scope(|scope| {
        let (net, guest) = (&net, &guest);
        let tried: Vec<_> = subjects
            .iter()
            .map(|subject| {
                Family::ALL.map(|family| scope.spawn(move || cells(net, guest, subject, family)))
            })
            .collect();
        let done = |tried: thread::ScopedJoinHandle<'_, Vec<String>>| tried.join().expect("tried");
        tried.into_iter().map(|pair| pair.map(done)).collect()
    });
    for ((name, _), [v4, v6]) in MODES.iter().zip(&found) {
        assert_eq!(v4, v6, "both families of {name} agree");
        writeln!(table, "| {name} | {} |", v4.join(" | ")).expect("a string takes it");
    }
    eprintln!("{table}");

    // What was refused has been counted under a name of its own.
    let stats = agent.json("stats");
    let of = |row: &serde_json::Value| (text(row, "/Outcome").to_owned(), number(row, "/Packets"));
    let drops: Vec<_> = rows(&stats).iter().filter(|row| row["Drop"] == true).map(of).collect();
    for reason in ["isolated", "direct_access", "icc_disabled"] {
        assert!(drops.iter().any(|(name, count)| name == reason && *count > 0), "{drops:?}");
    }
    assert_same_in_readme(&table);
}

fn assert_same_in_readme(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).expect("read README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the table's beginning");
    let (written, after) = rest.split_once(END).expect("the table's end");
    if std::env::var_os("NETD_UPDATE_README").is_some() {
        fs::write(&path, [before, BEGIN, table, END, after].concat()).expect("write README.md");
    } else {
        assert_eq!(written, table, "README.md differs: run with NETD_UPDATE_README=1");
    }
}
