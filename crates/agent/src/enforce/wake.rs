//! The letter box between the watcher's thread and the enforcing loop.
//!
//! A thousand events of one thing are one entry: the box holds at most one per interest, so a flood costs no memory,
//! and the first of a burst wakes the loop at once.

use evenkeel_core::Interest;
use evenkeel_report::Writer;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// What was seen since the loop last looked.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    seen: Mutex<BTreeMap<Interest, Option<Writer>>>,
    bell: Notify,
}

impl Wakes {
    /// Something changed. Callable from any thread; never blocks for long.
    pub(crate) fn put(&self, interest: Interest, writer: Option<Writer>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.entry(interest).or_default();
        // The last writer is the one whose value stands; an event that names nobody does not unname him.
        if writer.is_some() {
            *known = writer;
        }
        drop(seen);
        self.bell.notify_one();
    }

    /// Wait until there is something.
    pub(crate) async fn ring(&self) {
        self.bell.notified().await;
    }

    /// Empty the box.
    pub(crate) fn take(&self) -> BTreeMap<Interest, Option<Writer>> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::Wakes;
    use evenkeel_core::Interest;
    use evenkeel_report::Writer;

    #[tokio::test]
    async fn a_burst_is_one_entry_and_keeps_the_last_named_writer() {
        let wakes = Wakes::default();
        for pid in 1..=1000 {
            wakes.put(Interest::Mounts, Some(Writer { pid, comm: None, unit: None }));
        }
        wakes.put(Interest::Mounts, None);
        wakes.ring().await;
        let seen = wakes.take();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[&Interest::Mounts].as_ref().map(|writer| writer.pid), Some(1000));
        assert!(wakes.take().is_empty());
    }
}
