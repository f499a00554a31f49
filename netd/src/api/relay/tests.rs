use std::path::PathBuf;

use axum::{Json, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener as AsyncListener, UnixStream},
    sync::oneshot,
    time::{Instant, timeout},
};

use super::*;

/// Far longer than anything here takes, far shorter than dockerd's patience.
const SOON: Duration = Duration::from_secs(20);

struct Relay {
    dir: TempDir,
    _stop: oneshot::Sender<()>,
}

impl Relay {
    fn start(grace: Duration, patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&dir.path().join("plugins/netd.sock")).unwrap();
        let router = router(Agent::new(&dir.path().join("plugin.sock"), grace, patience));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(
            listener.serve_router(router, server::limits(), async { drop(stopped.await) }),
        );
        Self { dir, _stop: stop }
    }

    fn agent_socket(&self) -> PathBuf {
        self.dir.path().join("plugin.sock")
    }

    /// An agent that answers every method with its name and arguments.
    fn start_agent(&self) {
        let echo = async |uri: axum::http::Uri, body: String| {
            Json(json!({ "method": uri.path(), "body": body }))
        };
        let router = Router::new()
            .route("/NetworkDriver.Fly", post(async || (StatusCode::NOT_FOUND, "no wings")))
            .fallback(echo);
        let listener = Listener::bind(&self.agent_socket()).unwrap();
        tokio::spawn(async move {
            listener.serve_router(router, server::limits(), std::future::pending()).await;
        });
    }

    /// Status and body of a `POST`, as Docker sends it.
    async fn post(&self, method: &str, body: &str) -> (u16, String) {
        let ask = async {
            let path = self.dir.path().join("plugins/netd.sock");
            let mut stream = UnixStream::connect(path).await.unwrap();
            let head = format!(
                "POST /{method} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + body).as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(SOON, ask).await.expect("Docker is not kept waiting");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn json(&self, method: &str) -> Value {
        let (status, body) = self.post(method, "{}").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn text<'a>(answer: &'a Value, key: &str) -> &'a str {
    answer[key].as_str().unwrap_or_else(|| panic!("{answer} has a {key}"))
}

#[tokio::test]
async fn a_call_and_its_answer_pass_as_they_are() {
    let relay = Relay::start(SOON, SOON);
    relay.start_agent();
    let (status, body) = relay.post("NetworkDriver.Join", r#"{"NetworkID":"n"}"#).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({ "method": "/NetworkDriver.Join", "body": r#"{"NetworkID":"n"}"# }));
    let (status, body) = relay.post("NetworkDriver.Fly", "").await;
    assert_eq!((status, body.as_str()), (404, "no wings"));
}

#[tokio::test]
async fn a_body_of_a_container_with_every_port_passes() {
    let relay = Relay::start(SOON, SOON);
    relay.start_agent();
    let (status, answer) = relay.post("NetworkDriver.Join", &"x".repeat(13 << 20)).await;
    assert_eq!(status, 200);
    assert!(answer.len() > 13 << 20, "{}", answer.len());
}

#[tokio::test]
async fn without_an_agent_each_driver_gets_an_error_of_its_own_shape() {
    let relay = Relay::start(Duration::from_millis(50), SOON);
    let answer = relay.json("NetworkDriver.CreateNetwork").await;
    assert!(text(&answer, "Err").starts_with("netd's agent is not running"), "{answer}");
    let answer = relay.json("IpamDriver.RequestPool").await;
    assert!(text(&answer, "Error").starts_with("netd's agent is not running"), "{answer}");
}

#[tokio::test]
async fn without_an_agent_dockerd_still_registers_the_drivers() {
    // It would not wait: its first answer is final.
    let relay = Relay::start(SOON * 10, SOON);
    let answer = relay.json("Plugin.Activate").await;
    assert_eq!(answer["Implements"], json!(["NetworkDriver", "IpamDriver"]));
    assert_eq!(relay.json("NetworkDriver.GetCapabilities").await["Scope"], "local");
    assert_eq!(relay.json("IpamDriver.GetCapabilities").await["RequiresMACAddress"], false);
    let spaces = relay.json("IpamDriver.GetDefaultAddressSpaces").await;
    assert!(!text(&spaces, "LocalDefaultAddressSpace").is_empty());
}

#[tokio::test]
async fn a_call_waits_for_an_agent_that_is_about_to_be_back() {
    let relay = Relay::start(SOON * 10, SOON);
    let call = relay.json("NetworkDriver.Leave");
    let agent = async {
        // Time for the call to find nobody; without, it only tests less.
        tokio::time::sleep(Duration::from_millis(100)).await;
        relay.start_agent();
    };
    let (answer, ()) = tokio::join!(call, agent);
    assert_eq!(answer["method"], "/NetworkDriver.Leave");
}

#[test]
fn the_wait_is_one_for_all_calls_and_begins_anew_with_the_next_absence() {
    let agent = Agent::new("none".as_ref(), GRACE, PATIENCE);
    let start = Instant::now();
    let missed = |after: Duration| agent.missed(start + after);
    assert_eq!(missed(Duration::ZERO), Duration::ZERO);
    assert_eq!(missed(GRACE / 2), GRACE / 2);
    assert_eq!(missed(GRACE), GRACE);
    assert_eq!(missed(GRACE * 3 / 2), GRACE * 3 / 2);
    // Nobody has looked for a while: it may have been back.
    assert_eq!(missed(GRACE * 4), Duration::ZERO);
}

#[tokio::test]
async fn an_agent_that_ends_in_the_middle_of_a_call_is_told_of_and_not_asked_again() {
    let relay = Relay::start(SOON * 10, SOON);
    let agent = AsyncListener::bind(relay.agent_socket()).unwrap();
    let dies = async {
        let (mut stream, _) = agent.accept().await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(relay.json("IpamDriver.RequestAddress"), dies);
    assert_eq!(text(&answer, "Error"), "netd's agent ended before it answered; try again");
}

#[tokio::test]
async fn an_agent_that_is_stuck_does_not_hold_docker_for_ever() {
    let relay = Relay::start(SOON, Duration::from_millis(100));
    let agent = AsyncListener::bind(relay.agent_socket()).unwrap();
    let answer = relay.json("NetworkDriver.Join").await;
    assert!(text(&answer, "Err").starts_with("netd's agent gave no answer within"), "{answer}");
    drop(agent);
}
