//! A store that was cut short or overwritten: the error says so, and nothing is
//! done by what is left of it.

use std::fs;

use netd_tests::{
    Topology, exchange,
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
    agent.start_again();
    exchange(&mut stream, b"goes on");
    agent.netd("rm -f web").ok();
    agent.assert_clean();
}
