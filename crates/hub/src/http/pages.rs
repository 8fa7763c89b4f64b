//! The pages over HTTP: addresses, what they may be asked, and which code they answer with.

use super::list::{Asked, Params};
use super::{Hub, Problem, fleet, past};
use crate::accounts::Who;
use crate::pages;
use crate::store::accounts::Role;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;

/// How many nodes a list page has, unless asked otherwise, and at most.
const PAGE: usize = 50;
const PAGE_MOST: usize = 500;

type Answer = Result<Response, Problem>;
type Asks = Result<Params, QueryRejection>;

/// Every page, and what they are made of.
pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/", get(front))
        .route("/nodes", get(nodes))
        .route("/nodes/{name}", get(node))
        .route("/drift", get(drift))
        .route("/rollout", get(rollouts))
        .route("/rollout/{commit}", get(rollout))
        .route("/invariants", get(invariants))
        .route("/incident", get(incident))
        .route("/wall", get(wall))
        .route("/assets/hub.css", get(|| async { asset("text/css", include_str!("../../assets/hub.css")) }))
        .route(
            "/assets/hub.js",
            get(|| async { asset("text/javascript", include_str!("../../assets/hub.js")) }),
        )
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
}

pub(super) fn html(text: pages::Page) -> Response {
    match text {
        Ok(text) => {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(why) => {
            tracing::error!(error = %why, "a page could not be made");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made").into_response()
        }
    }
}

/// The page for somebody who is known and may not.
pub(super) fn refused(who: &Who, needed: Role) -> Response {
    let mut answer = html(pages::refused(who, needed));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer
}

/// Where somebody goes after a form of his, or the page that says why it came to nothing.
pub(super) fn after(who: &Who, done: Result<(), Problem>, then: &str) -> Response {
    match done {
        Ok(()) => Redirect::to(then).into_response(),
        Err(why) => {
            let mut answer = html(pages::undone(who, &why.detail, then));
            *answer.status_mut() = why.code;
            answer
        }
    }
}

/// A page, or the one that says that there is none.
fn found(page: Option<pages::Page>, otherwise: impl FnOnce() -> pages::Page) -> Response {
    if let Some(page) = page {
        return html(page);
    }
    let mut answer = html(otherwise());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

async fn front(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>) -> Answer {
    Ok(html(hub.look(move |look| pages::fleet(&who, look)).await?))
}

async fn nodes(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>, params: Asks) -> Answer {
    let asked = Asked::read(params)?;
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    Ok(html(hub.look(move |look| pages::nodes(&who, look, &asked.filter, asked.after(), limit)).await?))
}

async fn node(
    State(hub): State<Arc<Hub>>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
    params: Asks,
) -> Answer {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(params) = params.map_err(|why| bad(why.body_text()))?;
    fleet::known(&params, &["at", "hours"])?;
    let at = past::moment(params.get("at").map(String::as_str), hub.times().now)?;
    let hours = pages::hours(params.get("hours").map(String::as_str));
    let by = who.clone();
    let page = hub.look(move |look| match at {
        Some(at) => pages::past(&by, look, &name, at),
        None => pages::node(&by, look, &name, hours),
    });
    Ok(found(page.await?, || pages::nobody(&who)))
}

async fn drift(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>, params: Asks) -> Answer {
    let (filter, item) = fleet::narrow(params)?;
    Ok(html(hub.look(move |look| pages::drift(&who, look, &filter, &item)).await?))
}

async fn rollouts(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>) -> Answer {
    Ok(html(hub.look(move |look| pages::rollouts(&who, look)).await?))
}

async fn rollout(
    State(hub): State<Arc<Hub>>,
    Extension(who): Extension<Who>,
    Path(commit): Path<String>,
) -> Answer {
    let by = who.clone();
    Ok(found(hub.look(move |look| pages::rollout(&by, look, &commit)).await?, || pages::no_commit(&who)))
}

async fn invariants(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>) -> Answer {
    Ok(html(hub.look(move |look| pages::invariants(&who, look)).await?))
}

async fn incident(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>, params: Asks) -> Answer {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(params) = params.map_err(|why| bad(why.body_text()))?;
    fleet::known(&params, &["from", "minutes"])?;
    let given = |name: &str| params.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let span = pages::Span::parse(given("from"), given("minutes"), hub.times().now).map_err(bad)?;
    Ok(html(hub.look(move |look| pages::incident(&who, look, span)).await?))
}

async fn wall(State(hub): State<Arc<Hub>>) -> Answer {
    Ok(html(hub.look(pages::wall).await?))
}
