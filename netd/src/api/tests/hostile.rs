//! Clients that are slow, greedy or strange: none takes more than its share,
//! and the others are served meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::broadcast,
    time::timeout,
};

use super::{
    super::{
        limits::Limits,
        monitor::{Filter, Listener as Hears, Missed, MonitorEvent, Why},
    },
    *,
};

const DEADLINE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn quick() -> Limits {
    Limits { head_time: SHORT, body_time: SHORT, write_time: SHORT, ..Limits::default() }
}

/// An agent that answers `prune` with nothing done, and `inspect` at length.
fn agent(request: Request) {
    match request {
        Request::NetworkPrune(reply) => {
            let _ = reply.send(Ok(Pruned { networks_deleted: vec![] }));
        }
        Request::NetworkInspect(_, reply) => {
            let _ = reply.send(Ok(json!({ "Long": "x".repeat(8 << 20) })));
        }
        other => panic!("unexpected {other:?}"),
    }
}

async fn connect(fake: &Fake, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(fake.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that still comes.
async fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset has ended as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("the server ends it");
    String::from_utf8(text).unwrap()
}

async fn is_served(fake: &Fake) {
    fake.client.network_prune().await.unwrap();
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let fake = Fake::within(quick(), agent);
    for begun in ["", "GET /v1/", "GET /v1/info HTTP/1.1\r\nHost: netd\r\nX: "] {
        let slow = connect(&fake, begun).await;
        is_served(&fake).await;
        let answer = rest(slow).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused() {
    let fake = Fake::within(quick(), agent);
    let head = "POST /v1/networks HTTP/1.1\r\nHost: netd\r\n";
    for body in ["Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let slow = connect(&fake, &format!("{head}{body}")).await;
        is_served(&fake).await;
        let answer = rest(slow).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.ends_with(r#""invalid request body: it has not come within 0.1 s"}"#));
    }
}

#[tokio::test]
async fn a_body_of_any_size_is_refused_with_an_answer_that_its_sender_can_read() {
    let fake = Fake::within(Limits { body: 1000, ..Limits::default() }, agent);
    let large = vec![b' '; 100 << 20];
    let chunk = format!("{:x}\r\n", large.len());
    for (head, tail) in [
        (format!("Content-Length: {}\r\n\r\n", large.len()), ""),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"), "\r\n0\r\n\r\n"),
    ] {
        let head = format!("POST /v1/networks HTTP/1.1\r\nHost: netd\r\n{head}");
        let mut stream = connect(&fake, &head).await;
        stream.write_all(&large).await.unwrap();
        stream.write_all(tail.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(
            answer.ends_with(r#"{"message":"invalid request body: it is larger than 1000 B"}"#)
        );
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_not() {
    let fake = Fake::within(Limits { body: 1000, ..Limits::default() }, agent);
    let head = "POST /v1/networks HTTP/1.1\r\nHost: netd\r\nExpect: 100-continue\r\n\
                Content-Length: 2000\r\n\r\n";
    let answer = rest(connect(&fake, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_just_at_the_limit_is_read() {
    let fake = Fake::within(Limits { body: 1000, ..Limits::default() }, agent);
    let (status, answer) = fake.raw("POST /v1/networks", &" ".repeat(1000)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("EOF"), "{answer}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_those_that_go_make_room() {
    let fake = Fake::within(Limits { connections: 4, ..Limits::default() }, agent);
    let idle: Vec<_> = futures_util::future::join_all((0..4).map(|_| connect(&fake, ""))).await;
    let error = fake.client.network_prune().await.unwrap_err();
    assert_eq!(error.to_string(), "too many connections");
    drop(idle);
    let served = async {
        while fake.client.network_prune().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, served).await.expect("there is room again");
}

#[tokio::test]
async fn those_who_are_told_that_there_is_no_room_take_none() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let fake = Fake::within(limits, agent);
    let one = connect(&fake, "").await;
    // Far more than are told at a time.
    let crowd: Vec<_> = futures_util::future::join_all((0..400).map(|_| connect(&fake, ""))).await;
    for stream in crowd {
        assert!(!rest(stream).await.starts_with("HTTP/1.1 2"));
    }
    drop(one);
    let served = async {
        while fake.client.network_prune().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, served).await.expect("there is room again");
}

#[tokio::test]
async fn who_reads_no_answer_loses_the_connection() {
    let fake = Fake::within(Limits { connections: 1, ..quick() }, agent);
    let request = "GET /v1/networks/a HTTP/1.1\r\nHost: netd\r\n\r\n";
    let deaf = connect(&fake, request).await;
    let served = async {
        while fake.client.network_prune().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, served).await.expect("the one connection is free again");
    assert!(rest(deaf).await.len() < 8 << 20);
}

#[tokio::test]
async fn an_answer_without_an_end_waits_for_its_reader() {
    const LINES: usize = 30_000;
    let (sender, _) = broadcast::channel(LINES);
    let source = sender.clone();
    let fake = Fake::within(quick(), move |request| match request {
        Request::Monitor(filter, reply) => {
            let _ = reply.send(Ok(Hears::new(source.subscribe(), filter, None)));
        }
        other => agent(other),
    });
    let mut lines = fake.client.monitor(&Filter::default()).await.unwrap();
    for count in 0..LINES as u64 {
        let missed = MonitorEvent::Missed(Missed { count, why: Why::Sampled });
        sender.send(Arc::new(missed)).unwrap();
    }
    // Long enough for any other answer to be given up.
    tokio::time::sleep(SHORT * 4).await;
    for count in 0..LINES {
        let line = timeout(DEADLINE, lines.next()).await.unwrap().unwrap().expect("a line");
        assert!(line.contains(&format!("\"Count\":{count},")), "{line}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let fake = Fake::within(Limits::default(), agent);
    let long = format!("GET /v1/info HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let many = format!("GET /v1/info HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(2000));
    let both = "POST /v1/networks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n";
    for (request, status) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\n\r\n", "400"),
        (&long, "431"),
        (&many, "431"),
        ("POST /v1/networks HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"),
        (both, "400"),
    ] {
        let answer = rest(connect(&fake, request).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
    }
    is_served(&fake).await;
}

#[tokio::test]
async fn a_connection_has_one_request() {
    let fake = Fake::within(Limits::default(), agent);
    let request = "POST /v1/networks/prune HTTP/1.1\r\nHost: netd\r\n\r\n";
    let answer = rest(connect(&fake, &request.repeat(3)).await).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}
