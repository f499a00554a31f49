//! Connections, one task each, within [`Limits`]. A connection has one
//! request: its end is the server's alone to say, so that no client's next
//! request meets a connection that is just being closed.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri},
    serve::Listener as Accept,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Sleep, sleep},
};
use tower_service::Service as _;

use super::limits::{Endless, Limits, guard};

/// Clients that are told at a time why they are not served. Beyond, they are
/// not even told.
const REFUSALS: usize = 64;
/// How long one that is not served has for its headers.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Why a client is not served at all.
pub(super) type Refusal = (StatusCode, String);

/// Answers with `router` those whom `admit` lets in, until `shutdown` ends;
/// then finishes the requests in hand.
pub(super) async fn serve<L: Accept>(
    mut socket: L,
    admit: impl Fn(&L::Io) -> Result<(), Refusal>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let router = guard(router, limits);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (io, _) = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let busy = || (StatusCode::SERVICE_UNAVAILABLE, "too many connections".to_owned());
        let admitted =
            admit(&io).and_then(|()| Arc::clone(&slots).try_acquire_owned().map_err(|_| busy()));
        let (slot, router, limits) = match admitted {
            Ok(slot) => (slot, router.clone(), limits),
            Err((status, why)) => {
                tracing::debug!(%status, "refused a client: {why}");
                let Ok(slot) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                let refuse =
                    move |uri: Uri| async move { (limits.refuse)(uri.path(), status, &why) };
                let limits = Limits { head_time: REFUSAL_TIME, ..limits };
                (slot, Router::new().fallback(refuse), limits)
            }
        };
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let _slot = slot;
            // It fails where the client does, who then needs no answer.
            let _ = connection(io, router, limits, async move {
                let _ = stopped.changed().await;
            })
            .await;
        });
    }
    drop((socket, stop));
    while connections.join_next().await.is_some() {}
}

async fn connection<T: AsyncRead + AsyncWrite + Unpin + Send>(
    io: T,
    router: Router,
    limits: Limits,
    stopped: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let endless = Arc::new(AtomicBool::new(false));
    let io = Patient { io, limit: limits.write_time, endless: Arc::clone(&endless), wait: None };
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut router, endless) = (router.clone(), Arc::clone(&endless));
        async move {
            let answer = router.call(request).await?;
            if answer.extensions().get::<Endless>().is_some() {
                endless.store(true, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => result,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A connection whose writes fail when nobody reads for `limit`.
struct Patient<T> {
    io: T,
    limit: Duration,
    endless: Arc<AtomicBool>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// `written`, or an error where it has been pending for too long.
    fn judge<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() || self.endless.load(Ordering::Relaxed) {
            self.wait = None;
            return written;
        }
        let limit = self.limit;
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(wait.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
