//! One request on a connection of its own: to the agent, from its relay, and
//! from the agent to dockerd.

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::JoinSet};

/// Moves a connection's bytes: an answer's body comes for as long as this
/// lives, and the connection ends with it.
#[derive(Debug)]
pub(super) struct Driver {
    _connection: JoinSet<hyper::Result<()>>,
}

pub(super) async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(Response<Incoming>, Driver)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    // Its own error comes out of the call below.
    driver.spawn(connection);
    Ok((sender.send_request(request).await?, Driver { _connection: driver }))
}
