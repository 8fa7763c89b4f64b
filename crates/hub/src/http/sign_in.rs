//! Coming and going: the sign-in form, the end of a session, who somebody is; and the log of who did what.

use super::doer::Doer;
use super::gate::{FORM_MOST, cookie, foreign, is_own, origin, over_tls, set_cookie};
use super::{Hub, Problem, pages::html};
use crate::accounts::{AccountError, Who, is_name};
use crate::ca::fingerprint;
use crate::pages;
use crate::store::accounts::{Change, Entry, Role};
use crate::writer::chain;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Form, FromRequest as _, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many lines of the log an answer has, unless asked otherwise, and at most.
const LINES: usize = 100;
const LINES_MOST: usize = 1000;

type Answer = Result<Response, Problem>;

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/sign-in", get(form).post(sign_in).layer(DefaultBodyLimit::max(FORM_MOST)))
        .route("/sign-out", post(sign_out))
        .route("/account", get(account))
        .route("/api/v1/account", get(account_json))
        .route("/admin/audit", get(audit))
        .route("/api/v1/audit", get(audit_json))
}

#[derive(Debug, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    pub(super) next: String,
}

/// An address of this hub and of nothing else.
pub(super) fn inside(next: &str) -> &str {
    let sound = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if sound { next } else { "/" }
}

async fn form(State(hub): State<Arc<Hub>>, next: Result<Query<Next>, QueryRejection>) -> Answer {
    let any = hub.ask_accounts(|desk, _| desk.any()).await?;
    let next = next.map(|next| next.0.next).unwrap_or_default();
    Ok(html(pages::sign_in(inside(&next), "", None, any, hub.provider_label())))
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

async fn sign_in(State(hub): State<Arc<Hub>>, request: Request) -> Answer {
    if !is_own(request.headers(), true) {
        return Ok(foreign());
    }
    let (from, tls) = (origin(request.extensions()), over_tls(&request));
    let asked: Result<Form<SignIn>, FormRejection> = Form::from_request(request, &()).await;
    let Form(SignIn { name, password, next }) =
        asked.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let again = |code: StatusCode, why: &str| {
        let mut answer = html(pages::sign_in(inside(&next), &name, Some(why), true, hub.provider_label()));
        *answer.status_mut() = code;
        answer
    };
    let wrong = "Name and password do not go together.";
    if !is_name(&name) {
        return Ok(again(StatusCode::UNAUTHORIZED, wrong));
    }
    if let Err(seconds) = hub.accounts.may_try(&name, &from, (hub.clock)()) {
        tracing::warn!(origin = from, "too many tries to sign in");
        let mut answer =
            again(StatusCode::TOO_MANY_REQUESTS, "Too many tries. Wait five minutes and try again.");
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        return Ok(answer);
    }
    let Some(secret) = check(&hub, name.clone(), password, from).await? else {
        return Ok(again(StatusCode::UNAUTHORIZED, wrong));
    };
    let mut answer = Redirect::to(inside(&next)).into_response();
    answer.headers_mut().extend(set_cookie(Some(&secret), tls).map(|value| (header::SET_COOKIE, value)));
    Ok(answer)
}

async fn check(
    hub: &Arc<Hub>,
    name: String,
    password: String,
    from: String,
) -> Result<Option<String>, Problem> {
    let dropped = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is busy; try again");
    let room = hub.accounts.hashing().acquire().await.map_err(|_| dropped())?;
    let signing = Arc::clone(hub);
    let done = tokio::task::spawn_blocking(move || {
        signing.accounts.sign_in(&name, &password, &from, (signing.clock)())
    });
    let done = done.await;
    drop(room);
    match done {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(why)) => {
            tracing::error!(error = chain(&why as &AccountError), "nobody can sign in");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store failed; see the hub's log"))
        }
        Err(_) => Err(dropped()),
    }
}

async fn sign_out(State(hub): State<Arc<Hub>>, doer: Doer, request: Request) -> Answer {
    let (tls, shown) = (over_tls(&request), cookie(&request));
    // A token is no session and has nothing to sign out of.
    let Some(shown) = shown.filter(|_| doer.who.form.is_some()) else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "there is no session to end"));
    };
    hub.ask_accounts(move |desk, now| {
        let by = doer.at(now);
        desk.store.change(&Change::DropPass(fingerprint(shown.as_bytes())), &by.entry("sign_out", &by.who))
    })
    .await?;
    let mut answer = Redirect::to("/sign-in").into_response();
    answer.headers_mut().extend(set_cookie(None, tls).map(|value| (header::SET_COOKIE, value)));
    Ok(answer)
}

async fn account(Extension(who): Extension<Who>) -> Response {
    html(pages::account(&who))
}

/// Who asks.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Account")]
pub(super) struct AccountJson {
    /// The account; null where none is needed.
    name: Option<String>,
    /// What it may do.
    role: Role,
    /// The tiers it may act on; none means every one.
    tiers: Vec<String>,
}

async fn account_json(Extension(who): Extension<Who>) -> Json<AccountJson> {
    Json(AccountJson { name: who.name, role: who.role, tiers: who.tiers })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    before: Option<i64>,
    limit: Option<usize>,
}

async fn lines(
    hub: &Arc<Hub>,
    asked: Result<Query<Lines>, QueryRejection>,
) -> Result<(Vec<Entry>, Option<i64>), Problem> {
    let Query(asked) = asked.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    let limit = asked.limit.unwrap_or(LINES).clamp(1, LINES_MOST);
    let lines = hub.ask_accounts(move |desk, _| desk.store.log(asked.before, limit)).await?;
    let more = (lines.len() == limit).then(|| lines.last().map(|line| line.id)).flatten();
    Ok((lines, more))
}

async fn audit(
    State(hub): State<Arc<Hub>>,
    Extension(who): Extension<Who>,
    asked: Result<Query<Lines>, QueryRejection>,
) -> Answer {
    let (lines, more) = lines(&hub, asked).await?;
    Ok(html(pages::audit(&who, &lines, more)))
}

/// A page of the audit log, newest first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Audit")]
pub(super) struct AuditJson {
    /// The lines of this page.
    entries: Vec<pages::Line>,
    /// The address of the older page; nothing on the last.
    next: Option<String>,
}

async fn audit_json(
    State(hub): State<Arc<Hub>>,
    asked: Result<Query<Lines>, QueryRejection>,
) -> Result<Json<AuditJson>, Problem> {
    let (lines, more) = lines(&hub, asked).await?;
    let next = more.map(|before| format!("/api/v1/audit?before={before}"));
    Ok(Json(AuditJson { entries: lines.iter().map(pages::Line::new).collect(), next }))
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_led_off_the_hub_by_signing_in() {
        assert_eq!(inside("/nodes?q=a"), "/nodes?q=a");
        for bad in
            ["", "nodes", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb: c", "/ä"]
        {
            assert_eq!(inside(bad), "/", "{bad}");
        }
    }
}
