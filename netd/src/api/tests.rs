//! Both ends over a real socket, with a fake agent in between.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::oneshot,
};

use super::{
    limits::Limits,
    server::{Listener, ServerError, router},
    service::{Removal, Which},
    types::{ContainerCreate, Created, NetworkCreate, Ports, Pruned},
    *,
};

mod hostile;

/// A server whose agent is `answer`; ends when dropped.
struct Fake {
    dir: TempDir,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Fake {
    fn start(answer: impl Fn(Request) + Send + 'static) -> Self {
        Self::within(Limits::default(), answer)
    }

    fn within(limits: Limits, answer: impl Fn(Request) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/netd.sock");
        let (handle, mut requests) = Handle::channel(8);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                answer(request);
            }
        });
        let listener = Listener::bind(&socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(listener.serve_router(router(handle), limits, async {
            let _ = stopped.await;
        }));
        Self { dir, client: Client::new(socket), stop: Some(stop), served }
    }

    fn socket(&self) -> &Path {
        self.client.socket()
    }

    /// A request by hand: the status line's code and the body.
    async fn raw(&self, request: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: netd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer[9..12].parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }
}

fn silent(_: Request) {}

#[tokio::test]
async fn a_request_reaches_the_agent_and_its_answer_the_client() {
    let fake = Fake::start(|request| match request {
        Request::NetworkCreate(body, reply) => {
            assert_eq!(body.subnets, ["10.1.0.0/16"]);
            let _ = reply.send(Ok(Created { id: format!("id of {}", body.name) }));
        }
        other => panic!("unexpected {other:?}"),
    });
    let body = NetworkCreate {
        name: "blue".into(),
        subnets: vec!["10.1.0.0/16".into()],
        ..NetworkCreate::default()
    };
    let created = fake.client.network_create(&body).await.unwrap();
    assert_eq!(created.id, "id of blue");
}

#[tokio::test]
async fn names_arrive_as_they_were_typed() {
    let fake = Fake::start(|request| match request {
        Request::NetworkInspect(name, reply) => {
            let _ = reply.send(Ok(json!({ "Name": name })));
        }
        other => panic!("unexpected {other:?}"),
    });
    for name in ["prune", "a b", "x/../y", "ä?all=1", "%2F"] {
        let network = fake.client.network_inspect(name).await.unwrap();
        assert_eq!(network["Name"], name);
    }
}

#[tokio::test]
async fn queries_choose_the_variant() {
    let fake = Fake::start(|request| match request {
        Request::ContainerList(which, reply) => {
            let kind = match which {
                Which::All => ServiceError::conflict("all"),
                Which::Running => ServiceError::conflict("running"),
            };
            let _ = reply.send(Err(kind));
        }
        Request::ContainerRemove(name, removal, reply) => {
            assert_eq!(name, "web");
            let _ = reply.send(match removal {
                Removal::Force => Ok(()),
                Removal::IfStopped => Err(ServiceError::conflict("it runs")),
            });
        }
        Request::PortList(container, reply) => {
            let _ = reply.send(Err(ServiceError::conflict(format!("{container:?}"))));
        }
        Request::NetworkPrune(reply) => {
            let _ = reply.send(Ok(Pruned { networks_deleted: vec![] }));
        }
        other => panic!("unexpected {other:?}"),
    });
    let client = &fake.client;
    let text = |error: ClientError| error.to_string();
    assert_eq!(text(client.containers_all().await.unwrap_err()), "all");
    assert_eq!(text(client.containers().await.unwrap_err()), "running");
    assert_eq!(text(client.container_remove("web").await.unwrap_err()), "it runs");
    client.container_remove_force("web").await.unwrap();
    assert_eq!(text(client.ports(Some("a b")).await.unwrap_err()), "Some(\"a b\")");
    assert_eq!(text(client.ports(None).await.unwrap_err()), "None");
    assert!(client.network_prune().await.unwrap().networks_deleted.is_empty());
}

#[tokio::test]
async fn a_delete_may_have_a_body() {
    let fake = Fake::start(|request| match request {
        Request::PortRemove(name, ports, reply) => {
            assert_eq!((name.as_str(), ports.specs.as_slice()), ("web", &["80".to_owned()][..]));
            let _ = reply.send(Ok(()));
        }
        other => panic!("unexpected {other:?}"),
    });
    let body = Ports { specs: vec!["80".into()] };
    fake.client.port_remove("web", &body).await.unwrap();
}

#[tokio::test]
async fn each_kind_of_error_has_its_status_and_keeps_its_hint() {
    for (kind, expected) in [
        (Kind::BadRequest, 400),
        (Kind::NotFound, 404),
        (Kind::Conflict, 409),
        (Kind::Internal, 500),
    ] {
        let fake = Fake::start(move |request| match request {
            Request::NetworkRemove(name, reply) => {
                let error = ServiceError::new(kind, format!("no {name}")).with_hint("do this");
                let _ = reply.send(Err(error));
            }
            other => panic!("unexpected {other:?}"),
        });
        let error = fake.client.network_remove("blue").await.unwrap_err();
        let ClientError::Agent { status, error } = error else { panic!("{error:?}") };
        assert_eq!(status, expected);
        assert_eq!(error.message, "no blue");
        assert_eq!(error.hint.as_deref(), Some("do this"));
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_with_the_reason() {
    let fake = Fake::start(silent);
    let (status, body) = fake.raw("POST /v1/networks", r#"{"name":"a","subnet":"x"}"#).await;
    assert_eq!(status, 400);
    assert!(body.contains("unknown field `subnet`"), "{body}");
    let (status, body) = fake.raw("POST /v1/networks", "").await;
    assert_eq!(status, 400);
    assert!(body.starts_with(r#"{"message":"invalid request body: "#), "{body}");
    let (status, body) = fake.raw("GET /v1/containers/%FF", "").await;
    assert_eq!(status, 400);
    assert!(body.starts_with(r#"{"message":""#), "{body}");
    let (status, body) = fake.raw("GET /v1/containers?all=maybe", "").await;
    assert_eq!(status, 400);
    assert!(body.starts_with(r#"{"message":""#), "{body}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let fake = Fake::start(silent);
    let body = ContainerCreate { command: vec!["x".repeat(2 << 20)], ..ContainerCreate::default() };
    let error = fake.client.container_create(&body).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid request body: it is larger than 1 MiB");
}

#[tokio::test]
async fn an_unknown_route_or_method_is_not_found() {
    let fake = Fake::start(silent);
    let (status, body) = fake.raw("GET /v2/nothing", "").await;
    assert_eq!((status, body.as_str()), (404, r#"{"message":"no such route: GET /v2/nothing"}"#));
    let (status, body) = fake.raw("PATCH /v1/networks", "{}").await;
    assert_eq!(
        (status, body.as_str()),
        (404, r#"{"message":"no such route: PATCH /v1/networks"}"#)
    );
}

#[tokio::test]
async fn an_agent_that_drops_the_reply_is_said_to_stop() {
    let fake = Fake::start(silent);
    let error = fake.client.info().await.unwrap_err();
    assert_eq!(error.to_string(), "the agent is stopping");
}

#[tokio::test]
async fn no_agent_is_told_from_one_that_has_died() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("netd.sock");
    let client = Client::new(&socket);
    let expected = format!("cannot reach the netd agent at {}", socket.display());
    assert_eq!(client.info().await.unwrap_err().to_string(), expected);
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(client.info().await.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_goes_with_the_server() {
    let mut fake = Fake::start(silent);
    let socket = fake.socket().to_owned();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&fake.dir.path().join("run")), 0o700);
    fake.stop.take().unwrap().send(()).unwrap();
    fake.served.await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("netd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let first = Listener::bind(&socket).unwrap();
    let error = Listener::bind(&socket).unwrap_err();
    assert_eq!(error.to_string(), format!("another agent answers on {}", socket.display()));
    assert!(socket.exists());
    drop(first);
    assert!(!socket.exists());
    std::fs::write(&socket, "precious").unwrap();
    assert!(matches!(Listener::bind(&socket), Err(ServerError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}
