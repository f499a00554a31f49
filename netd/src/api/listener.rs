//! A unix socket for one agent: who may reach it, and whose it is. It knows
//! nothing of what is said on it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    os::unix::net::{self, UnixStream},
    path::{Path, PathBuf},
};

use axum::Router;
use tokio::net::UnixListener;

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
    #[error("failed to serve a socket")]
    Serve(#[source] io::Error),
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
    /// Listens on `path`, for root alone (0600), and creates its directory.
    /// The socket of an agent that has died is replaced; one that answers is
    /// left alone. Call it within a tokio runtime.
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
        let socket = UnixListener::bind(path).map_err(bind_error)?;
        let file = Some(SocketFile(path.to_owned()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(bind_error)?;
        Ok(Self { socket, file })
    }

    /// Listens on a socket that somebody else has bound and will remove. Call
    /// it within a tokio runtime.
    pub fn inherit(socket: net::UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)?, file: None })
    }

    /// Answers with `router` until `shutdown` ends, then finishes the requests
    /// in hand.
    pub async fn serve_router(
        self,
        router: Router,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        // Its file goes with it.
        let Self { socket, file: _file } = self;
        axum::serve(socket, router)
            .with_graceful_shutdown(shutdown)
            .await
            .map_err(ServerError::Serve)
    }
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
