//! Docker's side of the plugin protocol, as libnetwork speaks it: the calls of
//! a network's and a container's life in the order of each version, and what
//! it does to the interface in between. No dockerd is needed.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::PathBuf,
};

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::{Agent, DEADLINE, NetNs, json::text};

/// Whose sequence of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The namespace is made after `Join`; `Revoke` comes before `Leave`.
    V20_10,
    /// The namespace is there first; `GwAllocCheck` and `enable_ipv4` are new.
    V28,
    /// Ports are programmed twice; `Revoke` may be left out.
    V29,
}

/// A plugin's socket.
#[derive(Debug)]
pub struct Libnetwork {
    socket: PathBuf,
    pub version: Version,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A container's sandbox, its one interface in it.
#[derive(Debug)]
pub struct Sandbox {
    pub ns: NetNs,
    pub network: String,
    pub endpoint: String,
    pub ip: Ipv4Addr,
    /// Outside of the sandbox.
    link: String,
}

impl Libnetwork {
    pub fn of(agent: &Agent, version: Version) -> Self {
        Self { socket: agent.root().join("run/plugins/netd.sock"), version }
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("reach the plugin's socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        stream
    }

    /// `POST /METHOD` with these bytes.
    #[track_caller]
    pub fn post(&self, method: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // What is too large is refused before it has all been sent.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let cut = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        };
        assert!(sent.is_ok() || sent.as_ref().is_err_and(cut), "{method}: {sent:?}");
        Self::answer(&mut stream)
    }

    #[track_caller]
    pub fn answer(stream: &mut UnixStream) -> Answer {
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert!(!bytes.is_empty(), "an answer comes: {error}");
        }
        let answer = String::from_utf8_lossy(&bytes);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            body: serde_json::from_str(body)
                .unwrap_or_else(|error| panic!("JSON is answered ({error}): {body}")),
        }
    }

    /// A call as Docker makes it; errors come with status 200.
    #[track_caller]
    pub fn call(&self, method: &str, request: &Value) -> Value {
        let answer = self.post(method, request.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        answer.body
    }

    /// A call that must succeed.
    #[track_caller]
    pub fn ok(&self, method: &str, request: &Value) -> Value {
        let answer = self.call(method, request);
        let failed = answer.get("Err").or_else(|| answer.get("Error"));
        assert!(failed.is_none(), "{method} {request}: {answer}");
        answer
    }

    /// A call that must fail; its text.
    #[track_caller]
    pub fn fails(&self, method: &str, request: &Value) -> String {
        let answer = self.call(method, request);
        let key = if method.starts_with("Ipam") { "/Error" } else { "/Err" };
        text(&answer, key).to_owned()
    }

    /// The handshake, and a network with netd's IPAM.
    #[track_caller]
    pub fn create_network(&self, id: &str, subnet: &str, generic: &Value) -> Value {
        let implements = self.post("Plugin.Activate", b"").body;
        assert_eq!(implements, json!({ "Implements": ["NetworkDriver", "IpamDriver"] }));
        let capabilities = self.post("NetworkDriver.GetCapabilities", b"").body;
        assert_eq!(text(&capabilities, "/Scope"), "local");
        let spaces = self.post("IpamDriver.GetDefaultAddressSpaces", b"").body;
        let pool = self.ok(
            "IpamDriver.RequestPool",
            &json!({
                "AddressSpace": text(&spaces, "/LocalDefaultAddressSpace"),
                "Pool": subnet, "SubPool": "", "Options": null, "V6": false,
            }),
        );
        if self.version != Version::V20_10 {
            let check = self.ok("NetworkDriver.GwAllocCheck", &json!({ "Options": {} }));
            assert_eq!(check, json!({ "SkipIPv4": false, "SkipIPv6": false }));
        }
        let gateway = self.ok(
            "IpamDriver.RequestAddress",
            &json!({
                "PoolID": text(&pool, "/PoolID"), "Address": "",
                "Options": { "RequestAddressType": "com.docker.network.gateway" },
            }),
        );
        let request =
            self.network_request(id, text(&pool, "/Pool"), text(&gateway, "/Address"), generic);
        self.ok("NetworkDriver.CreateNetwork", &request);
        pool
    }

    pub fn network_request(&self, id: &str, subnet: &str, gateway: &str, generic: &Value) -> Value {
        let mut options = json!({
            "com.docker.network.enable_ipv6": false,
            "com.docker.network.generic": generic,
        });
        if self.version != Version::V20_10 {
            options["com.docker.network.enable_ipv4"] = json!(true);
        }
        json!({
            "NetworkID": id,
            "Options": options,
            "IPv4Data": [{
                "AddressSpace": "netd-local", "Pool": subnet, "Gateway": gateway,
                "AuxAddresses": {},
            }],
            "IPv6Data": [],
        })
    }

    #[track_caller]
    pub fn delete_network(&self, id: &str, pool: &Value, gateway: &str) {
        self.ok("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": id }));
        let pool = text(pool, "/PoolID");
        self.ok("IpamDriver.ReleaseAddress", &json!({ "PoolID": pool, "Address": gateway }));
        self.ok("IpamDriver.ReleasePool", &json!({ "PoolID": pool }));
    }

    /// `docker run -p …`: its calls, and the interface where it belongs.
    #[track_caller]
    pub fn run(
        &self,
        agent: &Agent,
        network: &str,
        pool: &Value,
        endpoint: &str,
        bindings: &Value,
    ) -> Sandbox {
        let name = &endpoint[..12];
        let early = (self.version != Version::V20_10).then(|| agent.sandbox(name));
        let address = self.ok(
            "IpamDriver.RequestAddress",
            &json!({
                "PoolID": text(pool, "/PoolID"), "Address": "", "Options": {},
            }),
        );
        let address = text(&address, "/Address");
        let options = json!({
            "com.docker.network.endpoint.exposedports": [{ "Proto": 6, "Port": 80 }],
            "com.docker.network.portmap": bindings,
        });
        let reference = json!({ "NetworkID": network, "EndpointID": endpoint });
        let mut request = reference.clone();
        request["Options"] = options.clone();
        request["Interface"] = json!({ "Address": address, "AddressIPv6": "", "MacAddress": "" });
        let created = self.ok("NetworkDriver.CreateEndpoint", &request);
        assert!(created.pointer("/Interface/Address").is_none(), "it was given: {created}");
        let mac = text(&created, "/Interface/MacAddress").to_owned();

        let key = agent.root().join("run").join(name);
        let key = early.as_ref().map_or(key, |ns| ns.path().to_owned());
        let mut request = reference.clone();
        request["SandboxKey"] = json!(key);
        request["Options"] = options.clone();
        let joined = self.ok("NetworkDriver.Join", &request);
        assert_eq!(joined["DisableGatewayService"], json!(false));
        let gateway = text(&joined, "/Gateway");
        let link = text(&joined, "/InterfaceName/SrcName").to_owned();
        let inside = format!("{}0", text(&joined, "/InterfaceName/DstPrefix"));

        let program = || {
            let mut request = reference.clone();
            request["Options"] = options.clone();
            self.ok("NetworkDriver.ProgramExternalConnectivity", &request);
        };
        if self.version == Version::V20_10 {
            program();
        }
        let ns = early.unwrap_or_else(|| agent.sandbox(name));
        agent.host().ip(&format!("link set {link} name {inside} netns {}", ns.path().display()));
        ns.ip(&format!("link set {inside} address {mac}"));
        ns.ip(&format!("addr add {address} dev {inside}"));
        ns.ip(&format!("link set {inside} up"));
        ns.ip(&format!("route add default via {gateway}"));
        if self.version != Version::V20_10 {
            program();
        }
        if self.version == Version::V29 {
            program();
        }
        let ip = address.split('/').next().and_then(|ip| ip.parse().ok());
        Sandbox {
            ns,
            network: network.to_owned(),
            endpoint: endpoint.to_owned(),
            ip: ip.expect("an address"),
            link,
        }
    }

    /// `docker rm -f`.
    #[track_caller]
    pub fn remove(&self, agent: &Agent, pool: &Value, sandbox: Sandbox) {
        let reference = json!({ "NetworkID": sandbox.network, "EndpointID": sandbox.endpoint });
        if self.version != Version::V29 {
            self.ok("NetworkDriver.RevokeExternalConnectivity", &reference);
        }
        self.ok("NetworkDriver.Leave", &reference);
        let path = agent.host().path().display();
        sandbox.ns.ip("link set eth0 down");
        sandbox.ns.ip(&format!("link set eth0 name {} netns {path}", sandbox.link));
        self.ok("NetworkDriver.DeleteEndpoint", &reference);
        let lease = json!({ "PoolID": text(pool, "/PoolID"), "Address": sandbox.ip.to_string() });
        self.ok("IpamDriver.ReleaseAddress", &lease);
        sandbox.end();
    }
}

impl Sandbox {
    /// The namespace goes, with all that is in it: nobody else has it.
    pub fn end(self) {
        let path = self.ns.path().to_owned();
        umount2(&path, MntFlags::MNT_DETACH).expect("unmount the namespace");
        fs::remove_file(path).expect("remove its file");
    }
}

impl Agent {
    /// A namespace as dockerd makes one.
    fn sandbox(&self, name: &str) -> NetNs {
        NetNs::new(self.shared_dir(), name)
    }
}
