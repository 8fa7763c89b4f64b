//! Handing events to the hub over HTTP: one request, one answer, and what the answer means for the spool.
//!
//! The link crosses the same forgetful routers as everything else, so the socket has keepalive, a user timeout and a
//! deadline on every request. No redirect is followed, no proxy taken from the environment, no answer read beyond
//! its cap; the one thing an answer may ask for is a full report.

use crate::config::Config;
use serde_json::Value;
use std::time::Duration;

/// The most bytes of an answer that are read.
const ANSWER_CAP: usize = 64 * 1024;
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
    /// Never: the hub will not take this, however often it is sent.
    Never {
        /// Why, for a person.
        why: String,
    },
}

/// A hub and the connection to it.
pub(crate) struct Link {
    client: reqwest::Client,
    url: String,
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
    /// The client cannot be made.
    #[error("make the HTTPS client")]
    Client(#[source] reqwest::Error),
}

impl Link {
    /// A link to `hub`. Nothing is sent yet.
    ///
    /// # Errors
    /// The certificate authorities cannot be read.
    pub(crate) fn new(hub: &str, config: &Config) -> Result<Self, LinkError> {
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
            .tcp_user_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(1);
        if let Some(path) = &config.hub_ca {
            let pem = evenkeel_host::files::read(path, 1 << 20).map_err(LinkError::Read)?.unwrap_or_default();
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(LinkError::NoCertificate);
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(LinkError::Client)?;
        Ok(Self { client, url: format!("{hub}/v1/events") })
    }

    /// Send a batch of events.
    pub(crate) async fn send(&self, batch: Vec<u8>, node: &str) -> Answer {
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/cloudevents-batch+json; charset=utf-8")
            .body(batch);
        match request.send().await {
            Ok(response) => answer(response, node).await,
            Err(error) => Answer::Later { why: line(&error.without_url()), after: None },
        }
    }
}

/// An error and what is beneath it; the URL is left out, the status says which hub it is.
fn line(error: &dyn std::error::Error) -> String {
    crate::log::plain(evenkeel_report::cut(&evenkeel_core::chain(error), 512))
}

async fn answer(mut response: reqwest::Response, node: &str) -> Answer {
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| retry_after(text, time::OffsetDateTime::now_utc()));
    let why = format!("the hub answered {status}");
    if matches!(status, 429 | 502 | 503 | 504) {
        return Answer::Later { why, after };
    }
    if !(200..300).contains(&status) {
        // A server's own trouble, a redirect that is not followed, a hub that is not there yet: all may pass.
        let never = (400..500).contains(&status) && !matches!(status, 401 | 403 | 404 | 408 | 425);
        return if never { Answer::Never { why } } else { Answer::Later { why, after } };
    }
    let mut body = vec![];
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > ANSWER_CAP {
            // It was taken; what else the hub has to say is too much.
            return Answer::Taken { want_full: false };
        }
        body.extend_from_slice(&chunk);
    }
    Answer::Taken { want_full: wants_full(&body, node) }
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
    use super::{pause, retry_after, wants_full};
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
