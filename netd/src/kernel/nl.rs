//! One rtnetlink socket and its pipelining. Knows messages, not what they are
//! for.

use std::io;

use futures_util::StreamExt as _;
use rtnetlink::{
    Handle,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage, address::AddressMessage, link::LinkMessage, route::RouteMessage,
    },
};
use tokio::{sync::Mutex, task::JoinHandle};

use super::Error;

/// An rtnetlink socket, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
    /// The kernel answers one list at a time on a socket, and EBUSY to a
    /// second one.
    pub(super) listing: Mutex<()>,
}

/// A request that changes something, and the errno that means "it was so
/// already".
#[derive(Debug)]
pub struct Request {
    message: NetlinkMessage<RouteNetlinkMessage>,
    tolerated: Option<i32>,
}

impl Netlink {
    /// Needs a tokio runtime, entered if this is not one of its threads.
    pub fn open() -> Result<Self, Error> {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        // Without them, a connection that died can't be told from success.
        connection.set_forward_ack(true);
        Ok(Self { handle, task: tokio::spawn(connection), listing: Mutex::default() })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends all requests at once and waits for all answers. The kernel runs
    /// them in order, and runs those after a failed one too: the first error
    /// is returned.
    pub async fn pipeline(&self, requests: Vec<Request>) -> io::Result<()> {
        let mut handle = self.handle.clone();
        let mut answers = Vec::with_capacity(requests.len());
        for Request { message, tolerated } in requests {
            let answer = handle.request(message).map_err(|_| closed())?;
            answers.push((answer, tolerated));
        }
        let mut result = Ok(());
        for (mut answer, tolerated) in answers {
            let mut outcome = Err(closed());
            while let Some(message) = answer.next().await {
                if let NetlinkPayload::Error(error) = message.payload {
                    let known = error.code.is_none() || Some(-error.raw_code()) == tolerated;
                    outcome = if known { Ok(()) } else { Err(error.to_io()) };
                }
            }
            if result.is_ok() {
                result = outcome;
            }
        }
        result
    }

    /// Closes the socket before it returns: a socket keeps its namespace.
    pub async fn close(self) {
        drop(self.handle);
        // An error means that the task is gone, and the socket with it.
        let _ = self.task.await;
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the netlink connection was closed")
}

impl Request {
    pub fn new_link(message: LinkMessage) -> Self {
        Self::build(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub fn set_link(message: LinkMessage) -> Self {
        Self::build(RouteNetlinkMessage::SetLink(message), 0)
    }

    pub fn delete_link(index: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Self::build(RouteNetlinkMessage::DelLink(message), 0).tolerate(libc::ENODEV)
    }

    pub fn add_address(message: AddressMessage) -> Self {
        Self::build(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .tolerate(libc::EEXIST)
    }

    pub fn set_route(message: RouteMessage) -> Self {
        Self::build(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// `errno` counts as success.
    #[must_use]
    pub fn tolerate(mut self, errno: i32) -> Self {
        self.tolerated = Some(errno);
        self
    }

    fn build(message: RouteNetlinkMessage, flags: u16) -> Self {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        Self { message, tolerated: None }
    }
}

/// What rtnetlink reports, as the errno it stands for.
pub fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        rtnetlink::Error::RequestFailed => closed(),
        other => io::Error::other(other),
    }
}
