use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> PortSpec {
    text.parse().unwrap()
}

fn error(text: &str) -> String {
    text.parse::<PortSpec>().unwrap_err().to_string()
}

#[test]
fn every_form_of_the_grammar_is_read() {
    assert_eq!(parse("80").host, None);
    assert_eq!(parse("80").container, 80..=80);
    assert_eq!(parse("8080:80").host, Some(8080..=8080));
    assert_eq!(parse("8080:80/udp").protocol, Protocol::Udp);
    assert_eq!(parse("8080:80/UDP").protocol, Protocol::Udp);
    assert_eq!(parse("80/").protocol, Protocol::Tcp);
    assert_eq!(parse("127.0.0.1:8080:80").host_ip, "127.0.0.1".parse().ok());
    assert_eq!(parse("127.0.0.1::80").host, None);
    assert_eq!(parse("[::1]:8080:80").host_ip, "::1".parse().ok());
    assert_eq!(parse("::1:8080:80").host_ip, "::1".parse().ok());
    assert_eq!(parse("0:80").host, None);
    assert_eq!(parse("80:80/sctp").protocol, Protocol::Sctp);
    assert_eq!(
        parse("80:80,from=10.0.0.0/8,from=192.0.2.1").from,
        ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()]
    );
    assert_eq!(parse("80:80,from=10.0.0.0/8,from=10.0.0.0/8").from.len(), 1);
}

#[test]
fn equal_ranges_are_mapped_one_to_one() {
    let requests = parse("8000-8002:80-82").expand();
    let pairs: Vec<_> = requests.iter().map(|r| (r.host.clone(), r.container_port)).collect();
    assert_eq!(pairs, [(Some(8000..=8000), 80), (Some(8001..=8001), 81), (Some(8002..=8002), 82)]);
}

#[test]
fn a_host_range_with_one_container_port_stays_a_choice() {
    let requests = parse("8000-8010:80").expand();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].host, Some(8000..=8010));
}

#[test]
fn errors_have_dockers_texts() {
    assert_eq!(error(""), "no port specified: <empty>");
    assert_eq!(error("8080:"), "no port specified: 8080:<empty>");
    assert_eq!(error("80:80/icmp"), "invalid proto: icmp");
    assert_eq!(error("a.b:80:80"), "invalid IP address: a.b");
    assert_eq!(error("80:http"), "invalid containerPort: http");
    assert_eq!(error("80:65536"), "invalid containerPort: 65536");
    assert_eq!(error("80:0"), "invalid containerPort: 0");
    assert_eq!(error("http:80"), "invalid hostPort: http");
    assert_eq!(error("9-8:80"), "invalid hostPort: 9-8");
    assert_eq!(error("+80:80"), "invalid hostPort: +80");
    assert_eq!(
        error("8000-8005:80-82"),
        "invalid ranges specified for container and host Ports: 80-82 and 8000-8005"
    );
    assert_eq!(error("80:80,from=x"), "invalid from: x: an address or a CIDR block is expected");
    assert_eq!(error("80:80,from=10.0.0.1/8"), "invalid from: 10.0.0.1/8: it should be 10.0.0.0/8");
    assert_eq!(error("80:80,to=x"), "invalid port option: to=x: only from=CIDR is known");
}

#[test]
fn an_sctp_port_cannot_change() {
    assert!(error("8080:80/sctp").starts_with("SCTP port 80 can't be published as 8080"));
    assert!("80-90:80/sctp".parse::<PortSpec>().is_ok());
}

#[test]
fn expose_takes_a_port_or_a_range() {
    let expose: Expose = "80-82/udp".parse().unwrap();
    assert_eq!(expose.ports, 80..=82);
    assert_eq!(expose.protocol, Protocol::Udp);
    assert_eq!(
        "82-80".parse::<Expose>().unwrap_err().to_string(),
        "invalid range format for --expose: 82-80"
    );
}

#[test]
fn a_mapping_prints_as_docker_ps_does() {
    let mapping = PortMapping {
        host_ip: "::".parse().unwrap(),
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
        from: vec![],
        list: 0,
    };
    assert_eq!(mapping.to_string(), "[::]:8080->80/tcp");
    let routed = PortMapping { host_port: 0, ..mapping };
    assert_eq!(routed.to_string(), "80/tcp");
    let own = "2001:db8::5".parse().unwrap();
    assert_eq!(routed.reached_at(own), (own, 80));
}

fn any_range() -> impl Strategy<Value = RangeInclusive<u16>> {
    (1u16..=65000, 0u16..=500).prop_map(|(first, more)| first..=first + more)
}

fn any_spec() -> impl Strategy<Value = PortSpec> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let from = prop::collection::btree_set(
        (any::<IpAddr>(), 0u8..=32)
            .prop_map(|(ip, prefix)| crate::ipam::network_of(IpNetwork::new(ip, prefix).unwrap())),
        0..3,
    );
    (any::<Option<IpAddr>>(), any_range(), proptest::option::of(1u16..=65000), protocol, from)
        .prop_map(|(ip, container, first, protocol, from)| PortSpec {
            host_ip: ip.map(|ip: IpAddr| ip.to_canonical()),
            host: first.map(|first| {
                let more = container.end() - container.start();
                first..=first + more
            }),
            container,
            protocol,
            from: from.into_iter().collect(),
        })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(spec in any_spec()) {
        prop_assert_eq!(spec.to_string().parse::<PortSpec>(), Ok(spec));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "[0-9a-f.:\\[\\]/,=\\-tcpudfrom]{0,40}") {
        if let Ok(spec) = text.parse::<PortSpec>() {
            prop_assert!(!spec.expand().is_empty());
        }
        let _ = text.parse::<Expose>();
    }

    #[test]
    fn expansion_covers_the_container_range(spec in any_spec()) {
        let ports: Vec<u16> = spec.expand().iter().map(|r| r.container_port).collect();
        prop_assert_eq!(ports, spec.container.collect::<Vec<_>>());
    }
}
