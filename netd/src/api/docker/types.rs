//! What Docker says to a plugin and hears from it, as JSON (moby,
//! `daemon/libnetwork/drivers/remote/api/api.go` and
//! `daemon/libnetwork/ipams/remote/api/api.go`). Keys that a newer Docker adds
//! are passed over; Go writes `null` for what is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Go's `map[string]interface{}`.
pub type Options = Map<String, Value>;

/// `NetworkDriver.CreateNetwork`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(deserialize_with = "nullable")]
    pub options: Options,
    #[serde(rename = "IPv4Data", deserialize_with = "nullable")]
    pub ipv4: Vec<IpamData>,
    #[serde(rename = "IPv6Data", deserialize_with = "nullable")]
    pub ipv6: Vec<IpamData>,
}

/// A subnet that an IPAM driver has given to a network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamData {
    /// A CIDR block.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// With the subnet's prefix; empty where there is none.
    #[serde(deserialize_with = "nullable")]
    pub gateway: String,
    /// By name, with or without a prefix.
    #[serde(deserialize_with = "nullable")]
    pub aux_addresses: BTreeMap<String, Value>,
}

/// `NetworkDriver.DeleteNetwork`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NetworkRef {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
}

/// `NetworkDriver.EndpointOperInfo`, `Leave`, `DeleteEndpoint` and
/// `RevokeExternalConnectivity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointRef {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    #[serde(deserialize_with = "nullable")]
    pub interface: Interface,
}

/// An endpoint's addresses: in a request those that are settled, in an answer
/// those that were not. An answer that repeats one is an error to Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Interface {
    /// With the subnet's prefix.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(
        rename = "AddressIPv6",
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub address6: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
}

/// `NetworkDriver.Join`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Join {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The namespace's file. It may not be there yet (Docker before 28).
    pub sandbox_key: String,
}

/// What Docker makes of an endpoint inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Joined {
    pub interface_name: InterfaceName,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "String::is_empty")]
    pub gateway6: String,
    /// Without a gateway: Docker adds none of its own (`docker_gwbridge`).
    pub disable_gateway_service: bool,
}

/// The link in the host's namespace, and what its name begins with inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: String,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Program {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    #[serde(deserialize_with = "nullable")]
    pub options: ProgramOptions,
}

/// Of its options those that say what to publish. `-P` comes as bindings
/// without a host port, so what is merely exposed is of no interest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProgramOptions {
    #[serde(rename = "com.docker.network.portmap", deserialize_with = "nullable")]
    pub bindings: Vec<PortBinding>,
}

/// One `-p` (moby, `daemon/libnetwork/types/types.go`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// An IP protocol number: 6, 17 or 132.
    pub proto: u8,
    /// The container's.
    pub port: u16,
    /// Empty: the network's default.
    #[serde(rename = "HostIP", deserialize_with = "nullable")]
    pub host_ip: String,
    /// 0: any.
    pub host_port: u16,
    /// The last of those that will do; 0, or `host_port`: that one only.
    pub host_port_end: u16,
}

/// `IpamDriver.RequestPool`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RequestPool {
    pub address_space: String,
    /// A CIDR block; empty: any.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// `--ip-range`.
    #[serde(deserialize_with = "nullable")]
    pub sub_pool: String,
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    pub v6: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedPool {
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    pub pool: String,
    pub data: BTreeMap<String, String>,
}

/// `IpamDriver.ReleasePool`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PoolRef {
    #[serde(rename = "PoolID")]
    pub pool_id: String,
}

/// `IpamDriver.RequestAddress` and `ReleaseAddress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AddressRef {
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// Without a prefix; empty: any.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedAddress {
    /// With the subnet's prefix.
    pub address: String,
    pub data: BTreeMap<String, String>,
}

/// Go's `null` for an empty slice or map.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_nulls_and_keys_of_tomorrow_are_read() {
        let text = r#"{"NetworkID":"n","Options":null,"IPv4Data":[{"AddressSpace":"LocalDefault",
            "Pool":"172.18.0.0/16","Gateway":"172.18.0.1/16","AuxAddresses":null,"Later":1}],
            "IPv6Data":null}"#;
        let request: CreateNetwork = serde_json::from_str(text).unwrap();
        assert_eq!(request.ipv4[0].pool, "172.18.0.0/16");
        assert!(request.ipv6.is_empty() && request.options.is_empty());
        let program = r#"{"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],
            "com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080}]}}"#;
        let program: Program = serde_json::from_str(program).unwrap();
        assert_eq!(program.options.bindings[0].host_port_end, 8080);
    }

    #[test]
    fn an_answer_names_only_what_was_chosen_here() {
        let interface =
            Interface { mac_address: "02:42:ac:12:00:02".into(), ..Interface::default() };
        assert_eq!(
            serde_json::to_string(&interface).unwrap(),
            r#"{"MacAddress":"02:42:ac:12:00:02"}"#
        );
    }
}
