//! The protocol's methods: which there are, how each is read, and which answer
//! is always the same.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::types::{
    AddressRef, CreateEndpoint, CreateNetwork, EndpointRef, Join, NetworkRef, PoolRef, Program,
    RequestPool,
};

/// The address spaces of netd's IPAM: what one host and what a cluster of
/// hosts must not use twice. Here they are the same.
pub const LOCAL_SPACE: &str = "netd-local";
pub const GLOBAL_SPACE: &str = "netd-global";

/// A call that the agent must answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    CreateNetwork(CreateNetwork),
    DeleteNetwork(NetworkRef),
    CreateEndpoint(CreateEndpoint),
    EndpointInfo(EndpointRef),
    Join(Join),
    Leave(EndpointRef),
    DeleteEndpoint(EndpointRef),
    Program(Program),
    Revoke(EndpointRef),
    RequestPool(RequestPool),
    ReleasePool(PoolRef),
    RequestAddress(AddressRef),
    ReleaseAddress(AddressRef),
}

/// What is said on the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Call(Call),
    /// Something that has one answer for ever.
    Constant(Value),
}

/// Which key an error has in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Network,
    Ipam,
}

impl Driver {
    /// By a method's name; the handshake's is read as the network driver's.
    pub fn of(method: &str) -> Self {
        if method.starts_with("IpamDriver.") { Self::Ipam } else { Self::Network }
    }

    pub fn error(self, text: &str) -> Value {
        match self {
            Self::Network => json!({ "Err": text }),
            Self::Ipam => json!({ "Error": text }),
        }
    }
}

/// Reads a request's body by its method, `NetworkDriver.Join`. `None`: there
/// is no such method, which Docker takes for "not supported" where it can.
pub fn read(method: &str, body: &[u8]) -> Option<Result<Said, serde_json::Error>> {
    // Methods without arguments have no body; there is none that would fail.
    let constant = |value| Some(Ok(Said::Constant(value)));
    match method {
        "Plugin.Activate" => constant(json!({ "Implements": ["NetworkDriver", "IpamDriver"] })),
        "NetworkDriver.GetCapabilities" => constant(json!({
            "Scope": "local",
            "ConnectivityScope": "local",
            "GwAllocChecker": true,
        })),
        // Every network has a gateway's address, an isolated one too: it is
        // what its name server and its neighbours would expect there.
        "NetworkDriver.GwAllocCheck" => constant(json!({ "SkipIPv4": false, "SkipIPv6": false })),
        // Swarm's: netd's networks are of one host.
        "NetworkDriver.AllocateNetwork" => constant(json!({ "Options": {} })),
        "NetworkDriver.FreeNetwork"
        | "NetworkDriver.DiscoverNew"
        | "NetworkDriver.DiscoverDelete" => constant(json!({})),
        // Pools and addresses are on disk before they are given.
        "IpamDriver.GetCapabilities" => {
            constant(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false }))
        }
        "IpamDriver.GetDefaultAddressSpaces" => constant(json!({
            "LocalDefaultAddressSpace": LOCAL_SPACE,
            "GlobalDefaultAddressSpace": GLOBAL_SPACE,
        })),
        "NetworkDriver.CreateNetwork" => Some(call(body, Call::CreateNetwork)),
        "NetworkDriver.DeleteNetwork" => Some(call(body, Call::DeleteNetwork)),
        "NetworkDriver.CreateEndpoint" => Some(call(body, Call::CreateEndpoint)),
        "NetworkDriver.EndpointOperInfo" => Some(call(body, Call::EndpointInfo)),
        "NetworkDriver.Join" => Some(call(body, Call::Join)),
        "NetworkDriver.Leave" => Some(call(body, Call::Leave)),
        "NetworkDriver.DeleteEndpoint" => Some(call(body, Call::DeleteEndpoint)),
        "NetworkDriver.ProgramExternalConnectivity" => Some(call(body, Call::Program)),
        "NetworkDriver.RevokeExternalConnectivity" => Some(call(body, Call::Revoke)),
        "IpamDriver.RequestPool" => Some(call(body, Call::RequestPool)),
        "IpamDriver.ReleasePool" => Some(call(body, Call::ReleasePool)),
        "IpamDriver.RequestAddress" => Some(call(body, Call::RequestAddress)),
        "IpamDriver.ReleaseAddress" => Some(call(body, Call::ReleaseAddress)),
        _ => None,
    }
}

fn call<T: DeserializeOwned>(
    body: &[u8],
    make: impl FnOnce(T) -> Call,
) -> Result<Said, serde_json::Error> {
    serde_json::from_slice(body).map(|arguments| Said::Call(make(arguments)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_and_others_are_not() {
        for method in
            ["Plugin.Activate", "NetworkDriver.GetCapabilities", "IpamDriver.GetCapabilities"]
        {
            assert!(matches!(read(method, b""), Some(Ok(Said::Constant(_)))), "{method}");
        }
        assert!(matches!(read("NetworkDriver.Join", b"{}"), Some(Ok(Said::Call(Call::Join(_))))));
        assert!(matches!(read("NetworkDriver.Join", b""), Some(Err(_))));
        assert!(read("NetworkDriver.Fly", b"{}").is_none());
    }

    #[test]
    fn each_driver_has_its_own_word_for_an_error() {
        assert_eq!(Driver::of("NetworkDriver.Join").error("no").to_string(), r#"{"Err":"no"}"#);
        assert_eq!(
            Driver::of("IpamDriver.ReleasePool").error("no").to_string(),
            r#"{"Error":"no"}"#
        );
    }
}
