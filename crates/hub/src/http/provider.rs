//! Signing in at a provider (OpenID Connect): to it, and back from it. What it says is judged in `crate::oidc`; here is what a
//! browser is told, what is noted, and what it gets.

use super::gate::{cookie_of, origin, over_tls, set_cookie, set_cookie_of};
use super::sign_in::{Next, inside};
use super::{Hub, Problem, pages::html};
use crate::accounts::{self, AccountError, Desk};
use crate::ca::fingerprint;
use crate::oidc::{Back, OidcError, Provider, Vouched};
use crate::pages;
use crate::writer::chain;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;

/// What follows the session's name in the name of the cookie of a sign-in that has begun.
const PENDING: &str = "-oidc";
/// The longest address to go to afterwards: it is in the cookie, and a browser keeps 4096 bytes.
const NEXT_MOST: usize = 1024;

type Answer = Result<Response, Problem>;

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new().route("/sign-in/provider", get(to)).route("/sign-in/provider/back", get(back))
}

impl Hub {
    /// What the provider is called, where there is one.
    pub(super) fn provider_label(&self) -> Option<&str> {
        self.provider.as_ref().map(|provider| provider.oidc.label.as_str())
    }

    fn provider(&self) -> Result<&Provider, Problem> {
        let none = || Problem::new(StatusCode::NOT_FOUND, "this hub knows no provider of accounts");
        self.provider.as_ref().ok_or_else(none)
    }
}

async fn to(
    State(hub): State<Arc<Hub>>,
    next: Result<Query<Next>, QueryRejection>,
    request: Request,
) -> Answer {
    let provider = hub.provider()?;
    let next = next.map(|next| next.0.next).unwrap_or_default();
    let next = Some(inside(&next)).filter(|next| next.len() <= NEXT_MOST).unwrap_or("/");
    match provider.begin(next, (hub.clock)()).await {
        Ok((url, pending)) => {
            let mut answer = Redirect::to(&url).into_response();
            keep(answer.headers_mut(), Some(&pending), over_tls(&request));
            Ok(answer)
        }
        Err(why) => {
            note(&hub, None, &why, origin(request.extensions())).await?;
            Ok(told(&hub, &why, next))
        }
    }
}

async fn back(
    State(hub): State<Arc<Hub>>,
    back: Result<Query<Back>, QueryRejection>,
    request: Request,
) -> Answer {
    let provider = hub.provider()?;
    let (from, tls, now) = (origin(request.extensions()), over_tls(&request), (hub.clock)());
    let Query(back) = back.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    // A sign-in has a window of its own, so that of one account nothing is spent; the address has one for all.
    let tried = fingerprint(back.state.as_bytes());
    if let Err(seconds) = hub.accounts.may_try(&tried, &from, now) {
        let detail = "too many tries; wait five minutes and try again";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).again_after(seconds));
    }
    let pending = cookie_of(PENDING, &request).unwrap_or_default();
    let ended = match provider.end(back, &pending, now).await {
        Ok(vouched) => enter(&hub, vouched, tried, from).await?,
        Err(why) => Err((None, why)),
    };
    let mut answer = match ended {
        Ok((secret, next)) => {
            let mut answer = Redirect::to(&next).into_response();
            answer
                .headers_mut()
                .extend(set_cookie(Some(&secret), tls).map(|value| (header::SET_COOKIE, value)));
            answer
        }
        Err((who, why)) => {
            note(&hub, who, &why, origin(request.extensions())).await?;
            told(&hub, &why, "/")
        }
    };
    // It has ended in any case.
    keep(answer.headers_mut(), None, tls);
    Ok(answer)
}

/// The secret of a session, and where to go; or who is not let in, and why.
type Ended = Result<(String, String), (Option<Vouched>, OidcError)>;

/// Lets somebody in whom the provider vouches for, if he has a role here and nobody else his name.
async fn enter(hub: &Arc<Hub>, vouched: Vouched, tried: String, from: String) -> Result<Ended, Problem> {
    let Some(grant) = vouched.grant.clone() else { return Ok(Err((Some(vouched), OidcError::NoRole))) };
    let (now, entering) = ((hub.clock)(), Arc::clone(hub));
    let account = accounts::vouched(&vouched.name, &vouched.subject, grant, now);
    let done = tokio::task::spawn_blocking(move || entering.accounts.enter(account, (&tried, &from), now));
    match done.await {
        Ok(Ok(Some(secret))) => Ok(Ok((secret, vouched.next))),
        Ok(Ok(None)) => Ok(Err((Some(vouched), OidcError::Taken))),
        Ok(Err(why)) => {
            tracing::error!(error = chain(&why as &AccountError), "nobody can sign in");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store failed; see the hub's log"))
        }
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is busy; try again")),
    }
}

/// Notes why somebody is not let in: what is the provider's or the hub's own trouble in the log of the program, what is
/// about a person in the one of who did what.
async fn note(hub: &Arc<Hub>, who: Option<Vouched>, why: &OidcError, from: String) -> Result<(), Problem> {
    tracing::warn!(origin = from, error = chain(why), "nobody was signed in by the provider");
    if !why.is_about_somebody() {
        return Ok(());
    }
    let gone = matches!(why, OidcError::NoRole);
    let why = why.to_string();
    let turn_away = move |desk: &Desk, now| {
        let name = who.as_ref().map_or_else(|| "oidc".to_owned(), |who| accounts::vouched_name(&who.name));
        let gone = who.filter(|_| gone).map(|who| accounts::vouched_hash(&who.subject));
        desk.turn_away(&name, gone.as_deref(), why, (&from, now))
    };
    hub.ask_accounts(turn_away).await
}

/// The page to sign in, with what went wrong.
fn told(hub: &Hub, why: &OidcError, next: &str) -> Response {
    let label = hub.provider_label();
    let (code, text) = match why {
        OidcError::Away(_) | OidcError::Own(_) | OidcError::Random(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the provider cannot be asked at the moment. Try again, or sign in with an account of this hub"
                .to_owned(),
        ),
        OidcError::State => (StatusCode::BAD_REQUEST, why.to_string()),
        OidcError::Refused(_) | OidcError::Token(_) => (StatusCode::UNAUTHORIZED, why.to_string()),
        OidcError::NoRole | OidcError::Taken | OidcError::Name(_) => (StatusCode::FORBIDDEN, why.to_string()),
    };
    let text =
        format!("Signing in with {} did not work: {}.", label.unwrap_or_default(), pages::shown(&text));
    let mut answer = html(pages::sign_in(next, "", Some(&text), true, label));
    *answer.status_mut() = code;
    answer
}

fn keep(headers: &mut HeaderMap, pending: Option<&str>, tls: bool) {
    if let Some(value) = set_cookie_of(PENDING, pending, tls) {
        headers.append(header::SET_COOKIE, value);
    }
}
