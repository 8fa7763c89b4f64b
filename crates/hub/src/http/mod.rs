//! The hub over HTTP: the routes, what every answer carries, and errors as RFC 9457 problems.

mod admin;
mod api;
pub(crate) use api::encode;
mod doer;
mod enroll;
mod fleet;
mod fleet_lock;
mod gate;
mod ingest;
mod list;
pub(crate) use list::{address, next};
mod live;
pub use live::LISTENERS;
mod needs;
mod openapi;
mod operations;
mod pages;
mod past;
mod provider;
mod sign_in;
mod silences;
mod telling;
pub use needs::{NEEDS, Need, Way, needed};

use crate::accounts::Desk;
use crate::admissions::{Admissions, Unknown};
use crate::ca::Authority;
use crate::gauges::Looked;
use crate::invariants::Watch;
use crate::liveness::HubTimes;
use crate::look::{Kept, Look};
use crate::metrics::Metrics;
use crate::oidc::Provider;
use crate::quota::Quota;
use crate::roll::Roll;
use crate::slots::Slots;
use crate::store::registry::{Admission, Registry};
use crate::store::telling::Telling;
use crate::store::{StoreError, View};
use crate::writer::{Clock, Writer, chain};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Everything a handler needs.
pub struct Hub {
    /// Where events go.
    pub writer: Writer,
    /// Where answers come from.
    pub view: Arc<dyn View>,
    /// Every node in short.
    pub roll: Arc<Roll>,
    /// Answers that are kept for a while.
    pub kept: Arc<Kept>,
    /// Who watches over what must hold between nodes.
    pub watch: Arc<Watch>,
    /// Room for pages that wait for news.
    pub listeners: Arc<Semaphore>,
    /// Who may be disturbed.
    pub slots: Slots,
    /// Who may speak.
    pub registry: Arc<dyn Registry>,
    /// Requests that wait to be told what is known of their certificates.
    pub admissions: Arc<Admissions>,
    /// Who may look and act.
    pub accounts: Desk,
    /// Who else has accounts for this hub.
    pub provider: Option<Provider>,
    /// Who signs certificates; nobody on a hub that speaks plain HTTP alone.
    pub authority: Option<Arc<Authority>>,
    /// How long a node's certificate holds.
    pub certificate_life: Duration,
    /// How long history is kept (ms).
    pub keep: i64,
    /// How often each may ask.
    pub quota: Quota,
    /// What waits to be told, and what is not to be told.
    pub telling: Arc<dyn Telling>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
    /// When this hub started (unix ms).
    pub started: i64,
    /// Until when the hub before it was up (unix ms).
    pub up_before: Option<i64>,
}

impl Hub {
    /// The times that liveness is judged against.
    #[must_use]
    pub fn times(&self) -> HubTimes {
        let now = (self.clock)();
        let outage = self.writer.outage();
        match (outage.since, outage.until) {
            // As after a restart: while the database was away, nobody was heard of.
            (Some(since), until) => HubTimes { now, started: until.unwrap_or(now), up_before: Some(since) },
            (None, _) => HubTimes { now, started: self.started, up_before: self.up_before },
        }
    }

    /// Asks the store, away from the thread that serves everybody.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let view = Arc::clone(&self.view);
        match tokio::task::spawn_blocking(move || question(view.as_ref())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why @ StoreError::Away { .. })) => {
                tracing::warn!(error = chain(&why), "the store could not be read");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, AWAY).again_after(AWAY_S))
            }
            Ok(Err(why)) => {
                tracing::error!(error = chain(&why), "the store could not be read");
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be read"))
            }
            Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the question was dropped")),
        }
    }

    /// Looks at the fleet, away from the thread that serves everybody.
    async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Look<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (roll, kept, slots, times) =
            (Arc::clone(&self.roll), Arc::clone(&self.kept), self.slots.clone(), self.times());
        let keep = self.keep;
        let (telling, watch, members) =
            (Arc::clone(&self.telling), Arc::clone(&self.watch), Arc::clone(&self.registry));
        let shared = Arc::clone(&self.view);
        self.ask(move |view| {
            roll.refresh(&shared, times.now)?;
            let (shared, telling, members) = (&shared, telling.as_ref(), &members);
            let (roll, slots, kept, watch) = (&roll, &slots, &*kept, &*watch);
            question(&Look { view, shared, roll, slots, telling, kept, watch, members, keep, times })
        })
        .await
    }

    /// What is known of a certificate, not earlier than now. Whoever is not known for certain to be let in is asked to come
    /// again.
    async fn admission(&self, serial: String) -> Result<Option<Admission>, Problem> {
        self.admissions.of(&self.registry, serial).await.map_err(|why| match why {
            Unknown::Away => Problem::new(StatusCode::SERVICE_UNAVAILABLE, AWAY).again_after(AWAY_S),
            Unknown::Failed => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store failed; see the hub's log")
            }
        })
    }

    /// Asks or tells the registry, away from the thread that serves everybody. Whoever is not known for certain to be
    /// let in is asked to come again.
    async fn register<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Registry) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let registry = Arc::clone(&self.registry);
        match tokio::task::spawn_blocking(move || question(registry.as_ref())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why @ StoreError::Away { .. })) => {
                tracing::warn!(error = chain(&why), "the registry could not be asked");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, AWAY).again_after(AWAY_S))
            }
            Ok(Err(why)) => {
                tracing::error!(error = chain(&why), "the registry could not be asked");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store failed; see the hub's log"))
            }
            Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the question was dropped")),
        }
    }
}

/// What is answered while the database is away, and after how many seconds it is worth another try.
const AWAY: &str = "the database is away; try again";
const AWAY_S: u32 = 5;

/// An error as a person and a program can both read it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    #[serde(skip)]
    code: StatusCode,
    /// After how many seconds it may be tried again.
    #[serde(skip)]
    again: Option<u32>,
    /// Which problem it is, for programs.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    kind: Option<Word>,
    /// The code's name.
    title: &'static str,
    /// The code.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// Which event of a batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// That event's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Problem {
    fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        let title = code.canonical_reason().unwrap_or("error");
        let again = (code == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        let (status, detail) = (code.as_u16(), detail.into());
        Self { code, again, kind: None, title, status, detail, index: None, id: None }
    }

    /// With a word for programs.
    fn of(self, word: &'static str) -> Self {
        Self { kind: Some(Word(word)), ..self }
    }

    /// With a time to come again (s).
    fn again_after(self, seconds: u32) -> Self {
        Self { again: Some(seconds), ..self }
    }
}

/// A problem's name, which is written as a URN.
#[derive(Debug)]
struct Word(&'static str);

impl Serialize for Word {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("urn:evenkeel:problem:{}", self.0))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = (header::CONTENT_TYPE, "application/problem+json");
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut answer = (self.code, [kind], body).into_response();
        if let Some(seconds) = self.again {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// Every route.
pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/events", post(ingest::events))
        .route("/v1/heartbeat", post(ingest::heartbeat))
        .route("/v1/pre-reboot", post(fleet_lock::take))
        .route("/v1/steady-state", post(fleet_lock::leave))
        .route("/api/v1/slots", get(api::slots))
        .route("/api/v1/invariants", get(api::invariants))
        .route("/api/v1/outbox", get(telling::outbox))
        .route("/v1/enroll", post(enroll::enroll))
        .route("/v1/renew", post(enroll::renew))
        .route("/api/v1/fleet", get(fleet::fleet))
        .route("/api/v1/drift", get(fleet::drift))
        .route("/api/v1/rollout/{commit}", get(fleet::rollout))
        .route("/api/v1/nodes", get(list::nodes))
        .route("/api/v1/nodes/{name}", get(api::node).delete(admin::remove))
        .route("/api/v1/nodes/{name}/timeline", get(api::timeline))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(metrics))
        .route("/live", get(live::live))
        .merge(pages::routes())
        .merge(sign_in::routes())
        .merge(provider::routes())
        .merge(silences::routes())
        .merge(admin::routes())
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address") })
        .layer(from_fn_with_state(Arc::clone(&hub), gate::gate))
        .layer(DefaultBodyLimit::max(crate::wire::BODY_CAP))
        .layer(from_fn(guard))
        .with_state(hub)
}

/// Nothing on a page may come from anywhere but the hub: what nodes wrote is text and stays text.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

async fn guard(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // Nothing to anybody else. With `no-referrer` a browser would not say from where a form of the hub's own comes either:
    // its `Origin` would be `null` (Fetch, "append a request Origin header").
    headers.insert("referrer-policy", HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    let (metrics, members, vouches) =
        (Arc::clone(&hub.metrics), Arc::clone(&hub.registry), hub.authority.is_some());
    let looked = hub.look(move |look| {
        if vouches {
            metrics.gauges.look_at_members(members.as_ref(), look.times.now)?;
        }
        Looked::look(look)
    });
    // A store that is away is something to tell, and no reason to tell nothing.
    let looked = looked.await.ok();
    let text = hub
        .metrics
        .render(looked.as_ref(), hub.times(), hub.writer.depth())
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
