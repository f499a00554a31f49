//! docker-compose on networks of netd's.

use std::time::Instant;

use netd_tests::{
    DEADLINE, Docker, SILENCE, Topology, eventually, exchange,
    json::rows,
    probe,
    topology::{HOST, OUTSIDE, at},
};

/// `web` is published and speaks with `api`, which alone speaks with `cache`.
const SHOP: &str = r#"
version: "2.4"
services:
  web:
    image: box
    networks: [front]
    ports: ["8080:80"]
    command: [sh, -c, "echo web > /www/index.html; exec httpd -f -h /www"]
    stop_signal: SIGKILL
    depends_on: [api]
  api:
    image: box
    networks: [front, back]
    command: [sh, -c, "echo api > /www/index.html; exec httpd -f -h /www"]
    stop_signal: SIGKILL
    depends_on: [cache]
  cache:
    image: box
    networks: [back]
    command: [sh, -c, "echo cache > /www/index.html; exec httpd -f -h /www"]
    stop_signal: SIGKILL
networks:
  front:
    driver: netd
    ipam: {driver: netd, config: [{subnet: 172.30.1.0/24}]}
  back:
    driver: netd
    ipam: {driver: netd}
"#;

#[test]
fn three_services_on_two_networks_come_up_scale_and_go_down() {
    let net = Topology::new();
    let (docker, agent) = net.docker_and_netd();
    docker.compose("shop", SHOP, "up -d").ok();
    fetches(&docker, "shop_web_1", "api");
    fetches(&docker, "shop_api_1", "cache");
    fetches(&docker, "shop_api_1", "web");
    fetches(&docker, "shop_cache_1", "api");
    let (web, cache) = (docker.find("shop_web_1"), docker.find("shop_cache_1"));
    assert!(!probe::reaches_tcp(&web.ns, cache.at(80), SILENCE), "not on one network");
    let mut page = net.outside.connect(at(HOST, 8080));
    request(&mut page);
    // The gateway is on one of two networks, and works.
    let api = docker.find("shop_api_1");
    let outside = net.outside.echo_tcp("0.0.0.0:7");
    exchange(&mut api.ns.connect(at(OUTSIDE, 7)), b"hello");
    assert_eq!(outside.peers()[0].ip(), HOST);
    drop((web, cache, api));

    docker.compose("shop", SHOP, "up -d --scale api=5").ok();
    for n in 1..=5 {
        fetches(&docker, &format!("shop_api_{n}"), "cache");
        fetches(&docker, "shop_web_1", &format!("shop_api_{n}"));
    }
    let said = docker.exec("shop_web_1", "nslookup api 127.0.0.11").ok();
    assert_eq!(said.matches("172.30.1.").count(), 5, "{said}");
    eventually(DEADLINE, "netd knows all of their names", || {
        let list = agent.json("ps");
        let named = |row| netd_tests::json::text(row, "/Name").starts_with("shop_");
        (rows(&list).len() == 7 && rows(&list).iter().all(named)).then_some(())
    });

    docker.compose("shop", SHOP, "down").ok();
    assert_eq!(docker.docker("ps -aq").ok(), "");
    docker.wait_for_shims();
    agent.assert_clean();
}

#[track_caller]
fn fetches(docker: &Docker, from: &str, name: &str) {
    let page = name.trim_start_matches("shop_").split('_').next().expect("a service");
    let line = format!("wget -qO- http://{name}/");
    let mut answer = docker.exec(from, &line);
    // httpd may not listen yet.
    let start = Instant::now();
    while answer.stdout.trim() != page {
        assert!(start.elapsed() < DEADLINE, "{from} fetches {name}'s page: {answer}");
        answer = docker.exec(from, &line);
    }
}

#[track_caller]
fn request(stream: &mut std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("receive");
    assert!(answer.ends_with("web\n"), "{answer}");
}
