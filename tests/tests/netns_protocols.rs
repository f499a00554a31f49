//! Protocols without ports go out under the host's address, as they are.

use netd_tests::{
    Agent, Container, DEADLINE, Family, RawSocket, SILENCE, Topology,
    frame::{self, Carried, Macs},
    json::{rows, text},
};

const GRE: u8 = 47;
const ESP: u8 = 50;
const SCTP: u8 = 132;
const PAYLOAD: &[u8] = b"an SPI or a key, a number, and what is nobody's concern";

/// A namespace's link as one that speaks raw frames to its next hop.
struct Speaker {
    link: RawSocket,
    macs: Macs,
    own: std::net::IpAddr,
}

impl Speaker {
    fn container(container: &Container, family: Family) -> Self {
        let gateway = family.pick("172.18.0.1", "fd00:18::1").parse().expect("an address");
        let macs = (container.mac_bytes(), container.neighbour(gateway));
        let link = RawSocket::open(&container.ns, "eth0");
        Self { link, macs, own: container.address(family) }
    }

    fn outside(net: &Topology, family: Family) -> Self {
        let link = RawSocket::open(&net.outside, "eth0");
        let host = RawSocket::open(&net.host, "up0").mac;
        Self { macs: (link.mac, host), link, own: family.outside() }
    }

    fn send(&self, to: std::net::IpAddr, protocol: u8, payload: &[u8]) {
        self.link.send(&frame::ip(self.macs, self.own, to, protocol, payload));
    }

    /// The next packet of this protocol that is not our own.
    fn hears(&self, protocol: u8, payload: &[u8]) -> Option<Carried> {
        let wanted = |it: &Carried| it.protocol == protocol && it.payload == payload;
        let theirs = |frame: &[u8]| frame.get(6..12) != Some(&self.macs.0[..]);
        let found = self.link.wait_for(DEADLINE, |frame| {
            theirs(frame) && frame::carried(frame).is_some_and(|it| wanted(&it))
        });
        frame::carried(&found?)
    }
}

fn neighbours(agent: &Agent, family: Family) -> (Container, Container) {
    agent.network("mine", "172.18.0.0/16", family.pick("", "--ipv6 --subnet fd00:18::/64"));
    let one = agent.container("one", "--network mine");
    (one, agent.container("two", "--network mine"))
}

fn there_and_back(family: Family) {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent, family);
    let outside = Speaker::outside(&net, family);
    let (one, two) = (Speaker::container(&one, family), Speaker::container(&two, family));

    for protocol in [GRE, ESP] {
        let answer = [PAYLOAD, b", answered"].concat();
        // Twice each: the first packet of a flow and one more.
        for _ in 0..2 {
            one.send(family.outside(), protocol, PAYLOAD);
            let seen = outside.hears(protocol, PAYLOAD).expect("it arrives outside");
            assert_eq!((seen.src, seen.dst), (family.host(), family.outside()));
            outside.send(family.host(), protocol, &answer);
            let seen = one.hears(protocol, &answer).expect("it arrives inside");
            assert_eq!((seen.src, seen.dst), (family.outside(), one.own));
        }

        // There is nothing to tell a second one's answers by.
        let before = agent.dropped("tuple_taken");
        let other = [PAYLOAD, b", of another"].concat();
        two.send(family.outside(), protocol, &other);
        agent.expect_dropped("tuple_taken", before);
        let leaked = outside.link.wait_for(SILENCE, |frame| frame.ends_with(&other));
        assert_eq!(leaked, None, "a second container's does not leave");
    }
    let flows = agent.json("flows");
    let gre = rows(&flows).iter().filter(|flow| text(flow, "/Nat") == "snat").count();
    assert!(gre >= 2, "{flows:#}");
}

#[test]
fn there_and_back_ipv4() {
    there_and_back(Family::V4);
}

#[test]
fn there_and_back_ipv6() {
    there_and_back(Family::V6);
}

/// Ports, a tag, a checksum over them and what follows (RFC 9260 §3.1), and
/// an INIT chunk.
fn sctp(sport: u16, dport: u16) -> Vec<u8> {
    let mut packet = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    packet.extend([0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]);
    packet.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    packet
}

/// SCTP's checksum has no pseudo header: addresses change, nothing else.
fn sctp_keeps_its_ports(family: Family) {
    let net = Topology::new();
    let agent = net.agent();
    let (one, two) = neighbours(&agent, family);
    let outside = Speaker::outside(&net, family);
    let (one, two) = (Speaker::container(&one, family), Speaker::container(&two, family));

    let (ask, answer) = (sctp(5000, 36412), sctp(36412, 5000));
    for _ in 0..2 {
        one.send(family.outside(), SCTP, &ask);
        let seen = outside.hears(SCTP, &ask).expect("it arrives as it was sent");
        assert_eq!((seen.src, seen.dst), (family.host(), family.outside()));
        outside.send(family.host(), SCTP, &answer);
        let seen = one.hears(SCTP, &answer).expect("it arrives as it was sent");
        assert_eq!((seen.src, seen.dst), (family.outside(), one.own));
    }

    // Another container: by another port, yes; by the same port, no.
    let ask = sctp(5001, 36412);
    two.send(family.outside(), SCTP, &ask);
    assert!(outside.hears(SCTP, &ask).is_some(), "a port of its own");
    let before = agent.dropped("tuple_taken");
    two.send(family.outside(), SCTP, &sctp(5000, 36412));
    agent.expect_dropped("tuple_taken", before);
}

#[test]
fn sctp_keeps_its_ports_ipv4() {
    sctp_keeps_its_ports(Family::V4);
}

#[test]
fn sctp_keeps_its_ports_ipv6() {
    sctp_keeps_its_ports(Family::V6);
}

#[test]
fn an_sctp_port_that_would_have_to_change_is_refused() {
    let net = Topology::new();
    let agent = net.agent();
    let output = agent.netd("run -d --name web -p 8080:80/sctp -- sleep infinity");
    assert_ne!(output.code, 0, "{output}");
    assert!(output.error().contains("SCTP port 80 can't be published as 8080"), "{output}");
}
