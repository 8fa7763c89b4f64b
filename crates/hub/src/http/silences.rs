//! Silences and waivers: looking at them, making one, ending one, by page and by API.

use super::doer::{Doer, Undone};
use super::pages::html;
use super::telling::ask;
use super::{Hub, Problem};
use crate::accounts::{Actor, Who};
use crate::admin::duration;
use crate::pages::{self, Filled};
use crate::store::telling::Silence;
use crate::tell::silence::{self, Asked, SilenceJson, is_within};
use axum::extract::rejection::{FormRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

type Answer = Result<Response, Problem>;

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/silences", get(page).post(make_by_form))
        .route("/silences/end", post(end_by_form))
        .route("/api/v1/silences", get(list).post(make))
        .route("/api/v1/silences/{id}", delete(end))
        .layer(DefaultBodyLimit::max(super::gate::FORM_MOST))
}

/// What is told to nobody.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Silences")]
pub(super) struct SilencesJson {
    /// Every one that has not ended.
    silences: Vec<SilenceJson>,
}

async fn list(State(hub): State<Arc<Hub>>) -> Result<Json<SilencesJson>, Problem> {
    let now = (hub.clock)();
    let all = ask(&hub, move |telling| telling.silences(now)).await?;
    Ok(Json(SilencesJson { silences: all.iter().map(silence::json).collect() }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Word {
    Silence,
    Waiver,
}

/// What a program asks for. Who answers for it is the account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// A silence, unless it is said to be a waiver: what is off may stay so.
    kind: Option<Word>,
    /// A glob over tiers. At least one of the three is said.
    tier: Option<String>,
    /// A glob over names of nodes.
    node: Option<String>,
    /// A glob over items.
    item: Option<String>,
    /// Why.
    reason: String,
    /// How long, as `48h`; or else `until`.
    #[serde(rename = "for")]
    lasts: Option<String>,
    /// Until when; or else `for`.
    until: Option<Timestamp>,
}

impl Wish {
    /// How long from `now` (unix ms).
    fn lasts(&self, now: i64) -> Result<Duration, Undone> {
        let ahead =
            |until: Timestamp| u64::try_from(until.unix_ms().saturating_sub(now)).ok().filter(|ms| *ms > 0);
        match (&self.lasts, self.until) {
            (Some(text), None) => duration(text).map_err(Undone::Bad),
            (None, Some(until)) => ahead(until)
                .map(Duration::from_millis)
                .ok_or_else(|| Undone::Bad("`until` is over already".to_owned())),
            _ => Err(Undone::Bad("say how long it lasts: either `for` (48h) or `until`, a time".to_owned())),
        }
    }

    fn asked(self, by: &Actor) -> Result<Asked, Undone> {
        let lasts = self.lasts(by.at)?;
        let given =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Asked {
            waiver: self.kind == Some(Word::Waiver),
            tier: given(self.tier),
            node: given(self.node),
            item: given(self.item),
            reason: self.reason,
            owner: by.who.clone(),
            lasts,
        })
    }
}

fn outside(who: &Who) -> Undone {
    let tiers = who.tiers.join(", ");
    Undone::Tier(format!(
        "you may silence what is in one of your tiers alone: name one of {tiers}, without a pattern"
    ))
}

/// Makes one; its id.
fn make_one(hub: &Hub, who: &Who, by: &Actor, wish: Wish) -> Result<String, Undone> {
    let asked = wish.asked(by)?;
    if !is_within(who, asked.tier.as_deref().unwrap_or("*")) {
        return Err(outside(who));
    }
    Ok(silence::add(hub.accounts.store.as_ref(), &asked, by)?)
}

fn find(hub: &Hub, id: &str, now: i64) -> Result<Option<Silence>, Undone> {
    Ok(hub.telling.silences(now)?.into_iter().find(|one| one.id == id))
}

/// Ends one. It never changes its tier, so that what is looked at here holds when it is ended.
fn end_one(hub: &Hub, who: &Who, by: &Actor, id: &str) -> Result<(), Undone> {
    match find(hub, id, by.at)? {
        Some(one) if !is_within(who, &one.tier) => Err(outside(who)),
        _ => Ok(silence::end(hub.accounts.store.as_ref(), id, by)?),
    }
}

async fn make(State(hub): State<Arc<Hub>>, doer: Doer, wish: Result<Json<Wish>, JsonRejection>) -> Answer {
    let Json(wish) = wish.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let made = hub.act(&doer, |hub, who, by| {
        let id = make_one(hub, who, by, wish)?;
        Ok::<_, Undone>(find(hub, &id, by.at)?.as_ref().map(silence::json))
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

async fn end(State(hub): State<Arc<Hub>>, doer: Doer, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    hub.act(&doer, move |hub, who, by| end_one(hub, who, by, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a form is filled with by the address that leads to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    tier: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    item: String,
}

async fn shown(hub: &Arc<Hub>, who: Who, filled: Filled, wrong: Option<String>) -> Answer {
    let now = (hub.clock)();
    Ok(html(ask(hub, move |telling| pages::silences(&who, telling, filled, wrong, now)).await?))
}

async fn page(
    State(hub): State<Arc<Hub>>,
    Extension(who): Extension<Who>,
    given: Result<Query<Given>, QueryRejection>,
) -> Answer {
    let Query(given) = given.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    let Given { tier, node, item } = given;
    shown(&hub, who, Filled { tier, node, item, ..Filled::default() }, None).await
}

#[derive(Debug, Clone, Deserialize)]
struct Made {
    #[serde(default)]
    tier: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "for")]
    lasts: String,
    waiver: Option<String>,
}

impl Made {
    fn wish(self) -> Wish {
        Wish {
            kind: self.waiver.map(|_| Word::Waiver),
            tier: Some(self.tier),
            node: Some(self.node),
            item: Some(self.item),
            reason: self.reason,
            lasts: Some(self.lasts),
            until: None,
        }
    }

    fn filled(self) -> Filled {
        let Self { tier, node, item, reason, lasts, waiver } = self;
        Filled { tier, node, item, reason, lasts, waiver: waiver.is_some() }
    }
}

async fn make_by_form(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    made: Result<Form<Made>, FormRejection>,
) -> Answer {
    let Form(made) = made.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let wish = made.clone().wish();
    match hub.act(&doer, |hub, who, by| make_one(hub, who, by, wish)).await {
        Ok(_) => Ok(Redirect::to("/silences").into_response()),
        // What somebody wrote is not lost because of what is wrong with it.
        Err(why) => {
            let mut answer =
                shown(&hub, doer.who, made.filled(), Some(format!("Nothing was silenced: {}.", why.detail)))
                    .await?;
            *answer.status_mut() = why.code;
            Ok(answer)
        }
    }
}

#[derive(Debug, Deserialize)]
struct Ended {
    id: String,
}

async fn end_by_form(
    State(hub): State<Arc<Hub>>,
    doer: Doer,
    ended: Result<Form<Ended>, FormRejection>,
) -> Answer {
    let Form(Ended { id }) = ended.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let done = hub.act(&doer, move |hub, who, by| end_one(hub, who, by, &id)).await;
    Ok(super::pages::after(&doer.who, done, "/silences"))
}
