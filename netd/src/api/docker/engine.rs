//! The other direction: what dockerd says of its networks and containers on
//! its own socket (Docker Engine API, `GET /networks` and
//! `GET /containers/json`). Plugins are told ids only; names are here.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header::HOST};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use crate::api::exchange::exchange;

/// dockerd may be busy, or starting, or waiting for this very plugin.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer, in bytes; ten thousand containers have one of 30 MB.
const LIMIT: usize = 128 << 20;

/// All of dockerd's networks and containers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub networks: Vec<Network>,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Network {
    pub id: String,
    pub name: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    pub config: Option<Vec<IpamConfig>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamConfig {
    pub subnet: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Container {
    pub id: String,
    /// Each with a `/` in front; those with a second `/` are links' aliases.
    pub names: Option<Vec<String>>,
    pub command: String,
    pub network_settings: Option<NetworkSettings>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    pub networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Empty while the container does not run.
    #[serde(rename = "EndpointID")]
    pub id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("failed to reach dockerd")]
    Connect(#[from] io::Error),
    #[error("failed to ask dockerd")]
    Http(#[from] hyper::Error),
    #[error("dockerd's answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("dockerd answered with {0}")]
    Status(u16),
    #[error("dockerd's answer is not understood")]
    Json(#[from] serde_json::Error),
    #[error("dockerd did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

impl View {
    pub async fn take(socket: &Path) -> Result<Self, EngineError> {
        // Containers first: a network that a new one needs is older than it.
        let containers = get(socket, "/containers/json?all=1").await?;
        Ok(Self { containers, networks: get(socket, "/networks").await? })
    }
}

impl Container {
    pub fn name(&self) -> Option<&str> {
        let names = self.names.iter().flatten().filter_map(|name| name.strip_prefix('/'));
        names.into_iter().find(|name| !name.contains('/'))
    }

    /// The ids of its endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        let networks = self.network_settings.iter().filter_map(|it| it.networks.as_ref());
        networks.flat_map(BTreeMap::values).map(|it| it.id.as_str()).filter(|id| !id.is_empty())
    }
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, EngineError> {
    timeout(PATIENCE, ask(socket, path)).await?
}

async fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, EngineError> {
    let request = Request::get(path)
        .header(HOST, "docker")
        .body(Full::default())
        .unwrap_or_else(|_| unreachable!("the path is a constant"));
    let (response, _driver) = exchange(UnixStream::connect(socket).await?, request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(EngineError::Status(status.as_u16()));
    }
    let body =
        Limited::new(response.into_body(), LIMIT).collect().await.map_err(EngineError::Body)?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_own_name_and_its_living_endpoints_are_found() {
        let text = r#"[{"Id":"c","Names":["/other/web","/web"],"Command":"sleep 1d","NetworkSettings":
            {"Networks":{"a":{"EndpointID":"e1"},"b":{"EndpointID":""}}}},{"Id":"d","Names":null}]"#;
        let containers: Vec<Container> = serde_json::from_str(text).unwrap();
        assert_eq!(containers[0].name(), Some("web"));
        assert_eq!(containers[0].endpoints().collect::<Vec<_>>(), ["e1"]);
        assert_eq!((containers[1].name(), containers[1].endpoints().count()), (None, 0));
    }
}
