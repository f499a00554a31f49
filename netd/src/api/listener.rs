//! A unix socket for one agent: who may reach it, and whose it is. It knows
//! nothing of what is said on it.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _},
            net::{self, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use axum::{Router, http::StatusCode};
use nix::{
    sys::{
        socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr},
        stat::{Mode, fchmod},
    },
    unistd::Uid,
};
use tokio::net::UnixListener;

use super::{
    limits::Limits,
    serve::{self, Refusal},
};

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("another agent answers on {}", .0.display())]
    Taken(PathBuf),
    #[error("{} is in the way of the agent's socket: it is not a socket", .0.display())]
    NotASocket(PathBuf),
    #[error("failed to create directory `{}`", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("failed to listen on {}", path.display())]
    Bind { path: PathBuf, source: io::Error },
}

/// A listening socket. The file of one that was bound here goes when the
/// server ends, or when this is dropped unused.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// `None`: it was inherited, and is another's to remove.
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good as removed.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on `path`, for the agent's own user alone (0600), and creates
    /// its directory. The socket of an agent that has died is replaced; one
    /// that answers is left alone. Call it within a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let bind_error = |source| ServerError::Bind { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|source| ServerError::Directory { path: parent.to_owned(), source })?;
        }
        remove_stale(path)?;
        let socket = bind(path).map_err(bind_error)?;
        let file = Some(SocketFile(path.to_owned()));
        Ok(Self { socket, file })
    }

    /// Listens on a socket that somebody else has bound and will remove. Call
    /// it within a tokio runtime.
    pub fn inherit(socket: net::UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)?, file: None })
    }

    /// Answers root, and the agent's own user, with `router` and within
    /// `limits`, until `shutdown` ends, then finishes the requests in hand.
    /// Everybody else is refused, however the socket came to them.
    pub async fn serve_router(
        self,
        router: Router,
        limits: Limits,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        // Its file goes with it.
        let Self { socket, file: _file } = self;
        let allowed = [Uid::from_raw(0), Uid::effective()];
        let admit = move |client: &tokio::net::UnixStream| admit(client, &allowed);
        serve::serve(socket, admit, router, limits, shutdown).await;
    }
}

/// Whether the process that has connected is one of these users' (`SO_PEERCRED`,
/// unix(7)). A user of another user namespace is the one that it is here.
fn admit(client: &tokio::net::UnixStream, allowed: &[Uid]) -> Result<(), Refusal> {
    let refuse = |why| Err((StatusCode::FORBIDDEN, why));
    match client.peer_cred() {
        Ok(peer) if allowed.contains(&Uid::from_raw(peer.uid())) => Ok(()),
        Ok(peer) => refuse(format!("permission denied: user {} is not root", peer.uid())),
        Err(error) => refuse(format!("permission denied: {error}")),
    }
}

/// The file has its mode from the first moment on: it takes that of the
/// socket (`unix_bind_bsd`, `net/unix/af_unix.c`).
fn bind(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    UnixListener::from_std(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ServerError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        // `WouldBlock`: its backlog is full, so there is somebody.
        Ok(_) => Err(ServerError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ServerError::Taken(path.to_owned()))
        }
        Err(_) => fs::remove_file(path)
            .map_err(|source| ServerError::Bind { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_users_that_are_named_are_let_in() {
        let (one, _other) = tokio::net::UnixStream::pair().unwrap();
        let me = Uid::effective();
        assert_eq!(admit(&one, &[me]), Ok(()));
        let (status, why) = admit(&one, &[Uid::from_raw(me.as_raw() + 1)]).unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(why, format!("permission denied: user {me} is not root"));
    }
}
