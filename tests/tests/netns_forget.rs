//! A flow that is over is ended, and nothing else: not even the connection that
//! begins under its tuple while it is being ended.

use std::{
    cell::{Cell, RefCell},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use netd::datapath::flows::FlowTables;
use netd_common::conntrack::State;
use netd_tests::{DEADLINE, Family, NetNs, SILENCE, Topology, eventually, topology::at};

/// From a client to a server.
struct Way<'a> {
    client: &'a NetNs,
    to: SocketAddr,
    server: TcpListener,
}

impl Way<'_> {
    /// Both ends of a connection, the client's first.
    fn connect(&self, from: SocketAddr) -> (TcpStream, TcpStream) {
        let client = self.client.connect_from(from, self.to, DEADLINE).expect("connect");
        let (server, _) = self.server.accept().expect("a connection");
        client.set_read_timeout(Some(SILENCE)).expect("set a deadline");
        (client, server)
    }

    /// A connection that is over. The server closes first, so that the
    /// client's port is free again.
    fn closed(&self, from: SocketAddr) {
        let (mut client, server) = self.connect(from);
        drop(server);
        assert_eq!(client.read(&mut [0]).expect("the server closes"), 0);
    }
}

/// Whoever answers speaks first: a packet of the client's would open anew what
/// was lost.
fn lives((client, server): &mut (TcpStream, TcpStream)) -> bool {
    let mut byte = [0];
    server.write_all(b"!").is_ok() && client.read_exact(&mut byte).is_ok()
}

/// Ends the flows that are closing. Before it goes on after the `n`th look at
/// one that is, `meanwhile` is done; `None`: there were not so many looks.
fn end_closing<T>(tables: &FlowTables, n: u16, meanwhile: impl Fn() -> T) -> Option<T> {
    let (looks, done) = (Cell::new(0), RefCell::new(None));
    let ends = tables.end(|_, flow| {
        let is_over = State::from_u8(flow.state) == State::Closing;
        if is_over {
            looks.set(looks.get() + 1);
            if looks.get() == n {
                done.replace(Some(meanwhile()));
            }
        }
        is_over
    });
    ends.expect("the tables can be walked");
    done.into_inner()
}

#[test]
fn a_connection_that_begins_under_a_tuple_that_is_being_ended_is_not_lost() {
    let net = Topology::new();
    let agent = net.agent();
    agent.network("blue", "172.18.0.0/16", "--ipv6 --subnet fd00:18::/64");
    let web = agent.container("web", "--network blue -p 8080:80");
    let tables = FlowTables::open(&agent.pins()).expect("the tables are pinned");
    let closing = || {
        let flows = tables.list().expect("the tables can be walked");
        flows.iter().filter(|flow| flow.state == State::Closing).count()
    };
    // They stay open: so there is one flow at a time that is closing.
    let mut connections = Vec::new();
    for family in Family::ALL {
        let listen =
            |ns: &NetNs, port| ns.run(|| TcpListener::bind(family.any(port))).expect("listen");
        let ways = [
            Way { client: &net.outside, to: at(family.host(), 8080), server: listen(&web.ns, 80) },
            Way { client: &web.ns, to: at(family.outside(), 7), server: listen(&net.outside, 7) },
        ];
        for way in ways {
            for n in 1.. {
                let from = family.any(40_000 + n).parse().expect("an address");
                way.closed(from);
                eventually(DEADLINE, "the flow is over", || (closing() == 1).then_some(()));
                let begun = end_closing(&tables, n, || way.connect(from));
                assert_eq!(closing(), 0, "what is over has ended");
                let Some(mut connection) = begun else {
                    assert!(n > 5, "to {}: {n} looks are not all", way.to);
                    break;
                };
                assert!(lives(&mut connection), "to {}, begun after look {n}", way.to);
                connections.push(connection);
            }
        }
    }
}
