//! One kept-alive connection to the hub, plain or with the certificate of the agent that it speaks for.
//!
//! A connection belongs to one certificate. Whoever speaks for the next agent ends it and opens another, as on a hub
//! every connection is one node's.

use crate::identity::Identity;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection may take, and how long a request, as in the agent.
const CONNECT: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(15);
/// From how many bytes on a body is compressed, as in the agent.
const WORTH_PACKING: usize = 2 * 1024;

/// Where the hub is.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    roots: Option<Arc<RootCertStore>>,
}

/// Why the hub cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is none.
    #[error("{0:?} is no address of a hub: http://HOST:PORT, or https://HOST:PORT with --ca")]
    Address(String),
    /// The authority's certificate does not read.
    #[error("the hub's authority (--ca) cannot be read")]
    Authority(#[source] rustls::pki_types::pem::Error),
    /// It is of no use, or a node's certificate is not.
    #[error("make a TLS connection of these certificates")]
    Tls(#[from] rustls::Error),
    /// The network.
    #[error("connect to the hub")]
    Connect(#[source] std::io::Error),
    /// HTTP.
    #[error("ask the hub")]
    Http(#[source] hyper::Error),
    /// The answer is too long or was cut.
    #[error("read the hub's answer")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came in time.
    #[error("the hub did not answer in time")]
    Late,
}

impl Target {
    /// The hub at `url`; over TLS its authority is the one in `ca` and no other.
    ///
    /// # Errors
    /// When the address is none, or the authority does not read.
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Self, LinkError> {
        let bad = || LinkError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.to_owned();
        let roots = match (uri.scheme_str(), ca) {
            (Some("http"), _) => None,
            (Some("https"), Some(ca)) => Some(Arc::new(roots(ca)?)),
            _ => return Err(bad()),
        };
        let port = uri.port_u16().unwrap_or(if roots.is_some() { 443 } else { 80 });
        Ok(Self { authority: format!("{host}:{port}"), host, port, roots })
    }

    /// Whether agents show certificates.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.roots.is_some()
    }
}

fn roots(ca: &Path) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(LinkError::Authority)? {
        roots.add(certificate.map_err(LinkError::Authority)?)?;
    }
    Ok(roots)
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub code: u16,
    /// What `Retry-After` said, in seconds.
    pub after: Option<Duration>,
    /// Its body.
    pub body: Bytes,
}

/// What is asked.
pub struct Ask<'a> {
    /// The path and the query.
    pub path: &'a str,
    /// The type of the body; without one it is a GET.
    pub kind: Option<&'a str>,
    /// The body as it is; it is compressed where that is worth it.
    pub body: Vec<u8>,
    /// The most bytes of the answer.
    pub cap: usize,
}

struct Open {
    who: Option<u32>,
    send: SendRequest<Full<Bytes>>,
}

/// A connection, where one is open.
pub struct Link {
    target: Target,
    open: Option<Open>,
    /// How many connections were opened.
    pub opened: u64,
}

impl Link {
    /// None yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, open: None, opened: 0 }
    }

    /// Whether the connection that is open speaks for `who`.
    #[must_use]
    pub fn speaks_for(&self, who: u32) -> bool {
        let kept = self.open.as_ref().filter(|open| !open.send.is_closed());
        kept.is_some_and(|open| !self.target.secure() || open.who == Some(who))
    }

    /// Asks, as the agent of `identity` or as nobody. A connection that turns out to be gone is made anew once.
    ///
    /// # Errors
    /// When nothing comes back; then nobody knows what the hub made of it.
    pub async fn ask(&mut self, identity: Option<&Identity>, ask: Ask<'_>) -> Result<Reply, LinkError> {
        let packed = pack(&ask.body);
        let body = Bytes::from(ask.body);
        let (body, coding) = packed.map_or((body, false), |packed| (Bytes::from(packed), true));
        let question = |authority: &str| {
            let method = if ask.kind.is_some() { Method::POST } else { Method::GET };
            let mut request = Request::builder().method(method).uri(ask.path).header(header::HOST, authority);
            if let Some(kind) = ask.kind {
                request = request.header(header::CONTENT_TYPE, kind);
            }
            if coding {
                request = request.header(header::CONTENT_ENCODING, "gzip");
            }
            request.body(Full::new(body.clone()))
        };
        let mut fresh = false;
        loop {
            fresh |= self.connect(identity).await?;
            let Some(open) = &mut self.open else { return Err(LinkError::Late) };
            let Ok(request) = question(&self.target.authority) else {
                return Err(LinkError::Address(ask.path.to_owned()));
            };
            match tokio::time::timeout(DEADLINE, answer(&mut open.send, request, ask.cap)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(LinkError::Http(_))) if !fresh => self.open = None,
                Ok(Err(why)) => {
                    self.open = None;
                    return Err(why);
                }
                Err(_) => {
                    self.open = None;
                    return Err(LinkError::Late);
                }
            }
        }
    }

    /// Has a connection that speaks for this agent; whether it is a new one.
    async fn connect(&mut self, identity: Option<&Identity>) -> Result<bool, LinkError> {
        let who = identity.map(|identity| identity.index);
        if self.open.as_ref().is_some_and(|open| open.who == who && !open.send.is_closed()) {
            return Ok(false);
        }
        self.open = None;
        let opening = tokio::time::timeout(CONNECT, open(&self.target, identity));
        let send = opening.await.map_err(|_| LinkError::Late)??;
        self.opened += 1;
        self.open = Some(Open { who, send });
        Ok(true)
    }
}

async fn open(target: &Target, identity: Option<&Identity>) -> Result<SendRequest<Full<Bytes>>, LinkError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(LinkError::Connect)?;
    let _ = stream.set_nodelay(true);
    let Some(roots) = &target.roots else { return drive(stream).await };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots));
    let mut config = match identity {
        Some(identity) => config.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let name =
        ServerName::try_from(target.host.trim_matches(['[', ']']).to_owned()).map_err(|_| LinkError::Late)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    drive(stream.map_err(LinkError::Connect)?).await
}

async fn drive<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, LinkError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = handshake(TokioIo::new(stream)).await.map_err(LinkError::Http)?;
    // It ends when `send` is dropped, or when the hub does.
    tokio::spawn(connection);
    Ok(send)
}

async fn answer(
    send: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    cap: usize,
) -> Result<Reply, LinkError> {
    send.ready().await.map_err(LinkError::Http)?;
    let answer = send.send_request(request).await.map_err(LinkError::Http)?;
    let code = answer.status().as_u16();
    let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    let body = Limited::new(answer.into_body(), cap).collect().await.map_err(LinkError::Answer)?;
    Ok(Reply { code, after: after.map(Duration::from_secs), body: body.to_bytes() })
}

/// A body as gzip, where it is worth it.
fn pack(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < WORTH_PACKING {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
