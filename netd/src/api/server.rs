//! The server's end: routes that turn HTTP into [`Request`]s. It decides
//! nothing: what a request means is the agent's.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path as UrlPath, Query, Request as HttpRequest, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use super::listener::{Listener, ServerError};
use super::{
    limits::Limits,
    monitor,
    service::{Handle, Kind, Removal, Request, ServiceError, Which},
    types::{ApiError, Connect, ContainerCreate, NetworkCreate, Ports, Started, Stop},
};

impl Listener {
    /// Answers with the control API until `shutdown` ends, then finishes the
    /// requests in hand.
    pub async fn serve(self, handle: Handle, shutdown: impl Future<Output = ()> + Send + 'static) {
        self.serve_router(router(handle), Limits::default(), shutdown).await;
    }
}

/// Every route of [`super::types`].
pub fn router(handle: Handle) -> Router {
    let counts = handle.counts().clone();
    let routes = Router::new()
        .route("/v1/info", get(info))
        .route("/v1/networks", get(network_list).post(network_create))
        .route(
            "/v1/networks/{name}",
            get(network_inspect).delete(network_remove).post(network_prune),
        )
        .route("/v1/networks/{name}/connect", post(network_connect))
        .route("/v1/networks/{name}/disconnect", post(network_disconnect))
        .route("/v1/containers", get(container_list).post(container_create))
        .route("/v1/containers/{name}", get(container_inspect).delete(container_remove))
        .route("/v1/containers/{name}/sandbox", get(container_sandbox))
        .route("/v1/containers/{name}/started", post(container_started))
        .route("/v1/containers/{name}/stop", post(container_stop))
        .route("/v1/ports", get(port_list))
        .route("/v1/containers/{name}/ports", post(port_add).merge(delete(port_remove)))
        .route("/v1/ipam", get(ipam))
        .route("/v1/flows", get(flows))
        .route("/v1/stats", get(stats))
        .route("/v1/monitor", get(monitor))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route);
    counts.count(routes).with_state(handle)
}

type Answer = Result<Response, ServiceError>;
type Agent = State<Handle>;

fn ok<T: Serialize>(body: T) -> Response {
    Json(body).into_response()
}

fn created<T: Serialize>(body: T) -> Response {
    (StatusCode::CREATED, Json(body)).into_response()
}

fn done((): ()) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

async fn info(State(agent): Agent) -> Answer {
    agent.call(Request::Info).await.map(ok)
}

async fn network_list(State(agent): Agent) -> Answer {
    agent.call(Request::NetworkList).await.map(ok)
}

async fn network_create(State(agent): Agent, Body(body): Body<NetworkCreate>) -> Answer {
    agent.call(|reply| Request::NetworkCreate(body, reply)).await.map(created)
}

/// `POST /v1/networks/prune`. A route of its own would hide a network of this
/// name from the other methods.
async fn network_prune(State(agent): Agent, Named(name): Named, uri: Uri) -> Answer {
    if name != "prune" {
        return Err(unknown_route(Method::POST, uri).await);
    }
    agent.call(Request::NetworkPrune).await.map(ok)
}

async fn network_inspect(State(agent): Agent, Named(name): Named) -> Answer {
    agent.call(|reply| Request::NetworkInspect(name, reply)).await.map(ok)
}

async fn network_remove(State(agent): Agent, Named(name): Named) -> Answer {
    agent.call(|reply| Request::NetworkRemove(name, reply)).await.map(done)
}

async fn network_connect(
    State(agent): Agent,
    Named(name): Named,
    Body(body): Body<Connect>,
) -> Answer {
    agent.call(|reply| Request::NetworkConnect(name, body, reply)).await.map(done)
}

async fn network_disconnect(
    State(agent): Agent,
    Named(name): Named,
    Body(body): Body<Connect>,
) -> Answer {
    agent.call(|reply| Request::NetworkDisconnect(name, body, reply)).await.map(done)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    all: bool,
}

async fn container_list(
    State(agent): Agent,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer {
    let which = if query?.all { Which::All } else { Which::Running };
    agent.call(|reply| Request::ContainerList(which, reply)).await.map(ok)
}

async fn container_create(State(agent): Agent, Body(body): Body<ContainerCreate>) -> Answer {
    agent.call(|reply| Request::ContainerCreate(body, reply)).await.map(created)
}

async fn container_inspect(State(agent): Agent, Named(name): Named) -> Answer {
    agent.call(|reply| Request::ContainerInspect(name, reply)).await.map(ok)
}

async fn container_sandbox(State(agent): Agent, Named(name): Named) -> Answer {
    agent.call(|reply| Request::ContainerSandbox(name, reply)).await.map(ok)
}

async fn container_started(
    State(agent): Agent,
    Named(name): Named,
    Body(body): Body<Started>,
) -> Answer {
    agent.call(|reply| Request::ContainerStarted(name, body, reply)).await.map(done)
}

async fn container_stop(State(agent): Agent, Named(name): Named, Body(body): Body<Stop>) -> Answer {
    agent.call(|reply| Request::ContainerStop(name, body, reply)).await.map(done)
}

#[derive(Deserialize)]
struct RemoveQuery {
    #[serde(default)]
    force: bool,
}

async fn container_remove(
    State(agent): Agent,
    Named(name): Named,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Answer {
    let removal = if query?.force { Removal::Force } else { Removal::IfStopped };
    agent.call(|reply| Request::ContainerRemove(name, removal, reply)).await.map(done)
}

#[derive(Deserialize)]
struct PortQuery {
    container: Option<String>,
}

async fn port_list(State(agent): Agent, query: Result<Query<PortQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    agent.call(|reply| Request::PortList(query.container, reply)).await.map(ok)
}

async fn port_add(State(agent): Agent, Named(name): Named, Body(body): Body<Ports>) -> Answer {
    agent.call(|reply| Request::PortAdd(name, body, reply)).await.map(created)
}

async fn port_remove(State(agent): Agent, Named(name): Named, Body(body): Body<Ports>) -> Answer {
    agent.call(|reply| Request::PortRemove(name, body, reply)).await.map(done)
}

async fn ipam(State(agent): Agent) -> Answer {
    agent.call(Request::Ipam).await.map(ok)
}

async fn flows(State(agent): Agent) -> Answer {
    agent.call(Request::Flows).await.map(ok)
}

async fn stats(State(agent): Agent) -> Answer {
    agent.call(Request::Stats).await.map(ok)
}

async fn monitor(
    State(agent): Agent,
    query: Result<Query<monitor::Filter>, QueryRejection>,
) -> Answer {
    let Query(filter) = query?;
    agent.call(|reply| Request::Monitor(filter, reply)).await.map(monitor::answer)
}

async fn unknown_route(method: Method, uri: Uri) -> ServiceError {
    ServiceError::not_found(format!("no such route: {method} {}", uri.path()))
}

/// The name in the path, as the user typed it.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServiceError> {
        UrlPath::from_request_parts(parts, state)
            .await
            .map(|UrlPath(name)| Self(name))
            .map_err(|rejection| ServiceError::bad_request(rejection.body_text()))
    }
}

/// A JSON body, whatever its content type says: the socket has one protocol,
/// and `curl --data` sets another.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ServiceError;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, ServiceError> {
        let bytes = Bytes::from_request(request, state).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ServiceError::bad_request(format!("invalid request body: {error}")))
    }
}

impl From<BytesRejection> for ServiceError {
    fn from(rejection: BytesRejection) -> Self {
        Self::bad_request(format!("invalid request body: {}", rejection.body_text()))
    }
}

impl From<QueryRejection> for ServiceError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let status = match self.kind {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = ApiError { message: self.message, hint: self.hint };
        (status, Json(body)).into_response()
    }
}
