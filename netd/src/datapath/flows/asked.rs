//! What a flow was opened for.

use netd_common::{
    abi::{Address, Family, Flow, FlowKey, PortKey},
    nat,
};

/// What the client of a flow asked for, and who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    port: PortKey,
    translated: bool,
    /// Whoever answers: of a published port's flow, its container.
    pub container: Address,
    pub client: Address,
}

impl Asked {
    /// The keys in `PORTS` by which the flow may have come about.
    pub fn ports(&self) -> impl Iterator<Item = PortKey> {
        let any = match self.port.addr.family() {
            Family::V4 => Address::ANY,
            Family::V6 => Address::ANY6,
        };
        // The port of any address is one of the host's: it is translated.
        let any = self.translated.then_some(PortKey { addr: any, ..self.port });
        std::iter::once(self.port).chain(any)
    }
}

/// What the flow of an entry, of either direction, was opened for.
pub fn asked(key: &FlowKey, flow: &Flow) -> Asked {
    let (src, dst) = nat::translated(key, flow);
    let port = |addr, port| PortKey { addr, port, proto: key.proto, pad: 0 };
    if flow.has(Flow::ORIGINAL) {
        Asked {
            port: port(key.dst, key.dport),
            translated: flow.has(Flow::REWRITE_DST),
            container: dst,
            client: key.src,
        }
    } else {
        Asked {
            port: port(src, flow.sport),
            translated: flow.has(Flow::REWRITE_SRC),
            container: key.src,
            client: dst,
        }
    }
}

#[cfg(test)]
mod tests {
    use netd_common::abi::{Be16, Zone, wire::PROTO_TCP};

    use super::*;

    const CLIENT: Address = Address::v4([192, 0, 2, 7]);
    const HOST: Address = Address::v4([192, 0, 2, 1]);
    const CONTAINER: Address = Address::v4([172, 17, 0, 2]);

    fn key(src: Address, sport: u16, dst: Address, dport: u16) -> FlowKey {
        let (sport, dport) = (Be16::from_host(sport), Be16::from_host(dport));
        FlowKey { src, dst, sport, dport, proto: PROTO_TCP, zone: Zone::Uplink as u8, pad: 0 }
    }

    fn flow(addr: Address, flags: u8, sport: u16, dport: u16) -> Flow {
        let (sport, dport) = (Be16::from_host(sport), Be16::from_host(dport));
        Flow { addr, flags, sport, dport, ..Flow::default() }
    }

    fn port(addr: Address, port: u16) -> PortKey {
        PortKey { addr, port: Be16::from_host(port), proto: PROTO_TCP, pad: 0 }
    }

    #[test]
    fn both_directions_tell_the_published_port_that_they_are_of() {
        let original = flow(CONTAINER, Flow::ORIGINAL | Flow::REWRITE_DST, 4000, 80);
        let there = asked(&key(CLIENT, 4000, HOST, 8080), &original);
        let reply = flow(HOST, Flow::REWRITE_SRC, 8080, 4000);
        let back = asked(&key(CONTAINER, 80, CLIENT, 4000), &reply);
        assert_eq!(there, back);
        assert_eq!((there.container, there.client), (CONTAINER, CLIENT));
        let ports: Vec<_> = there.ports().collect();
        assert_eq!(ports, [port(HOST, 8080), port(Address::ANY, 8080)]);
    }

    #[test]
    fn a_container_that_reaches_itself_is_the_client() {
        let gateway = Address::v4([172, 17, 0, 1]);
        let to_self = Flow::REWRITE_SRC | Flow::REWRITE_DST | Flow::TO_SELF;
        let original = flow(gateway, Flow::ORIGINAL | to_self, 4000, 80);
        let reply = flow(HOST, to_self, 8080, 4000);
        for asked in [
            asked(&key(CONTAINER, 4000, HOST, 8080), &original),
            asked(&key(CONTAINER, 80, gateway, 4000), &reply),
        ] {
            assert_eq!((asked.container, asked.client), (CONTAINER, CONTAINER));
            assert_eq!(asked.ports().next(), Some(port(HOST, 8080)));
        }
    }

    #[test]
    fn who_comes_to_a_containers_own_address_came_by_no_port_of_the_host() {
        let direct = flow(Address::ANY, Flow::ORIGINAL, 4000, 80);
        let asked = asked(&key(CLIENT, 4000, CONTAINER, 80), &direct);
        assert_eq!(asked.ports().collect::<Vec<_>>(), [port(CONTAINER, 80)]);
    }
}
