//! Who does something, and what is answered to him: every act of the pages and the API goes through [`Hub::act`].

use super::gate::origin;
use super::{AWAY, AWAY_S, Hub, Problem};
use crate::accounts::{Actor, Who};
use crate::admin::AdminError;
use crate::slots::FreeError;
use crate::store::StoreError;
use crate::tell::silence::SilenceError;
use crate::writer::chain;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::sync::Arc;

/// Somebody who is known, as the gate found him.
#[derive(Debug, Clone)]
pub(super) struct Doer {
    /// Who he is.
    pub(super) who: Who,
    /// His account.
    name: String,
    /// From where he asks.
    origin: String,
}

impl Doer {
    /// As the log has him, at `now` (unix ms).
    pub(super) fn at(&self, now: i64) -> Actor {
        Actor { who: self.name.clone(), origin: self.origin.clone(), at: now }
    }
}

impl<S: Sync> FromRequestParts<S> for Doer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let who = parts.extensions.get::<Who>().cloned();
        let unknown = || Problem::new(StatusCode::UNAUTHORIZED, "sign in, or show a token of an account");
        let who = who.ok_or_else(|| unknown().of("not_signed_in"))?;
        let name = who.name.clone().ok_or_else(|| unknown().of("not_signed_in"))?;
        Ok(Self { origin: origin(&parts.extensions), who, name })
    }
}

/// Why an act came to nothing.
#[derive(Debug)]
pub(super) enum Undone {
    /// The store.
    Store(StoreError),
    /// What was asked for is none.
    Bad(String),
    /// He may not, there.
    Tier(String),
    /// There is nothing that it could be done to.
    Nobody(String),
    /// It is not the time for it.
    NotNow(String),
}

impl From<StoreError> for Undone {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<AdminError> for Undone {
    fn from(why: AdminError) -> Self {
        match why {
            AdminError::Store(why) => Self::Store(why),
            AdminError::NoToken(_) | AdminError::NoNode(_) => Self::Nobody(why.to_string()),
            AdminError::Glob { .. } | AdminError::NoName | AdminError::Labels(_) => {
                Self::Bad(why.to_string())
            }
            AdminError::Random(why) => Self::NotNow(why.to_string()),
        }
    }
}

impl From<SilenceError> for Undone {
    fn from(why: SilenceError) -> Self {
        match why {
            SilenceError::Store(why) => Self::Store(why),
            SilenceError::Nobody(_) => Self::Nobody(why.to_string()),
            SilenceError::Random(why) => Self::NotNow(why.to_string()),
            SilenceError::Full => Self::NotNow(why.to_string()),
            why => Self::Bad(why.to_string()),
        }
    }
}

impl From<FreeError> for Undone {
    fn from(why: FreeError) -> Self {
        match why {
            FreeError::Store(why) => Self::Store(why),
            FreeError::Alive(_) => Self::NotNow(why.to_string()),
            FreeError::NotHeld { .. } => Self::Nobody(why.to_string()),
        }
    }
}

impl From<Undone> for Problem {
    fn from(why: Undone) -> Self {
        match why {
            Undone::Bad(why) => Self::new(StatusCode::BAD_REQUEST, why),
            Undone::Tier(why) => Self::new(StatusCode::FORBIDDEN, why).of("tier"),
            Undone::Nobody(why) => Self::new(StatusCode::NOT_FOUND, why),
            Undone::NotNow(why) => Self::new(StatusCode::CONFLICT, why),
            Undone::Store(why @ StoreError::Away { .. }) => {
                tracing::warn!(error = chain(&why), "nobody can act");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, AWAY).again_after(AWAY_S)
            }
            Undone::Store(why) => {
                tracing::error!(error = chain(&why), "nobody can act");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed; see the hub's log")
            }
        }
    }
}

impl Hub {
    /// Lets somebody act, away from the thread that serves everybody. What he does is in the log when this returns, or
    /// was not done.
    pub(super) async fn act<T: Send + 'static, E: Into<Undone>>(
        self: &Arc<Self>,
        doer: &Doer,
        work: impl FnOnce(&Self, &Who, &Actor) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        let (hub, who, by) = (Arc::clone(self), doer.who.clone(), doer.at((self.clock)()));
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&hub, &who, &by).map_err(Into::<Undone>::into);
            hub.roll.look_again();
            done
        });
        match done.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the act was dropped")),
        }
    }
}
