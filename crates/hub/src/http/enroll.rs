//! Letting nodes in: `POST /v1/enroll` with a token, `POST /v1/renew` with a certificate. And, for every other address
//! that nodes speak to, whether this one may.
//!
//! The private key stays on the node; what is handed out is a certificate, which is no secret.

use super::{Hub, Problem};
use crate::ca::csr::{self, PublicKey};
use crate::ca::{fingerprint, hex, serial, span};
use crate::store::registry::{Admission, Enrol, NewCertificate, Refusal};
use crate::who::{self, Came, Peer, Shut};
use crate::wire::Incoming;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, FromRequest as _, Request, State};
use axum::http::StatusCode;
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The most bytes of what is asked here.
const ASK_CAP: usize = 16 * 1024;
/// How long it may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Deserialize, JsonSchema)]
pub(super) struct AskEnrol {
    /// A token of `evenkeel-hub token create`.
    token: String,
    /// The name that the node wants to be known by.
    node: String,
    /// A PKCS#10 request in PEM over an ECDSA key on P-256.
    csr: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct AskRenew {
    /// A PKCS#10 request in PEM over an ECDSA key on P-256.
    csr: String,
}

/// A certificate and who vouches for it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GivenCertificate")]
pub(super) struct Given {
    /// The certificate, PEM.
    certificate: String,
    /// The authority's, PEM.
    ca: String,
    /// Until when it holds.
    until: Option<Timestamp>,
}

pub(super) async fn enroll(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Given>, Problem> {
    if matches!(peer.came, Came::Trusted | Came::Plain) {
        return Err(shut(&hub, Shut::Plain));
    }
    hub.within_quota(&format!("from {}", peer.at.ip()))?;
    let ask: AskEnrol = read(request).await?;
    if !node_name(&ask.node) {
        let detail = "`node` is no node name: letters, digits, `-`, `_` and `.`, 253 at most";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let key = signed_key(&ask.csr)?;
    let (number, certificate) = certificate(&hub, &key)?;
    let token = fingerprint(ask.token.trim().as_bytes());
    let enrol = Enrol { token, node: ask.node.clone(), now: (hub.clock)(), certificate: certificate.clone() };
    match hub.register(move |registry| registry.enrol(&enrol)).await? {
        Ok(()) => {
            tracing::info!(node = ask.node, serial = certificate.serial, peer = %peer.at, "a node was let in");
            give(&hub, &ask.node, &key, number, &certificate)
        }
        Err(refusal) => {
            tracing::warn!(node = ask.node, peer = %peer.at, "a node was not let in: {}", why(refusal).1);
            hub.metrics.not_let_in();
            Err(refused(refusal))
        }
    }
}

pub(super) async fn renew(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Given>, Problem> {
    let Some(admission) = admitted(&hub, &peer).await? else { return Err(shut(&hub, Shut::Plain)) };
    let ask: AskRenew = read(request).await?;
    let key = signed_key(&ask.csr)?;
    let (number, certificate) = certificate(&hub, &key)?;
    let (enrolment, new) = (admission.enrolment, certificate.clone());
    hub.register(move |registry| registry.renew(enrolment, &new)).await?;
    tracing::info!(node = admission.name, serial = certificate.serial, "a certificate was renewed");
    give(&hub, &admission.name, &key, number, &certificate)
}

/// Whether the other end may speak as a node; what is known of it, or nothing on a hub without certificates, where
/// everybody is believed.
///
/// # Errors
/// Why it may not.
pub(super) async fn admitted(hub: &Hub, peer: &Peer) -> Result<Option<Admission>, Problem> {
    let card = match &peer.came {
        Came::Trusted => return Ok(None),
        Came::Plain => return Err(shut(hub, Shut::Plain)),
        Came::Anonymous => return Err(shut(hub, Shut::NoCertificate)),
        Came::Certified(card) => card.clone(),
    };
    // Once for the certificate and once for the node: who is shut out spends nothing of what the node is due.
    hub.within_quota(&format!("certificate {}", card.serial))?;
    let known = hub.admission(card.serial).await?;
    let known = known.filter(|known| known.name == card.name).ok_or_else(|| shut(hub, Shut::Unknown))?;
    who::judge(&known, (hub.clock)()).map_err(|why| shut(hub, why))?;
    hub.within_quota(&format!("node {}", known.name))?;
    Ok(Some(known))
}

/// Whether every event is its own.
///
/// # Errors
/// Why one of them is not.
pub(super) async fn own(hub: &Hub, admission: &Admission, events: &[Incoming]) -> Result<(), Problem> {
    let first = who::own(admission, events).map_err(|why| {
        tracing::warn!(node = admission.name, "events were refused: {}", why.word());
        shut(hub, why)
    })?;
    let Some(source) = first.map(str::to_owned) else { return Ok(()) };
    let (name, of) = (admission.name.clone(), source.clone());
    let foreign = move |view: &dyn crate::store::View| {
        Ok(view.node(&of)?.is_some_and(|row| row.source == of && row.doc.node.name != name))
    };
    if hub.ask(foreign).await? {
        return Err(shut(hub, Shut::Forged));
    }
    let enrolment = admission.enrolment;
    if hub.register(move |registry| registry.bind(enrolment, &source)).await? {
        Ok(())
    } else {
        Err(shut(hub, Shut::Forged))
    }
}

async fn read<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let arrived = tokio::time::timeout(DEADLINE, Bytes::from_request(request, &())).await;
    let unread = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let bytes = match arrived {
        Ok(Ok(bytes)) if bytes.len() <= ASK_CAP => bytes,
        Ok(Ok(_)) => return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "that is too much")),
        Ok(Err(_)) => return Err(unread("the body did not arrive whole")),
        Err(_) => {
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 10 seconds"));
        }
    };
    // What serde says could repeat the token.
    serde_json::from_slice(&bytes)
        .map_err(|_| unread("the body does not read: see docs/hub.md for its members"))
}

/// As the agent's configuration has it.
fn node_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && text.len() <= 253 && text.chars().all(good)
}

fn signed_key(csr: &str) -> Result<PublicKey, Problem> {
    csr::read(csr).map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.to_string()))
}

fn certificate(hub: &Hub, key: &PublicKey) -> Result<([u8; 16], NewCertificate), Problem> {
    let number = serial().map_err(|why| failed(&why))?;
    let (from, until) = span((hub.clock)(), hub.certificate_life);
    Ok((number, NewCertificate { serial: hex(&number), key: key.fingerprint(), from, until }))
}

fn give(
    hub: &Hub,
    node: &str,
    key: &PublicKey,
    number: [u8; 16],
    noted: &NewCertificate,
) -> Result<Json<Given>, Problem> {
    let Some(authority) = &hub.authority else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "this hub has no authority of its own"));
    };
    let at = |ms: i64| {
        OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    let span = (at(noted.from), at(noted.until));
    let certificate = authority.issue(node, key, number, span).map_err(|why| failed(&why))?;
    Ok(Json(Given {
        certificate,
        ca: authority.pem().to_owned(),
        until: Timestamp::from_unix_ms(noted.until),
    }))
}

fn failed(why: &dyn std::error::Error) -> Problem {
    tracing::error!(error = crate::writer::chain(why), "a certificate could not be made");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the certificate could not be made; see the hub's log")
}

/// What a token that does not let in is answered with.
fn why(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Unknown => ("token_unknown", "there is no such token"),
        Refusal::Revoked => ("token_revoked", "the token was taken back"),
        Refusal::Expired => ("token_expired", "the token's time is over: make a new one"),
        Refusal::UsedUp => ("token_used_up", "the token was used as often as it may be: make a new one"),
        Refusal::Foreign => ("token_foreign", "the token is for nodes of other names"),
        Refusal::Banned => ("banned", "this node is banned: `evenkeel-hub node unban NAME` lifts that"),
        Refusal::Removed => ("removed", "this node was taken out: a token that is made now lets it in again"),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let code = if refusal == Refusal::Removed { StatusCode::GONE } else { StatusCode::FORBIDDEN };
    let (word, detail) = why(refusal);
    Problem::new(code, detail).of(word).again_after(SLOWLY)
}

/// After how many seconds somebody who is shut out may ask again.
const SLOWLY: u32 = 60;

/// The answer to somebody who is not listened to. It is counted.
pub(super) fn shut(hub: &Hub, why: Shut) -> Problem {
    hub.metrics.shut(why);
    let (code, detail) = match why {
        Shut::Plain => {
            (StatusCode::FORBIDDEN, "nodes speak to this hub over TLS, with a certificate of its authority")
        }
        Shut::NoCertificate => (StatusCode::UNAUTHORIZED, "no certificate was shown: enrol at /v1/enroll"),
        Shut::Unknown => {
            (StatusCode::UNAUTHORIZED, "this certificate is not known here, or its time is over: enrol again")
        }
        Shut::Banned => (StatusCode::FORBIDDEN, "this node is banned"),
        Shut::Removed => (StatusCode::GONE, "this node was taken out"),
        Shut::Cloned => (
            StatusCode::CONFLICT,
            "another machine speaks under this name: the one that was let in last is believed",
        ),
        Shut::Forged => (StatusCode::FORBIDDEN, "an event speaks for another node than the certificate's"),
        Shut::Scope => (StatusCode::FORBIDDEN, "the token of this node was for another tier or other labels"),
    };
    let problem = Problem::new(code, detail).of(why.word());
    if why == Shut::Forged { problem } else { problem.again_after(SLOWLY) }
}

impl Hub {
    /// Takes a request out of somebody's quota.
    ///
    /// # Errors
    /// It is spent.
    pub(super) fn within_quota(&self, who: &str) -> Result<(), Problem> {
        self.quota.take(who, Instant::now()).map_err(|seconds| {
            self.metrics.too_many();
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").again_after(seconds)
        })
    }
}
