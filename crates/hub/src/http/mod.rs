//! The hub over HTTP: the routes, what every answer carries, and errors as RFC 9457 problems.

mod api;
pub(crate) use api::encode;
mod enroll;
mod fleet_lock;
mod ingest;

use crate::ca::Authority;
use crate::liveness::HubTimes;
use crate::metrics::{Metrics, Standing};
use crate::pages;
use crate::quota::Quota;
use crate::slots::Slots;
use crate::store::registry::Registry;
use crate::store::{StoreError, View};
use crate::writer::{Clock, Writer, chain};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Everything a handler needs.
pub struct Hub {
    /// Where events go.
    pub writer: Writer,
    /// Where answers come from.
    pub view: Arc<dyn View>,
    /// Who may be disturbed.
    pub slots: Slots,
    /// Who may speak.
    pub registry: Arc<dyn Registry>,
    /// Who signs certificates; nobody on a hub that speaks plain HTTP alone.
    pub authority: Option<Arc<Authority>>,
    /// How long a node's certificate holds.
    pub certificate_life: Duration,
    /// How often each may ask.
    pub quota: Quota,
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
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    code: StatusCode,
    /// After how many seconds it may be tried again.
    #[serde(skip)]
    again: Option<u32>,
    /// Which problem it is, for programs.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<Word>,
    title: &'static str,
    status: u16,
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
        .route("/v1/enroll", post(enroll::enroll))
        .route("/v1/renew", post(enroll::renew))
        .route("/api/v1/nodes", get(api::nodes))
        .route("/api/v1/nodes/{name}", get(api::node))
        .route("/api/v1/nodes/{name}/timeline", get(api::timeline))
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(metrics))
        .route("/", get(fleet_page))
        .route("/nodes/{name}", get(node_page))
        .route("/assets/hub.css", get(|| async { asset("text/css", include_str!("../../assets/hub.css")) }))
        .route(
            "/assets/hub.js",
            get(|| async { asset("text/javascript", include_str!("../../assets/hub.js")) }),
        )
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address") })
        .layer(DefaultBodyLimit::max(crate::wire::BODY_CAP))
        .layer(from_fn(guard))
        .with_state(hub)
}

/// Nothing on a page may come from anywhere but the hub: what nodes wrote is text and stays text.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn guard(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
}

fn html(text: Result<String, askama::Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(why) => {
            tracing::error!(error = %why, "a page could not be made");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made").into_response()
        }
    }
}

async fn fleet_page(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    let times = hub.times();
    let slots = hub.slots.clone();
    Ok(html(hub.ask(move |view| pages::fleet(view, &slots, times)).await?))
}

async fn node_page(
    State(hub): State<Arc<Hub>>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Response, Problem> {
    let times = hub.times();
    if let Some(page) = hub.ask(move |view| pages::node(view, &name, times)).await? {
        return Ok(html(page));
    }
    let mut answer = html(pages::nobody());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    Ok(answer)
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    let times = hub.times();
    let standing = hub.ask(move |view| standing(view, times)).await?;
    let text = hub
        .metrics
        .render(&standing, hub.writer.depth())
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// How many nodes are read at once.
const CHUNK: usize = 500;

/// Every node counted, a chunk at a time.
fn standing(view: &dyn View, times: HubTimes) -> Result<Standing, StoreError> {
    let (mut standing, mut after) = (Standing::default(), None::<(String, String)>);
    loop {
        let from = after.as_ref().map(|(name, source)| (name.as_str(), source.as_str()));
        let rows = view.nodes(from, CHUNK)?;
        for row in &rows {
            standing.add(row, times);
        }
        if rows.len() < CHUNK {
            return Ok(standing);
        }
        after = rows.last().map(|row| (row.doc.node.name.clone(), row.source.clone()));
    }
}
