//! What the server asks of the agent. One message a request, each with the
//! way its answer goes back; the agent's actor is the one reader.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub use crate::controller::Kind;

use super::{
    docker::Call,
    metrics::{Requests, Snapshot},
    monitor::{Filter, Listener},
    types::{
        Connect, ContainerCreate, ContainerSummary, Created, FlowRow, Info, LeaseRow,
        NetworkCreate, NetworkSummary, PortRow, Ports, Pruned, Sandbox, Started, StatRow, Stop,
    },
};

/// Where an answer goes. A send that fails means that the client has left.
pub type Reply<T> = oneshot::Sender<Result<T, ServiceError>>;

/// A request, its arguments and its answer's way back. Names are as the user
/// typed them: a name, an id, or an id's unique prefix.
#[derive(Debug)]
pub enum Request {
    Info(Reply<Info>),
    NetworkList(Reply<Vec<NetworkSummary>>),
    NetworkCreate(NetworkCreate, Reply<Created>),
    NetworkPrune(Reply<Pruned>),
    NetworkInspect(String, Reply<Value>),
    NetworkRemove(String, Reply<()>),
    NetworkConnect(String, Connect, Reply<()>),
    NetworkDisconnect(String, Connect, Reply<()>),
    ContainerList(Which, Reply<Vec<ContainerSummary>>),
    ContainerCreate(ContainerCreate, Reply<Sandbox>),
    ContainerInspect(String, Reply<Value>),
    ContainerSandbox(String, Reply<Sandbox>),
    ContainerStarted(String, Started, Reply<()>),
    ContainerStop(String, Stop, Reply<()>),
    ContainerRemove(String, Removal, Reply<()>),
    /// Of one container, or of all.
    PortList(Option<String>, Reply<Vec<PortRow>>),
    PortAdd(String, Ports, Reply<Vec<PortRow>>),
    PortRemove(String, Ports, Reply<()>),
    Ipam(Reply<Vec<LeaseRow>>),
    Flows(Reply<Vec<FlowRow>>),
    Stats(Reply<Vec<StatRow>>),
    Monitor(Filter, Reply<Listener>),
    Metrics(Reply<Snapshot>),
    /// Docker's, as its plugin; the answer is as it goes out.
    Docker(Box<Call>, Reply<Value>),
}

/// The containers that a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Running,
    All,
}

/// What becomes of a running container on removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is refused.
    IfStopped,
    /// It is killed first.
    Force,
}

/// Why a request failed, as the client will see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

/// The way to the agent's actor.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    counts: Requests,
}

impl Handle {
    /// A handle, and the end that the actor reads.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(capacity);
        (Self::new(requests), receiver)
    }

    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests, counts: Requests::default() }
    }

    /// How often it was asked, and how quick it was.
    pub fn counts(&self) -> &Requests {
        &self.counts
    }

    /// Sends the request that `make` builds around its reply, and waits.
    /// [`Kind::Internal`] when the actor has ended.
    pub async fn call<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || ServiceError::internal("the agent is stopping");
        self.requests.send(make(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

impl ServiceError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
