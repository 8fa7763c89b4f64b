//! One try to tell a sink. No redirect is followed: a secret goes where the configuration says, or nowhere.

use super::alertmanager;
use super::backoff::retry_after;
use super::commit_status;
use super::fleet::Fleet;
use super::route::Bundle;
use super::sinks::{Alertmanager, CommitStatus, Sink, Slack, To, Webhook, read, secret};
use super::{slack, webhook};
use crate::store::telling::{Message, News, Silence, Telling};
use crate::tell::silence::covers;
use reqwest::{Client, RequestBuilder};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How much of an answer is read.
const ANSWER: usize = 300;

/// What became of a try.
#[derive(Debug)]
pub(super) enum Tried {
    /// It was taken; of a standing message, what to remember.
    Taken(Option<String>),
    /// It was not.
    Again {
        /// When the receiver wants to hear of it again.
        after: Option<Duration>,
        /// What went wrong.
        why: String,
        /// Of a standing message, what was taken of it.
        memo: Option<String>,
    },
}

impl From<Refused> for Tried {
    fn from(it: Refused) -> Self {
        Self::Again { after: it.after, why: it.why, memo: None }
    }
}

/// Why a request came to nothing.
struct Refused {
    after: Option<Duration>,
    why: String,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { after: None, why }
    }
}

/// What a standing message is made of.
pub(super) struct Stands<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) silences: &'a [Silence],
    /// Where to note what has to be remembered before it is sent.
    pub(super) telling: &'a Arc<dyn Telling>,
}

/// A client for addresses of the configuration, which believes the authorities in `ca_file` instead of the system's.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<Client, String> {
    // Installed once for the process; a second time changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("evenkeel-hub/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(4))
        .timeout(PATIENCE);
    if let Some(path) = ca_file {
        let named = |why: String| format!("{}: {why}", path.display());
        let pem = read(path, 1 << 20).map_err(|why| named(why.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
        if certificates.is_empty() {
            return Err(named("there is no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|why| why.to_string())
}

/// Sends a request; what went wrong never has the address in it, which may be a secret.
async fn send(request: RequestBuilder) -> Result<(), Refused> {
    let sent = request.send().await.map_err(|why| crate::writer::chain(&why.without_url()))?;
    let code = sent.status();
    if code.is_success() {
        return Ok(());
    }
    let after = sent.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| retry_after(text, OffsetDateTime::now_utc()));
    let mut sent = sent;
    let body = sent.chunk().await.ok().flatten().unwrap_or_default();
    let said: String = String::from_utf8_lossy(&body).chars().take(ANSWER).collect();
    Err(Refused { after, why: format!("answered {}: {}", code.as_u16(), said.trim()) })
}

/// Tries to tell `message`.
pub(super) async fn tell(
    client: &Client,
    sink: &Sink,
    message: &Message,
    stands: &Stands<'_>,
    public_url: Option<&str>,
    now: i64,
) -> Tried {
    match &sink.to {
        To::Webhook(to) => one(to_webhook(client, to, message, public_url, now).await),
        To::Slack(to) => one(to_slack(client, to, message, public_url).await),
        To::Alertmanager(to) => to_alertmanager((client, sink, to), message, stands, public_url, now).await,
        To::CommitStatus(to) => to_forge((client, sink, to), message, stands.fleet, public_url).await,
    }
}

fn one(told: Result<(), Refused>) -> Tried {
    told.map_or_else(Tried::from, |()| Tried::Taken(None))
}

fn bundle(message: &Message) -> Result<Bundle, Refused> {
    serde_json::from_str(&message.body).map_err(|why| format!("the message does not read: {why}").into())
}

async fn to_webhook(
    client: &Client,
    to: &Webhook,
    message: &Message,
    public_url: Option<&str>,
    now: i64,
) -> Result<(), Refused> {
    let body = webhook::event(message, &bundle(message)?, public_url).to_string();
    let seconds = now.div_euclid(1000);
    let mut request = client
        .post(&to.url)
        .header("content-type", "application/cloudevents+json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", seconds.to_string());
    if let Some(path) = &to.secret_file {
        let key = webhook::key(&secret(path)?)?;
        request = request.header("webhook-signature", webhook::signature(&key, &message.id, seconds, &body));
    }
    send(request.body(body)).await
}

async fn to_slack(
    client: &Client,
    to: &Slack,
    message: &Message,
    public_url: Option<&str>,
) -> Result<(), Refused> {
    let url = super::sinks::address(&secret(&to.url_file)?)?;
    send(client.post(url).json(&slack::text(&bundle(message)?, public_url))).await
}

async fn to_alertmanager(
    (client, sink, to): (&Client, &Sink, &Alertmanager),
    message: &Message,
    stands: &Stands<'_>,
    public_url: Option<&str>,
    now: i64,
) -> Tried {
    let memo: alertmanager::Memo = serde_json::from_str(&message.body).unwrap_or_default();
    let silenced = |news: &News| stands.silences.iter().any(|one| one.until > now && covers(one, news));
    let due = alertmanager::alerts(sink, stands.fleet, &|news| !silenced(news), &memo, public_url, now);
    let Some((alerts, after)) = due else { return Tried::Taken(None) };
    let ahead = after.ahead(&memo).and_then(|ahead| serde_json::to_string(&ahead).ok());
    if let Some(ahead) = &ahead
        && let Err(why) = super::note(stands.telling, message, ahead, now).await
    {
        return Tried::from(Refused::from(crate::writer::chain(&why)));
    }
    let url = format!("{}/api/v2/alerts", to.url.trim_end_matches('/'));
    match send(client.post(url).json(&alerts)).await {
        Ok(()) => Tried::Taken(serde_json::to_string(&after).ok()),
        Err(Refused { after, why }) => Tried::Again { after, why, memo: ahead },
    }
}

async fn to_forge(
    (client, sink, to): (&Client, &Sink, &CommitStatus),
    message: &Message,
    fleet: &Fleet,
    public_url: Option<&str>,
) -> Tried {
    let memo: commit_status::Memo = serde_json::from_str(&message.body).unwrap_or_default();
    let now = commit_status::verdicts(sink, fleet, &memo);
    let token = match secret(&to.token_file) {
        Ok(token) => token,
        Err(why) => return Refused::from(why).into(),
    };
    // What is no node's target any more is forgotten; what was not told yet is not remembered.
    let mut told: commit_status::Memo = memo
        .iter()
        .filter(|(commit, _)| now.contains_key(*commit))
        .map(|(commit, told)| (commit.clone(), told.clone()))
        .collect();
    // One that the forge does not know keeps no other from being told.
    let mut failed = None;
    for (commit, verdict) in commit_status::changed(&now, &memo) {
        let ask = commit_status::ask(to, &token, commit, verdict, public_url);
        let request = client.post(ask.url).header(ask.header.0, ask.header.1).json(&ask.body);
        match send(request).await {
            // GitLab takes a state once and calls the same one an error.
            Err(why) if !why.why.contains("Cannot transition status") => failed = failed.or(Some(why)),
            _ => drop(told.insert(commit.to_owned(), verdict.clone())),
        }
    }
    let memo = serde_json::to_string(&told).ok().filter(|_| told != memo);
    match failed {
        Some(Refused { after, why }) => Tried::Again { after, why, memo },
        None => Tried::Taken(memo),
    }
}
