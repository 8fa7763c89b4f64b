//! Before every address: who asks, whether he may, and that a browser was not led to ask by another site.
//!
//! What changes something and comes with a session's cookie must come from a page of this hub and carry the word of that
//! session's forms. Both are looked at here, before any handler, so that none can forget it.

use super::needs::{Need, need};
use super::{Hub, Problem};
use crate::accounts::{Desk, TOKEN_PREFIX, Who};
use crate::store::StoreError;
use crate::store::accounts::{PassKind, Role};
use crate::who::{Came, Peer};
use axum::body::{Body, to_bytes};
use axum::extract::{Form, FromRequest as _, MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use std::sync::Arc;
use std::time::Duration;

/// The cookie's name over TLS, where a browser takes it from this host alone, and in the clear.
const SECURE: &str = "__Host-evenkeel";
const PLAIN: &str = "evenkeel";
/// The most bytes of a form, and how long it may take to arrive.
pub(super) const FORM_MOST: usize = 16 * 1024;
const FORM_WITHIN: Duration = Duration::from_secs(10);

/// Lets a request on, with who asks ([`Who`]), or answers it.
pub(super) async fn gate(State(hub): State<Arc<Hub>>, mut request: Request, next: Next) -> Response {
    // What the router has no address for is answered by it.
    let Some(path) = request.extensions().get::<MatchedPath>() else { return next.run(request).await };
    let needed = match need(path.as_str(), request.method()) {
        Some(Need::Own) => return next.run(request).await,
        Some(Need::Closed) => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        None => {
            return Problem::new(StatusCode::FORBIDDEN, "this address is closed to everybody")
                .into_response();
        }
        Some(Need::SignedIn) => None,
        Some(Need::Role(role)) => Some(role),
    };
    let (shown, local) = (shown(&request), is_local(&request));
    let found = hub.ask_accounts(move |desk, now| identify(desk, shown, local, now)).await;
    let found = match found {
        Ok(found) => found,
        Err(why) => return why.into_response(),
    };
    let who = match admit(found, &request, needed) {
        Ok(who) => who,
        Err(refused) => return refused,
    };
    if let Some(word) = who.form.as_deref().filter(|_| !reads(&request)) {
        request = match with_word(request, word).await {
            Ok(request) => request,
            Err(refused) => return refused,
        };
    }
    request.extensions_mut().insert(who);
    next.run(request).await
}

fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// The request again, if it is a form that carries `word` as its only `form`.
async fn with_word(request: Request, word: &str) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    let Ok(Ok(bytes)) = tokio::time::timeout(FORM_WITHIN, to_bytes(body, FORM_MOST)).await else {
        let detail = "a form has up to 16 KiB and arrives within ten seconds";
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response());
    };
    let copy = Request::from_parts(head.clone(), Body::from(bytes.clone()));
    let Ok(Form(fields)) = Form::<Vec<(String, String)>>::from_request(copy, &()).await else {
        return Err(foreign());
    };
    let carried: Vec<&str> =
        fields.iter().filter(|(name, _)| name == "form").map(|(_, value)| value.as_str()).collect();
    if carried == [word] { Ok(Request::from_parts(head, Body::from(bytes))) } else { Err(foreign()) }
}

/// Whether who was found may; nobody may be found.
#[expect(clippy::result_large_err, reason = "an answer is large, and is made once")]
fn admit(found: Option<Who>, request: &Request, needed: Option<Role>) -> Result<Who, Response> {
    let Some(who) = found else { return Err(stranger(request)) };
    match needed {
        None if who.name.is_none() => return Err(stranger(request)),
        Some(role) if who.role < role && who.name.is_none() => return Err(stranger(request)),
        Some(role) if who.role < role => return Err(refused(request, &who, role)),
        _ => {}
    }
    if who.form.is_some() && !reads(request) && !is_own(request.headers(), false) {
        return Err(foreign());
    }
    Ok(who)
}

/// What somebody shows.
enum Shown {
    Nothing,
    Cookie(String),
    Token(String),
}

fn identify(desk: &Desk, shown: Shown, local: bool, now: i64) -> Result<Option<Who>, StoreError> {
    let who = match shown {
        Shown::Cookie(secret) => desk.whose(&secret, PassKind::Session, now)?,
        // Who shows a token means it: one that is not good is not taken for nobody.
        Shown::Token(secret) => return desk.whose(&secret, PassKind::Token, now),
        Shown::Nothing => None,
    };
    match who {
        Some(who) => Ok(Some(who)),
        None if local && !desk.any()? => Ok(Some(Who::anybody())),
        None => Ok(None),
    }
}

fn shown(request: &Request) -> Shown {
    let headers = request.headers();
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) =
        given.and_then(|value| value.strip_prefix("Bearer ")).filter(|t| t.starts_with(TOKEN_PREFIX))
    {
        return Shown::Token(token.to_owned());
    }
    cookie(request).map_or(Shown::Nothing, Shown::Cookie)
}

/// What the hub calls a cookie: `part` is what follows the name of the session's.
fn called(part: &str, tls: bool) -> String {
    format!("{}{part}", if tls { SECURE } else { PLAIN })
}

/// The session that a browser shows.
pub(super) fn cookie(request: &Request) -> Option<String> {
    cookie_of("", request)
}

/// The cookie of this part of a name that a browser shows.
pub(super) fn cookie_of(part: &str, request: &Request) -> Option<String> {
    let name = called(part, over_tls(request));
    let all = request.headers().get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).next()
}

/// The header that gives a browser its session, or takes it.
pub(super) fn set_cookie(secret: Option<&str>, tls: bool) -> Option<HeaderValue> {
    set_cookie_of("", secret, tls)
}

/// The same for the cookie of this part of a name.
pub(super) fn set_cookie_of(part: &str, secret: Option<&str>, tls: bool) -> Option<HeaderValue> {
    let (name, secure) = (called(part, tls), if tls { "; Secure" } else { "" });
    let (value, ends) = secret.map_or(("", "; Max-Age=0"), |secret| (secret, ""));
    HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{ends}")).ok()
}

/// Whether the browser speaks TLS: to the hub, or to a proxy that says so. Whoever lies here harms himself alone.
pub(super) fn over_tls(request: &Request) -> bool {
    let forwarded = request.headers().get("x-forwarded-proto").is_some_and(|value| value == "https");
    let came = request.extensions().get::<Peer>().map(|peer| &peer.came);
    forwarded || matches!(came, Some(Came::Anonymous | Came::Certified(_)))
}

/// Whether somebody is on the hub's own machine. A request without a peer came through no door: it is the process's own.
fn is_local(request: &Request) -> bool {
    request.extensions().get::<Peer>().is_none_or(|peer| peer.at.ip().to_canonical().is_loopback())
}

/// From where a request comes, for the log.
pub(super) fn origin(extensions: &Extensions) -> String {
    extensions
        .get::<Peer>()
        .map_or_else(|| "local".to_owned(), |peer| peer.at.ip().to_canonical().to_string())
}

/// Whether a browser says that a page of this hub made it ask. `silent` is for one that says nothing.
pub(super) fn is_own(headers: &HeaderMap, silent: bool) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, at)| at == host),
        (Some(_), None) => false,
        (None, _) => silent,
    }
}

/// The answer to what another site made a browser ask.
pub(super) fn foreign() -> Response {
    Problem::new(StatusCode::FORBIDDEN, "another site asked for this; go to the hub's own page and ask again")
        .of("foreign_origin")
        .into_response()
}

/// Whether a person asks, with a browser.
fn is_page(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let api = request.uri().path().starts_with("/api/");
    !api && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The answer to somebody who is not known: a person is asked to sign in, a program is told to.
fn stranger(request: &Request) -> Response {
    if is_page(request) {
        // What was filled in is lost: a form is not sent by being looked at.
        let back = request.uri().path_and_query().filter(|_| reads(request));
        let back = back.map_or("/", |path| path.as_str());
        return Redirect::to(&format!("/sign-in?next={}", super::encode(back))).into_response();
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "sign in, or show a token of an account");
    let mut answer = problem.of("not_signed_in").into_response();
    let how = HeaderValue::from_static("Bearer realm=\"evenkeel-hub\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    answer
}

/// The answer to somebody who is known and may not.
fn refused(request: &Request, who: &Who, role: Role) -> Response {
    if is_page(request) {
        return super::pages::refused(who, role);
    }
    let detail = format!("this needs the role {}, and yours is {}", role.word(), who.role.word());
    Problem::new(StatusCode::FORBIDDEN, detail).of("role").into_response()
}

impl Hub {
    /// Asks about accounts, away from the thread that serves everybody; with the time (unix ms).
    pub(super) async fn ask_accounts<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Desk, i64) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (hub, now) = (Arc::clone(self), (self.clock)());
        self.ask(move |_| question(&hub.accounts, now)).await
    }
}
