//! The control API as a program speaks it: requests of JSON, each on a
//! connection of its own, for the agent closes it with the answer.

use std::{
    io::{BufRead, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use crate::Agent;

/// An agent's socket.
#[derive(Debug)]
pub struct Api(PathBuf);

/// What it answered: HTTP's status and the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Api {
    pub fn of(agent: &Agent) -> Self {
        Self(agent.root().join("run/netd.sock"))
    }

    /// `method` and `path` as HTTP has them; `Null` is no body.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: netd\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = UnixStream::connect(&self.0).expect("connect to the agent");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("set a deadline");
        stream.write_all(head.as_bytes()).expect("send the request");
        stream.write_all(body.as_bytes()).expect("send the request's body");
        answer(&mut BufReader::new(stream))
    }

    /// The request must succeed; gives the body.
    #[track_caller]
    pub fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let Answer { status, body } = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }
}

#[track_caller]
fn answer(stream: &mut impl BufRead) -> Answer {
    let first = line(stream);
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut length = 0;
    loop {
        let line = line(stream).to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(given) = line.strip_prefix("content-length:") {
            length = given.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("read the answer's body");
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {first}")),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

#[track_caller]
fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("read the answer");
    line.trim_end().to_owned()
}
