//! What is known of the certificates that speak, asked for many requests at once.
//!
//! Nothing is remembered: the store is asked after a request has come, so that a ban that was written before holds for it,
//! whichever hub or command wrote it. Requests that come while a question is on its way wait for the next one, which asks
//! for all of them.

use crate::store::StoreError;
use crate::store::registry::{Admission, Registry};
use crate::writer::chain;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// How many certificates one question asks for at most.
const MOST: usize = 512;

/// Why it is not known whether a certificate may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The database is away; it may come again.
    Away,
    /// The store failed, or the question was dropped.
    Failed,
}

type Answer = Result<Option<Admission>, Unknown>;

/// Those that wait.
#[derive(Debug, Default)]
pub struct Admissions {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<(String, oneshot::Sender<Answer>)>,
    /// Whether somebody asks for them already.
    asking: bool,
}

impl Admissions {
    /// What is known of the certificate with this serial number, not earlier than now. It must be called in a runtime.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn of(self: &Arc<Self>, registry: &Arc<dyn Registry>, serial: String) -> Answer {
        let (tell, told) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting();
            waiting.requests.push((serial, tell));
            !std::mem::replace(&mut waiting.asking, true)
        };
        if first {
            let asking = Asking { all: Arc::clone(self), ended: false };
            let registry = Arc::clone(registry);
            tokio::task::spawn_blocking(move || asking.run(registry.as_ref()));
        }
        told.await.unwrap_or(Err(Unknown::Failed))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks for all that wait, one question after the other, until nobody does.
struct Asking {
    all: Arc<Admissions>,
    ended: bool,
}

impl Asking {
    fn run(mut self, registry: &dyn Registry) {
        while let Some(requests) = self.next() {
            let mut serials: Vec<&str> = requests.iter().map(|(serial, _)| serial.as_str()).collect();
            serials.sort_unstable();
            serials.dedup();
            let known = registry.admissions(&serials).map_err(|why| said(&why));
            for (serial, tell) in requests {
                // Who has gone meanwhile needs no answer.
                let _ =
                    tell.send(known.as_ref().map(|known| known.get(&serial).cloned()).map_err(|why| *why));
            }
        }
        self.ended = true;
    }

    fn next(&self) -> Option<Vec<(String, oneshot::Sender<Answer>)>> {
        let mut waiting = self.all.waiting();
        let all = waiting.requests.len();
        waiting.asking = all > 0;
        (all > 0).then(|| waiting.requests.drain(..all.min(MOST)).collect())
    }
}

impl Drop for Asking {
    /// Where a question ended in a panic, or was never begun, whoever waits is told, and the next one asks again.
    fn drop(&mut self) {
        if !self.ended {
            *self.all.waiting() = Waiting::default();
        }
    }
}

fn said(why: &StoreError) -> Unknown {
    if matches!(why, StoreError::Away { .. }) {
        tracing::warn!(error = chain(why), "the registry could not be asked");
        Unknown::Away
    } else {
        tracing::error!(error = chain(why), "the registry could not be asked");
        Unknown::Failed
    }
}
