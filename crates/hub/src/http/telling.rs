//! What is told, was told and was given up, for programs.

use super::{Hub, Problem};
use crate::store::StoreError;
use crate::store::telling::{Message, State as How, Telling};
use crate::tell::route::Bundle;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use evenkeel_report::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// How many messages are shown, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;

/// Asks, away from the thread that serves everybody.
pub(super) async fn ask<T: Send + 'static>(
    hub: &Arc<Hub>,
    question: impl FnOnce(&dyn Telling) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let telling = Arc::clone(&hub.telling);
    // The view is not asked: only how its errors are told is used.
    hub.ask(move |_| question(telling.as_ref())).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutboxQuery {
    limit: Option<usize>,
}

/// What is told, was told, or was given up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Outbox")]
pub(super) struct OutboxJson {
    /// How many messages wait.
    waiting: i64,
    /// How many were taken, within seven days.
    done: i64,
    /// How many were given up, within seven days.
    failed: i64,
    /// The newest of them.
    messages: Vec<MessageJson>,
}

/// A message for one sink.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Message")]
struct MessageJson {
    /// Its id, by which a receiver knows that it had it.
    id: String,
    /// The sink's name.
    sink: String,
    /// How it stands; one that is `standing` is sent again and again, with what stands at the time.
    #[schemars(extend("enum" = ["waiting", "done", "failed", "standing"]))]
    state: &'static str,
    /// How often it was tried.
    tries: u32,
    /// When it was made.
    first: Option<Timestamp>,
    /// When it is tried next.
    next: Option<Timestamp>,
    /// What went wrong last.
    error: Option<String>,
    /// What is told; of a standing message, what it remembers is nobody's business.
    #[schemars(with = "Option<Bundle>")]
    what: Option<Value>,
}

pub(super) async fn outbox(
    State(hub): State<Arc<Hub>>,
    query: Result<Query<OutboxQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<OutboxJson>, Problem> {
    let Query(query) = query.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    let (messages, tallies) =
        ask(&hub, move |telling| Ok((telling.messages(limit)?, telling.tallies()?))).await?;
    let of =
        |state: How| tallies.iter().filter(move |one| one.state == state).map(|one| one.count).sum::<i64>();
    Ok(Json(OutboxJson {
        waiting: of(How::Waiting),
        done: of(How::Done),
        failed: of(How::Failed),
        messages: messages.into_iter().map(shown).collect(),
    }))
}

fn shown(message: Message) -> MessageJson {
    let standing = message.state == How::Standing;
    MessageJson {
        what: if standing { None } else { serde_json::from_str(&message.body).ok() },
        state: message.state.word(),
        tries: message.tries,
        first: Timestamp::from_unix_ms(message.first),
        next: Timestamp::from_unix_ms(message.next),
        error: Some(message.error).filter(|error| !error.is_empty()),
        id: message.id,
        sink: message.sink,
    }
}
