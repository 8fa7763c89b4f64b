//! What is told, was told and was given up, for programs.

use super::{Hub, Problem};
use crate::store::StoreError;
use crate::store::telling::{Message, State as How, Telling};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use evenkeel_report::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
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

pub(super) async fn outbox(
    State(hub): State<Arc<Hub>>,
    query: Result<Query<OutboxQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    let (messages, tallies) =
        ask(&hub, move |telling| Ok((telling.messages(limit)?, telling.tallies()?))).await?;
    let of =
        |state: How| tallies.iter().filter(move |one| one.state == state).map(|one| one.count).sum::<i64>();
    let messages: Vec<Value> = messages.iter().map(shown).collect();
    Ok(Json(json!({"waiting": of(How::Waiting), "done": of(How::Done), "failed": of(How::Failed),
                   "messages": messages})))
}

/// A message; of a standing one, what it remembers is nobody's business.
fn shown(message: &Message) -> Value {
    let body =
        if message.state == How::Standing { None } else { serde_json::from_str::<Value>(&message.body).ok() };
    json!({"id": message.id, "sink": message.sink, "state": message.state.word(), "tries": message.tries,
           "first": Timestamp::from_unix_ms(message.first), "next": Timestamp::from_unix_ms(message.next),
           "error": Some(&message.error).filter(|error| !error.is_empty()), "what": body})
}
