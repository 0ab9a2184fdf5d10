//! The listener and the life of the service: bind, serve, reload, drain.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{App, routes};
use crate::config::{ConfigError, Server};

/// Bytes that the head of a request may take; gateways send a few hundred.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long to wait after the system refused a new connection, such as for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, whose file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds what the settings say.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub async fn bind(settings: &Server) -> Result<Self, ConfigError> {
        if let Some(path) = &settings.unix_socket {
            let wrong = |error: io::Error| {
                ConfigError::of_key("server.unix_socket", format!("cannot listen on {}: {error}", path.display()))
            };
            remove_stale_socket(path).await.map_err(wrong)?;
            let listener = UnixListener::bind(path).map_err(wrong)?;
            // The owner and the group may connect; who else shall, gets into the group.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(wrong)?;
            return Ok(Self::Unix(listener, path.clone()));
        }
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|error| ConfigError::of_key("server.listen", format!("cannot listen on {}: {error}", settings.listen)))?;
        Ok(Self::Tcp(listener))
    }

    /// The address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "http://?".to_owned(), |address| format!("http://{address}"))
            }
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }
}

/// Removes the file of a socket that nobody listens on any more, as a killed process leaves it.
async fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match UnixStream::connect(path).await {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
            Err(_) => std::fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket stands there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Serves until `shutdown` resolves, then drains: new requests are refused, those under way get `server.drain_ms` to end.
pub async fn serve(listener: Listener, app: Arc<App>, shutdown: impl Future<Output = ()>) {
    let settings = app.live.load().prepared.settings.server.clone();
    let router = routes::router(app.clone());
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let closing = CancellationToken::new();
    let stop_accepting = CancellationToken::new();

    let accepting = async {
        loop {
            // A connection waits in the system's queue until there is a slot for it.
            let Ok(slot) = slots.clone().acquire_owned().await else { break };
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Without this a small answer can wait 40 ms for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    Connection::Tcp(stream)
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
            };
            match accepted {
                Ok(connection) => {
                    let router = router.clone();
                    let closing = closing.clone();
                    let header_timeout = Duration::from_millis(settings.header_timeout_ms);
                    connections.spawn(async move {
                        match connection {
                            Connection::Tcp(stream) => serve_connection(stream, router, header_timeout, closing).await,
                            Connection::Unix(stream) => serve_connection(stream, router, header_timeout, closing).await,
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let accepting = stop_accepting.run_until_cancelled(accepting);

    let drain = async {
        shutdown.await;
        app.start_draining();
        let deadline = Instant::now() + Duration::from_millis(app.live.load().prepared.settings.server.drain_ms);
        let under_way = app.requests_under_way();
        tracing::info!(target: "lifecycle", under_way, "draining");
        while app.requests_under_way() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop_accepting.cancel();
        // Answers that are still being written get the rest of the time.
        closing.cancel();
        connections.close();
        let all_closed = tokio::time::timeout_at(deadline, connections.wait()).await.is_ok();
        tracing::info!(target: "lifecycle", all_closed, "stopped");
    };
    tokio::join!(accepting, drain);
    if let Listener::Unix(_, path) = &listener {
        // A socket that is gone already is as good.
        let _ = std::fs::remove_file(path);
    }
}

enum Connection {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

async fn serve_connection<S>(stream: S, router: axum::Router, header_timeout: Duration, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A client that goes away or sends nonsense is its own business.
        tracing::debug!(%error, "connection ended");
    }
}
