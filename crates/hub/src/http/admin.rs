//! What administrators do by page and by API: tokens that let nodes in, shutting nodes out, and (operators too) freeing
//! slots that no node gives back.

use super::doer::{Doer, Undone};
use super::gate::FORM_MOST;
use super::pages::{after, html};
use super::{Hub, Problem};
use crate::accounts::{Actor, Who};
use crate::admin::{self, Deed, MemberJson, TokenJson, Wanted, duration};
use crate::pages;
use crate::slots;
use axum::extract::rejection::{FormRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many nodes a token may let in.
const USES: std::ops::RangeInclusive<u32> = 1..=1_000_000;

type Answer = Result<Response, Problem>;
type Sent<T> = Result<Form<T>, FormRejection>;

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/admin", get(page))
        .route("/admin/tokens", post(make_by_form))
        .route("/admin/tokens/revoke", post(revoke_by_form))
        .route("/admin/nodes", post(treat_by_form))
        .route("/slots/free", post(free_by_form))
        .route("/api/v1/tokens", get(tokens).post(make))
        .route("/api/v1/tokens/{id}", delete(revoke))
        .route("/api/v1/members", get(members))
        .route("/api/v1/nodes/{name}/ban", post(ban))
        .route("/api/v1/nodes/{name}/unban", post(unban))
        .route("/api/v1/slots/{group}/{id}", delete(free))
        .layer(DefaultBodyLimit::max(FORM_MOST))
}

async fn page(State(hub): State<Arc<Hub>>, Extension(who): Extension<Who>) -> Answer {
    let asked = Arc::clone(&hub);
    let page = hub.ask_accounts(move |desk, now| {
        pages::admin(&who, desk.store.as_ref(), asked.registry.as_ref(), &asked.slots, now)
    });
    Ok(html(page.await?))
}

async fn tokens(State(hub): State<Arc<Hub>>) -> Result<Json<Vec<TokenJson>>, Problem> {
    let now = (hub.clock)();
    Ok(Json(hub.register(move |registry| admin::token_rows(registry, now)).await?))
}

async fn members(State(hub): State<Arc<Hub>>) -> Result<Json<Vec<MemberJson>>, Problem> {
    let now = (hub.clock)();
    Ok(Json(hub.register(move |registry| admin::node_rows(registry, now)).await?))
}

/// What a program asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// A glob over the names that it lets in; every one where it is left out.
    nodes: Option<String>,
    /// What such a node must say of itself.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// As `24h`, which it is where it is left out.
    expires: Option<String>,
    /// How many it lets in; one where it is left out.
    uses: Option<u32>,
}

/// A token that was made, said this once.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MadeToken")]
pub(super) struct MadeJson {
    /// What it is called in lists; no secret.
    id: String,
    /// The token.
    token: String,
}

impl Wish {
    fn wanted(self) -> Result<Wanted, Undone> {
        let expires = duration(self.expires.as_deref().unwrap_or("24h")).map_err(Undone::Bad)?;
        let uses = self.uses.unwrap_or(1);
        if !USES.contains(&uses) {
            return Err(Undone::Bad(format!("uses {uses} is no number from 1 to {}", USES.end())));
        }
        let nodes = self.nodes.unwrap_or_else(|| "*".to_owned());
        Ok(Wanted { nodes, labels: self.labels, expires, uses })
    }
}

/// Makes a token: its id, and itself.
async fn made(hub: &Arc<Hub>, doer: &Doer, wish: Result<Wish, Undone>) -> Result<(String, String), Problem> {
    let made = hub.act(doer, |hub, _, by| {
        let wanted = wish.and_then(Wish::wanted)?;
        Ok::<_, Undone>(admin::create(hub.accounts.store.as_ref(), &wanted, by)?)
    });
    made.await
}

async fn make(State(hub): State<Arc<Hub>>, doer: Doer, wish: Result<Json<Wish>, JsonRejection>) -> Answer {
    let Json(wish) = wish.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let (id, token) = made(&hub, &doer, Ok(wish)).await?;
    Ok((StatusCode::CREATED, Json(MadeJson { id, token })).into_response())
}

#[derive(Debug, Deserialize)]
struct Made {
    nodes: String,
    #[serde(default)]
    labels: String,
    expires: String,
    uses: u32,
}

impl Made {
    fn wish(self) -> Result<Wish, Undone> {
        let labels = match self.labels.trim() {
            "" => BTreeMap::new(),
            text => admin::labels(text).map_err(Undone::Bad)?,
        };
        Ok(Wish { nodes: Some(self.nodes), labels, expires: Some(self.expires), uses: Some(self.uses) })
    }
}

fn sent<T>(sent: Sent<T>) -> Result<T, Problem> {
    sent.map(|Form(fields)| fields).map_err(|why| Problem::new(why.status(), why.body_text()))
}

async fn make_by_form(State(hub): State<Arc<Hub>>, doer: Doer, form: Sent<Made>) -> Answer {
    let wish = sent(form)?.wish();
    match made(&hub, &doer, wish).await {
        Ok((id, token)) => Ok(html(pages::shown_once(&doer.who, &id, &token))),
        Err(why) => Ok(after(&doer.who, Err(why), "/admin#tokens")),
    }
}

async fn revoked(hub: &Arc<Hub>, doer: &Doer, id: String) -> Result<(), Problem> {
    hub.act(doer, move |hub, _, by| admin::revoke(hub.accounts.store.as_ref(), &id, by)).await
}

async fn revoke(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    revoked(&hub, &doer, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct Revoked {
    id: String,
}

async fn revoke_by_form(State(hub): State<Arc<Hub>>, doer: Doer, form: Sent<Revoked>) -> Answer {
    let done = revoked(&hub, &doer, sent(form)?.id).await;
    Ok(after(&doer.who, done, "/admin#tokens"))
}

async fn treated(hub: &Arc<Hub>, doer: &Doer, deed: Deed, who: String) -> Result<(), Problem> {
    hub.act(doer, move |hub, _, by| {
        admin::treat(hub.accounts.store.as_ref(), hub.registry.as_ref(), deed, &who, by)
    })
    .await
}

async fn ban(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    treated(&hub, &doer, Deed::Ban, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unban(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    treated(&hub, &doer, Deed::Unban, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    treated(&hub, &doer, Deed::Remove, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeedWord {
    Ban,
    Unban,
    Remove,
}

#[derive(Debug, Deserialize)]
struct Treated {
    deed: DeedWord,
    who: String,
}

async fn treat_by_form(State(hub): State<Arc<Hub>>, doer: Doer, form: Sent<Treated>) -> Answer {
    let Treated { deed, who } = sent(form)?;
    let deed = match deed {
        DeedWord::Ban => Deed::Ban,
        DeedWord::Unban => Deed::Unban,
        DeedWord::Remove => Deed::Remove,
    };
    let done = treated(&hub, &doer, deed, who.trim().to_owned()).await;
    Ok(after(&doer.who, done, "/admin#members"))
}

/// Frees a slot. Whose tier the group is named for may do it, as nodes ask by their tier's name.
fn freed(hub: &Hub, who: &Who, by: &Actor, slot: (&str, &str), although_alive: bool) -> Result<(), Undone> {
    if !who.has_tier(slot.0) {
        let tiers = who.tiers.join(", ");
        return Err(Undone::Tier(format!("you may free slots of {tiers} alone")));
    }
    Ok(slots::free(hub.accounts.store.as_ref(), hub.view.as_ref(), slot, although_alive, by)?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Although {
    #[serde(default)]
    although_alive: bool,
}

async fn free(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    Path((group, id)): Path<(String, String)>,
    although: Result<Query<Although>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(Although { although_alive }) =
        although.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    hub.act(&doer, move |hub, who, by| freed(hub, who, by, (&group, &id), although_alive)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct Freed {
    group: String,
    id: String,
    although_alive: Option<String>,
    back: Option<String>,
}

async fn free_by_form(State(hub): State<Arc<Hub>>, doer: Doer, form: Sent<Freed>) -> Answer {
    let Freed { group, id, although_alive, back } = sent(form)?;
    let although = although_alive.is_some();
    let done = hub.act(&doer, move |hub, who, by| freed(hub, who, by, (&group, &id), although)).await;
    let back = if back.as_deref() == Some("/admin") { "/admin#slots" } else { "/" };
    Ok(after(&doer.who, done, back))
}
