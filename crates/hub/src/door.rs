//! The doors: accepting connections, TLS, and who came through which.
//!
//! A handshake runs beside the others and has a deadline, so that nobody holds up the next; how many connections may be
//! open is capped.

use crate::ca::ServerIdentity;
use crate::who::{Came, Card, Peer};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request's head may take, and how long a connection may be idle: longer than a client keeps one, so that
/// it is the client that ends it and no request is lost on the way.
const HEAD: Duration = Duration::from_secs(100);
/// How many connections may be open at one door.
const OPEN: usize = 8192;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's certificate is not usable.
    #[error("the authority's certificate cannot be used to check others")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The hub's own certificate or key is not.
    #[error("server.pem and server.key cannot be used")]
    Own(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3; a client's certificate is asked for and may be missing, but never of another authority.
///
/// # Errors
/// When key and certificate cannot be used.
pub fn tls(identity: ServerIdentity) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca).map_err(|why| TlsError::Authority(Box::new(why)))?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|why| TlsError::Authority(Box::new(why)))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Own)?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Own)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a door is.
#[derive(Clone)]
pub enum Kind {
    /// In the clear; with `Came::Trusted` or `Came::Plain`.
    Plain(Came),
    /// Over TLS.
    Tls(TlsAcceptor),
}

/// Takes in whoever comes, until it is dropped. Connections live on; `graceful` waits for them.
pub async fn open(listener: TcpListener, kind: Kind, router: Router, graceful: Arc<GracefulShutdown>) {
    let room = Arc::new(Semaphore::new(OPEN));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, at)) => {
                let (kind, router, watcher) = (kind.clone(), router.clone(), graceful.watcher());
                tokio::spawn(async move {
                    greet(stream, at, kind, router, watcher).await;
                    drop(place);
                });
            }
            Err(why) => {
                // Out of descriptors, mostly: somebody has to go first.
                tracing::warn!(error = %why, "no connection can be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet(stream: TcpStream, at: SocketAddr, kind: Kind, router: Router, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    let acceptor = match kind {
        Kind::Plain(came) => return converse(stream, Peer { at, came }, router, watcher).await,
        Kind::Tls(acceptor) => acceptor,
    };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let came = match shown {
                Some(der) => Card::read(der).map_or(Came::Anonymous, Came::Certified),
                None => Came::Anonymous,
            };
            converse(stream, Peer { at, came }, router, watcher).await;
        }
        Ok(Err(why)) => tracing::debug!(peer = %at, error = %why, "no TLS"),
        Err(_) => tracing::debug!(peer = %at, "a handshake took too long"),
    }
}

async fn converse<S>(stream: S, peer: Peer, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ended is its client's business.
    let _ = watcher.watch(connection).await;
}
