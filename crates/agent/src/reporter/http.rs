//! Handing events to the hub over HTTP: one request, one answer, and what the answer means for the spool.
//!
//! The link crosses the same forgetful routers as everything else, so the socket has keepalive, a user timeout and a
//! deadline on every request. No redirect is followed, no proxy taken from the environment, no answer read beyond
//! its cap; the one thing an answer may ask for is a full report. Batches are sent as gzip where that pays and the hub
//! takes it.

use super::Shut;
use super::identity::Identity;
use crate::config::Config;
use flate2::{Compression, write::GzEncoder};
use rustls::AlertDescription;
use serde_json::Value;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most bytes of an answer that are read.
const ANSWER_CAP: usize = 64 * 1024;
/// From how many bytes on a batch is compressed: below it, what is saved is less than a packet.
const WORTH_PACKING: usize = 2 * 1024;
/// The shortest pause after the hub said that this node is shut out.
const SHUT_PAUSE: Duration = Duration::from_mins(1);
/// How the hub's word for a problem begins.
const PROBLEM_URN: &str = "urn:evenkeel:problem:";
/// The first pause after a failure, at most; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of our own choosing.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// The longest pause a hub may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Committed. The hub may want to hear everything again.
    Taken {
        /// Whether it asks for a full report of this node.
        want_full: bool,
    },
    /// Not now; perhaps not before so long.
    Later {
        /// Why, for a person.
        why: String,
        /// What `Retry-After` said.
        after: Option<Duration>,
    },
    /// Not while this node is shut out. Nothing is lost by waiting.
    Shut {
        /// How.
        how: Shut,
        /// When it is worth asking again.
        after: Duration,
    },
    /// Never: the hub will not take this, however often it is sent.
    Never {
        /// Why, for a person.
        why: String,
    },
}

/// What became of a question for a certificate.
#[derive(Debug)]
pub(crate) enum Given {
    /// It came, in PEM.
    Certificate(String),
    /// It did not.
    Refused {
        /// Why, for a person.
        why: String,
        /// What `Retry-After` said.
        after: Option<Duration>,
        /// Where it is a person's business.
        shut: Option<Shut>,
    },
}

/// A hub and the connection to it.
pub(crate) struct Link {
    client: reqwest::Client,
    hub: String,
    /// Whether it takes compressed bodies, as far as is known.
    packs: AtomicBool,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The file with the authorities cannot be read.
    #[error("read hub_ca")]
    Read(#[source] std::io::Error),
    /// Or it holds no certificates.
    #[error("hub_ca is there and holds no certificate in PEM")]
    NoCertificate,
    /// Key or certificate of this node are of no use.
    #[error("use this node's certificate")]
    Identity(#[source] reqwest::Error),
    /// The client cannot be made.
    #[error("make the HTTPS client")]
    Client(#[source] reqwest::Error),
}

impl Link {
    /// A link to `hub`, on which this node is known by `identity`. Nothing is sent yet.
    ///
    /// # Errors
    /// The certificate authorities cannot be read.
    pub(crate) fn new(hub: &str, config: &Config, identity: Option<&Identity>) -> Result<Self, LinkError> {
        // Installed once for the process; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(15))
            .tcp_keepalive(Duration::from_secs(15))
            .tcp_keepalive_interval(Duration::from_secs(5))
            .tcp_keepalive_retries(3)
            // A router that has forgotten the connection swallows what is sent on it: soon enough for another one to
            // bring the report within 15 s.
            .tcp_user_timeout(Duration::from_secs(8))
            .pool_max_idle_per_host(1);
        if let Some(path) = &config.hub_ca {
            let pem = evenkeel_host::files::read(path, 1 << 20).map_err(LinkError::Read)?.unwrap_or_default();
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(LinkError::NoCertificate);
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(identity) = identity {
            let shown = reqwest::Identity::from_pem(&identity.pem).map_err(LinkError::Identity)?;
            builder = builder.identity(shown);
        }
        let client = builder.build().map_err(LinkError::Client)?;
        Ok(Self { client, hub: hub.to_owned(), packs: AtomicBool::new(true) })
    }

    /// Send a batch of events.
    pub(crate) async fn send(&self, batch: Vec<u8>, node: &str) -> Answer {
        let packed = if self.packs.load(Ordering::Relaxed) { pack(&batch) } else { None };
        let Some(packed) = packed else { return self.post(batch, false, node).await };
        match self.post(packed, true, node).await {
            // A receiver that reads no gzip may say so in many ways. What it says of the same batch as it is, counts.
            Answer::Never { .. } => {
                let answer = self.post(batch, false, node).await;
                if matches!(answer, Answer::Taken { .. }) {
                    self.packs.store(false, Ordering::Relaxed);
                }
                answer
            }
            answer => answer,
        }
    }

    async fn post(&self, body: Vec<u8>, packed: bool, node: &str) -> Answer {
        let request = self
            .client
            .post(format!("{}/v1/events", self.hub))
            .header("content-type", "application/cloudevents-batch+json; charset=utf-8");
        let request = if packed { request.header("content-encoding", "gzip") } else { request };
        match request.body(body).send().await {
            Ok(response) => answer(response, node).await,
            Err(error) if not_believed(&error) => Answer::Shut { how: Shut::Unknown, after: SHUT_PAUSE },
            Err(error) => Answer::Later { why: line(&error.without_url()), after: None },
        }
    }

    /// Ask for a certificate.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Given {
        let refused = |why, after, shut| Given::Refused { why, after, shut };
        let mut response = match self.client.post(format!("{}{path}", self.hub)).json(body).send().await {
            Ok(response) => response,
            Err(error) => return refused(line(&error.without_url()), None, None),
        };
        let (status, after) = (response.status(), retry_after_of(&response));
        let body = read(&mut response).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match body.get("certificate").and_then(Value::as_str) {
            Some(pem) if status.is_success() => Given::Certificate(pem.to_owned()),
            _ => {
                let (word, why) = problem(&body);
                let why = why.unwrap_or_else(|| format!("the hub answered {}", status.as_u16()));
                let shut = Shut::read(word).or((status == 403).then_some(Shut::NotEnrolled));
                refused(why, after, shut)
            }
        }
    }
}

/// The batch as gzip, where it is worth it. The fastest level: the next ones save a percent more for several times the work.
fn pack(batch: &[u8]) -> Option<Vec<u8>> {
    if batch.len() < WORTH_PACKING {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(batch.len() / 4), Compression::fast());
    encoder.write_all(batch).ok()?;
    encoder.finish().ok()
}

/// Whether the hub ended the handshake because of our certificate.
fn not_believed(error: &reqwest::Error) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        UnknownCA,
    };
    let of_ours = [
        BadCertificate,
        CertificateExpired,
        CertificateRequired,
        CertificateRevoked,
        CertificateUnknown,
        UnknownCA,
    ];
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // What an io::Error was made of is not among its causes.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = match inner {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => error.downcast_ref::<rustls::Error>(),
        };
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return of_ours.contains(alert);
        }
        cause = error.source();
    }
    false
}

/// The hub's word for a problem, and what it has to say of it.
fn problem(body: &Value) -> (&str, Option<String>) {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let word = text("type").and_then(|kind| kind.strip_prefix(PROBLEM_URN)).unwrap_or_default();
    (word, text("detail").map(|detail| crate::log::plain(evenkeel_report::cut(detail, 256))))
}

/// A body, as far as its cap; nothing where it is longer.
async fn read(response: &mut reqwest::Response) -> Option<Vec<u8>> {
    let mut body = vec![];
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > ANSWER_CAP {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn retry_after_of(response: &reqwest::Response) -> Option<Duration> {
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    after.and_then(|text| retry_after(text, time::OffsetDateTime::now_utc()))
}

/// An error and what is beneath it; the URL is left out, the status says which hub it is.
fn line(error: &dyn std::error::Error) -> String {
    crate::log::plain(evenkeel_report::cut(&evenkeel_core::chain(error), 512))
}

async fn answer(mut response: reqwest::Response, node: &str) -> Answer {
    let status = response.status().as_u16();
    let after = retry_after_of(&response);
    let why = format!("the hub answered {status}");
    if matches!(status, 429 | 502 | 503 | 504) {
        return Answer::Later { why, after };
    }
    if matches!(status, 401 | 403 | 409 | 410) {
        let body = read(&mut response).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        return match (problem(&body), Shut::read(problem(&body).0)) {
            ((_, _), Some(how)) => Answer::Shut { how, after: after.unwrap_or(SHUT_PAUSE).max(SHUT_PAUSE) },
            // This one report speaks for another node; it will never be taken from us.
            (("forged_identity", _), None) => {
                Answer::Never { why: format!("{why}: it speaks for another node") }
            }
            ((_, detail), None) => {
                let why = detail.map_or_else(|| why.clone(), |detail| format!("{why}: {detail}"));
                Answer::Later { why, after }
            }
        };
    }
    if !(200..300).contains(&status) {
        // A server's own trouble, a redirect that is not followed, a hub that is not there yet: all may pass.
        let never = (400..500).contains(&status) && !matches!(status, 404 | 408 | 425);
        return if never { Answer::Never { why } } else { Answer::Later { why, after } };
    }
    // Where there is more than is read, it was taken all the same.
    let body = read(&mut response).await;
    Answer::Taken { want_full: body.is_some_and(|body| wants_full(&body, node)) }
}

/// `{"want_full": true}` or `{"want_full": ["mw3"]}`. Anything else asks for nothing.
fn wants_full(body: &[u8], node: &str) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer.get("want_full") {
        Some(Value::Bool(wanted)) => *wanted,
        Some(Value::Array(nodes)) => nodes.iter().any(|name| name == node),
        _ => false,
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: time::OffsetDateTime) -> Option<Duration> {
    use time::format_description::well_known::Rfc2822;
    let text = text.trim();
    let pause = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        // HTTP writes GMT where mail writes +0000.
        let date = time::OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
        Duration::try_from(date - now).unwrap_or_default()
    };
    Some(pause.min(LONGEST_ASKED))
}

/// How long to wait after the `failures`-th failure in a row: full jitter, and never less than the hub asked for.
pub(crate) fn pause(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    let own = longest.mul_f64(jitter.clamp(0.0, 1.0));
    match asked {
        // The jitter comes on top, so that a thousand nodes told the same second do not come in it.
        Some(asked) => asked + own.min(asked / 2),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{pack, pause, retry_after, wants_full};
    use std::time::Duration;

    #[test]
    fn pauses_double_up_to_five_minutes_and_obey_the_hub() {
        assert_eq!(pause(1, None, 1.0), Duration::from_secs(1));
        assert_eq!(pause(4, None, 1.0), Duration::from_secs(8));
        assert_eq!(pause(4, None, 0.25), Duration::from_secs(2));
        assert_eq!(pause(4_000_000, None, 1.0), Duration::from_mins(5));
        assert!(pause(1, Some(Duration::from_secs(30)), 0.0) >= Duration::from_secs(30));
        assert!(pause(9, Some(Duration::from_secs(30)), 1.0) <= Duration::from_secs(45));
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = time::macros::datetime!(2026-11-23 01:00:00 UTC);
        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("Mon, 23 Nov 2026 01:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Mon, 23 Nov 2026 00:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999", now), Some(Duration::from_hours(1)));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_small_batch_is_left_as_it_is_and_a_large_one_becomes_much_smaller() {
        assert_eq!(pack(b"[]"), None);
        let batch = br#"{"id":"sysctl/net.ipv4.tcp_keepalive_time","status":"compliant"},"#.repeat(64);
        assert!(pack(&batch).unwrap().len() < batch.len() / 5);
    }

    #[test]
    fn an_answer_can_ask_for_a_full_report_and_for_nothing_else() {
        assert!(wants_full(br#"{"want_full": true}"#, "mw3"));
        assert!(wants_full(br#"{"accepted": 2, "want_full": ["db1", "mw3"]}"#, "mw3"));
        for body in
            [&b"{\"want_full\": [\"db1\"]}"[..], b"", b"ok", b"[]", b"{\"want_full\": \"yes\"}", b"\xff"]
        {
            assert!(!wants_full(body, "mw3"));
        }
    }
}
