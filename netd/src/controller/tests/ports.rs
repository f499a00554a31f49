use super::fixture::{PUBLISHED, QUIET, World, container, text};
use crate::{
    api::types::{ContainerCreate, NetworkCreate},
    controller::{Action, Error, Op, Plan, Step, plan_publish, plan_unpublish},
    model::Protocol,
};

fn publishing(name: &str, specs: &[&str]) -> ContainerCreate {
    ContainerCreate {
        publish: specs.iter().map(|spec| (*spec).to_owned()).collect(),
        ..container(name)
    }
}

#[test]
fn a_port_is_given_once() {
    let mut world = World::new();
    world.create(&publishing("web", &["8080:80"])).unwrap();
    let error = world.create(&publishing("other", &["8080:80"])).unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
    assert_eq!(error.hint().unwrap(), "the port is used by container web");
    assert_eq!(
        text(world.create(&publishing("other", &["127.0.0.1:8080:80"]))),
        "Bind for 127.0.0.1:8080 failed: port is already allocated"
    );
    world.create(&publishing("udp", &["8080:80/udp"])).unwrap();
    assert_eq!(
        text(world.create(&publishing("twice", &["9000:80", "9000:81"]))),
        "Bind for 0.0.0.0:9000 failed: port is already allocated"
    );
    world.create(&publishing("one", &["127.0.0.1:9000:80", "127.0.0.2:9000:80"])).unwrap();
    assert_eq!(
        text(world.create(&publishing("all", &["9000:80"]))),
        "Bind for 0.0.0.0:9000 failed: port is already allocated"
    );
    assert_eq!(world.state.containers.len(), 3);
}

#[test]
fn a_range_with_one_container_port_takes_the_next_free() {
    let mut world = World::new();
    world.host.avoid_ports = vec![(Protocol::Tcp, 8001)];
    for (name, port) in [("a", 8000), ("b", 8002)] {
        world.create(&publishing(name, &["8000-8002:80"])).unwrap();
        assert_eq!(world.ports(name), [format!("0.0.0.0:{port}->80/tcp")]);
    }
    assert_eq!(text(world.create(&publishing("c", &["8000-8002:80"]))), "all ports are allocated");
}

#[test]
fn a_port_left_to_netd_is_ephemeral_and_free() {
    let mut world = World::new();
    world.host.ephemeral = (40000, 40004);
    world.host.reserved_ports = vec![40001..=40001];
    world.host.avoid_ports = vec![(Protocol::Tcp, 40002)];
    world.create(&publishing("web", &["80", "81", "127.0.0.1::82"])).unwrap();
    let mut ports: Vec<u16> =
        world.get("web").endpoints[0].ports.iter().map(|mapping| mapping.host_port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [40000, 40003, 40004]);
    assert_eq!(text(world.create(&publishing("more", &["80"]))), "all ports are allocated");
}

#[test]
fn publish_all_takes_what_is_exposed_and_not_named() {
    let mut world = World::new();
    let request = ContainerCreate {
        publish_all: true,
        expose: vec!["80-81".into(), "53/udp".into()],
        ..publishing("web", &["8080:80"])
    };
    world.create(&request).unwrap();
    let mappings: Vec<(u16, Protocol)> = world.get("web").endpoints[0]
        .ports
        .iter()
        .map(|mapping| (mapping.container_port, mapping.protocol))
        .collect();
    assert_eq!(mappings, [(80, Protocol::Tcp), (81, Protocol::Tcp), (53, Protocol::Udp)]);
    let silent = ContainerCreate { expose: vec!["80".into()], ..container("silent") };
    world.create(&silent).unwrap();
    assert!(world.ports("silent").is_empty());
}

#[test]
fn an_sctp_port_is_published_as_itself_or_not_at_all() {
    let mut world = World::new();
    for (name, spec) in [("a", "90/sctp"), ("b", "80-95:85/sctp")] {
        world.create(&publishing(name, &[spec])).unwrap();
    }
    assert_eq!(world.ports("a"), ["0.0.0.0:90->90/sctp"]);
    assert_eq!(world.ports("b"), ["0.0.0.0:85->85/sctp"]);
    assert!(text(world.create(&publishing("c", &["91:90/sctp"]))).starts_with("SCTP port 90"));
    let taken = text(world.create(&publishing("d", &["90:90/sctp"])));
    assert_eq!(taken, "Bind for 0.0.0.0:90 failed: port is already allocated");
}

#[test]
fn what_is_not_there_yet_or_never_works_is_refused() {
    let mut world = World::new();
    assert_eq!(text(world.create(&publishing("a", &["80:http"]))), "invalid containerPort: http");
    let internal =
        NetworkCreate { name: "inside".into(), internal: true, ..NetworkCreate::default() };
    world.create_network(&internal).unwrap();
    let request = ContainerCreate { network: Some("inside".into()), ..publishing("a", &["80:80"]) };
    assert_eq!(text(world.create(&request)), "can't publish ports on internal network inside");
    let quiet = ContainerCreate { network: Some("inside".into()), ..container("a") };
    world.create(&quiet).unwrap();
    assert!(!world.get("a").endpoints[0].default_route);
    assert_eq!(text(world.publish("a", "80:80")), "container a has no network to publish ports on");
}

/// The steps of a plan about ports, in short.
fn steps(plan: &Plan) -> Vec<String> {
    let short = |step: &Step| {
        let sign = if step.action == Action::Apply { '+' } else { '-' };
        match &step.op {
            Op::AllowList { list, .. } => format!("{sign}list {list}"),
            Op::Port { allow, .. } => format!("{sign}port of list {allow}"),
            Op::PortSources { old, new, .. } => {
                format!("{sign}port from list {} to {}", old.list, new.list)
            }
            Op::HostPort { .. } => format!("{sign}socket"),
            Op::Lease { .. } => format!("{sign}lease"),
            other => panic!("{other:?}"),
        }
    };
    plan.steps.iter().map(short).collect()
}

#[test]
fn a_list_is_filled_before_its_port_opens_and_emptied_after_it_is_gone() {
    let mut world = World::new();
    world.create(&container("web")).unwrap();
    let specs = ["8080:80,from=10.0.0.0/8,from=2001:db8::/32".to_owned()];
    let (plan, added) = plan_publish(&world.state, &world.host, "web", &specs).unwrap();
    assert_eq!(steps(&plan), ["+socket", "+list 1", "+port of list 1", "+lease"]);
    assert_eq!(added[0].from, ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    world.run(plan);

    let plan = plan_unpublish(&world.state, "web", &["80".into()]).unwrap();
    assert_eq!(steps(&plan), ["-port of list 1", "-list 1", "-socket", "+lease"]);
}

#[test]
fn the_sources_of_a_published_port_change_in_one_step() {
    let mut world = World::new();
    world.create(&publishing("web", &["8080:80,from=10.0.0.0/8", "8081:80"])).unwrap();
    let mut add = |specs: &[&str]| {
        let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_owned()).collect();
        let (plan, asked) = plan_publish(&world.state, &world.host, "web", &specs)?;
        let steps = steps(&plan);
        world.run(plan);
        Ok::<_, Error>((steps, asked))
    };
    let (steps, asked) = add(&["8080:80,from=10.1.0.0/16"]).unwrap();
    assert_eq!(steps, ["+list 2", "+port from list 1 to 2", "-list 1"]);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].from, ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(add(&["8080:80"]).unwrap().0, ["+port from list 2 to 0", "-list 2"]);
    assert_eq!(add(&["8081:80,from=::/0"]).unwrap().0, ["+list 1", "+port from list 0 to 1"]);
    let (steps, asked) = add(&["8081:80,from=::/0"]).unwrap();
    assert!(steps.is_empty(), "it is so already: {steps:?}");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        text(add(&["8080:80,from=10.0.0.0/8", "8080:80"])),
        "Bind for 0.0.0.0:8080 failed: port is already allocated"
    );
    assert_eq!(
        text(add(&["8080:81"])),
        "Bind for 0.0.0.0:8080 failed: port is already allocated",
        "another port of the container is no change of sources"
    );
}

fn lease_flags(world: &World) -> u32 {
    world
        .made
        .iter()
        .find_map(|op| match op {
            Op::Lease { flags, .. } => Some(*flags),
            _ => None,
        })
        .unwrap()
}

#[test]
fn ports_come_and_go_while_a_container_runs() {
    let mut world = World::new();
    world.create(&container("web")).unwrap();
    world.start("web").unwrap();
    assert_eq!(lease_flags(&world), QUIET);
    assert_eq!(world.publish("web", "8080:80").unwrap(), ["0.0.0.0:8080->80/tcp"]);
    world.publish("web", "8081:80").unwrap();
    assert_eq!(lease_flags(&world), PUBLISHED);
    assert_eq!(
        text(world.unpublish("web", "8082:80")),
        "port 80/tcp of container web is not published on host port 8082"
    );
    world.unpublish("web", "8081:80").unwrap();
    assert_eq!(world.ports("web"), ["0.0.0.0:8080->80/tcp"]);
    assert_eq!(lease_flags(&world), PUBLISHED);
    world.unpublish("web", "80").unwrap();
    assert!(world.ports("web").is_empty());
    assert_eq!(lease_flags(&world), QUIET);
    world.exit("web").unwrap();
    assert_eq!(text(world.publish("web", "80:80")), "container web is not running");
}

#[test]
fn the_datapath_forgets_a_port_before_its_socket_closes() {
    let mut world = World::new();
    world.create(&publishing("web", &["8080:80"])).unwrap();
    let plan = plan_unpublish(&world.state, "web", &["80".into()]).unwrap();
    assert!(matches!(
        plan.steps.iter().map(|step| &step.op).collect::<Vec<_>>()[..],
        [Op::Port { .. }, Op::HostPort { .. }, Op::Lease { flags: QUIET, .. }]
    ));
}
