//! The client's end: one call a route. A connection lives for one call; on a
//! unix socket that costs nothing, and an agent that was restarted in between
//! is no special case.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HOST},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::UnixStream;

use super::{
    exchange::{Driver, exchange},
    monitor::Filter,
    types::{
        ApiError, Connect, ContainerCreate, ContainerSummary, Created, FlowRow, Info, LeaseRow,
        NetworkCreate, NetworkSummary, PortRow, Ports, Pruned, Sandbox, Started, StatRow, Stop,
    },
};

#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or there is no socket.
    #[error("cannot reach the netd agent at {}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("permission denied on the netd agent's socket {}", .0.display())]
    Permission(PathBuf),
    /// The agent's own answer.
    #[error("{}", error.message)]
    Agent { status: u16, error: ApiError },
    #[error("the netd agent at {} closed the connection", socket.display())]
    Connection { socket: PathBuf, source: hyper::Error },
    /// Both ends are netd, so this is a bug or another version.
    #[error("unexpected answer of the netd agent at {} ({status})", socket.display())]
    Answer { socket: PathBuf, status: u16, source: serde_json::Error },
}

impl ClientError {
    /// The agent says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Agent { status: 404, .. })
    }
}

type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// A client of the agent that listens on `socket`. Connects with the first
    /// call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn info(&self) -> Result<Info> {
        self.get("/v1/info").await
    }

    pub async fn networks(&self) -> Result<Vec<NetworkSummary>> {
        self.get("/v1/networks").await
    }

    pub async fn network_create(&self, body: &NetworkCreate) -> Result<Created> {
        self.send(Method::POST, "/v1/networks", body).await
    }

    pub async fn network_prune(&self) -> Result<Pruned> {
        self.bare(Method::POST, "/v1/networks/prune").await
    }

    pub async fn network_inspect(&self, name: &str) -> Result<Value> {
        self.get(&path(&["networks", name])).await
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        self.bare(Method::DELETE, &path(&["networks", name])).await
    }

    pub async fn network_connect(&self, name: &str, body: &Connect) -> Result<()> {
        self.send(Method::POST, &path(&["networks", name, "connect"]), body).await
    }

    pub async fn network_disconnect(&self, name: &str, body: &Connect) -> Result<()> {
        self.send(Method::POST, &path(&["networks", name, "disconnect"]), body).await
    }

    /// The running containers.
    pub async fn containers(&self) -> Result<Vec<ContainerSummary>> {
        self.get("/v1/containers").await
    }

    pub async fn containers_all(&self) -> Result<Vec<ContainerSummary>> {
        self.get("/v1/containers?all=true").await
    }

    pub async fn container_create(&self, body: &ContainerCreate) -> Result<Sandbox> {
        self.send(Method::POST, "/v1/containers", body).await
    }

    pub async fn container_inspect(&self, name: &str) -> Result<Value> {
        self.get(&path(&["containers", name])).await
    }

    pub async fn container_sandbox(&self, name: &str) -> Result<Sandbox> {
        self.get(&path(&["containers", name, "sandbox"])).await
    }

    pub async fn container_started(&self, name: &str, body: &Started) -> Result<()> {
        self.send(Method::POST, &path(&["containers", name, "started"]), body).await
    }

    pub async fn container_stop(&self, name: &str, body: &Stop) -> Result<()> {
        self.send(Method::POST, &path(&["containers", name, "stop"]), body).await
    }

    /// Refused for a running container.
    pub async fn container_remove(&self, name: &str) -> Result<()> {
        self.bare(Method::DELETE, &path(&["containers", name])).await
    }

    /// Kills a running container first.
    pub async fn container_remove_force(&self, name: &str) -> Result<()> {
        let path = format!("{}?force=true", path(&["containers", name]));
        self.bare(Method::DELETE, &path).await
    }

    /// Of one container, or of all.
    pub async fn ports(&self, container: Option<&str>) -> Result<Vec<PortRow>> {
        let mut path = String::from("/v1/ports");
        if let Some(container) = container {
            path.push_str("?container=");
            escape(&mut path, container);
        }
        self.get(&path).await
    }

    pub async fn port_add(&self, container: &str, body: &Ports) -> Result<Vec<PortRow>> {
        self.send(Method::POST, &path(&["containers", container, "ports"]), body).await
    }

    pub async fn port_remove(&self, container: &str, body: &Ports) -> Result<()> {
        self.send(Method::DELETE, &path(&["containers", container, "ports"]), body).await
    }

    pub async fn ipam(&self) -> Result<Vec<LeaseRow>> {
        self.get("/v1/ipam").await
    }

    pub async fn flows(&self) -> Result<Vec<FlowRow>> {
        self.get("/v1/flows").await
    }

    pub async fn stats(&self) -> Result<Vec<StatRow>> {
        self.get("/v1/stats").await
    }

    /// What happens, as it happens: a stream of [`super::monitor::MonitorEvent`]s.
    pub async fn monitor(&self, filter: &Filter) -> Result<Lines> {
        let mut path = String::from("/v1/monitor?");
        for (key, words) in filter.keys() {
            let _ = write!(path, "{key}=");
            escape(&mut path, &words.join(","));
            path.push('&');
        }
        let (response, driver) = self.call(Method::GET, &path, Bytes::new()).await?;
        if response.status().is_success() {
            let body = response.into_body();
            let socket = self.socket.clone();
            return Ok(Lines { socket, body, _driver: driver, read: Vec::new() });
        }
        Err(self.refusal(response).await)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.bare(Method::GET, path).await
    }

    async fn bare<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        self.exchange(method, path, Bytes::new()).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body)
            .expect("the API's types have string keys and no fallible serializer");
        self.exchange(method, path, body.into()).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let (response, _driver) = self.call(method, path, body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await;
        let bytes = bytes.map_err(|source| self.connection_error(source))?.to_bytes();
        let json: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(json).map_err(|source| self.answer_error(status, source))
    }

    /// Sends a request; what drives its connection must live until the answer
    /// is read.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Driver)> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|source| self.connect_error(source))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "netd")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("an escaped path and constant headers make a valid request");
        exchange(stream, request).await.map_err(|source| self.connection_error(source))
    }

    /// What an answer says that is no success.
    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        match response.into_body().collect().await {
            Err(source) => self.connection_error(source),
            Ok(body) => match serde_json::from_slice(&body.to_bytes()) {
                Ok(error) => ClientError::Agent { status: status.as_u16(), error },
                Err(source) => self.answer_error(status, source),
            },
        }
    }

    fn connection_error(&self, source: hyper::Error) -> ClientError {
        ClientError::Connection { socket: self.socket.clone(), source }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Permission(self.socket.clone())
        } else {
            ClientError::Unreachable { socket: self.socket.clone(), source }
        }
    }

    fn answer_error(&self, status: StatusCode, source: serde_json::Error) -> ClientError {
        ClientError::Answer { socket: self.socket.clone(), status: status.as_u16(), source }
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Lines {
    socket: PathBuf,
    body: Incoming,
    _driver: Driver,
    /// What came after the last line feed.
    read: Vec<u8>,
}

impl Lines {
    /// The next line, without its line feed. `None`: the agent has ended the
    /// answer. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).take(end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            let broken = |source| ClientError::Connection { socket: self.socket.clone(), source };
            match self.body.frame().await.transpose().map_err(broken)? {
                Some(frame) => self.read.extend(frame.into_data().unwrap_or_default()),
                None => return Ok(None),
            }
        }
    }
}

/// `/v1/a/b/c`, each segment escaped: what the user typed reaches the agent
/// as it is, so that the agent can say what is wrong with it.
fn path(segments: &[&str]) -> String {
    let mut path = String::from("/v1");
    for segment in segments {
        path.push('/');
        escape(&mut path, segment);
    }
    path
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(path(&["networks", "a b/../c?é"]), "/v1/networks/a%20b%2F..%2Fc%3F%C3%A9");
    }
}
