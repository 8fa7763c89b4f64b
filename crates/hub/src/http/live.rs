//! News for open pages: an event whenever something changed that a page would show, at most once a second. It says
//! only that something changed; the page then asks for itself. It ends after a while, and whoever asks for it again is looked at
//! again: it outlives a session by no more than that.

use super::{Hub, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How many pages may listen at once; each costs a connection and nothing else.
pub const LISTENERS: usize = 1024;
/// The least time between two events.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a quiet connection says that it is there.
const ALIVE: Duration = Duration::from_secs(15);
/// How long a page may listen before it has to ask again, which browsers do by themselves.
const LASTS: Duration = Duration::from_mins(10);

pub(super) async fn live(
    State(hub): State<Arc<Hub>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let full = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many pages listen").again_after(30);
    let seat = Arc::clone(&hub.listeners).try_acquire_owned().map_err(full)?;
    // Not the hub itself: a page that stays open must not keep it from ending.
    let news = hub.roll.watch();
    let end = tokio::time::Instant::now() + LASTS;
    let stream = unfold((news, seat, true), move |(mut news, seat, first)| async move {
        if first {
            news.mark_unchanged();
            let hello = Event::default().event("hello").data("").retry(Duration::from_secs(3));
            return Some((Ok(hello), (news, seat, false)));
        }
        tokio::time::timeout_at(end, news.changed()).await.ok()?.ok()?;
        tokio::time::sleep(PAUSE).await;
        let count = *news.borrow_and_update();
        Some((Ok(Event::default().event("change").data(count.to_string())), (news, seat, false)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)))
}
