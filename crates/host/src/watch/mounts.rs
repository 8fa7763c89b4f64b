//! Watching the mount table: the kernel tells on its descriptor when it has changed.

use crate::mountinfo;
use crate::mounting;
use crate::own_writes::{self, OwnWrites};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How often to look again while we change the table ourselves.
const AGAIN: Duration = Duration::from_millis(5);
/// How long our own act may hold back what others do. A dead server can make a mount take long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The watch over the mount table.
pub(super) struct Mounts {
    own: OwnWrites,
    table: Option<File>,
    seen: Option<u64>,
    /// Since when a change waits for our own act to end.
    held_back: Option<Instant>,
    trouble: Option<String>,
}

impl Mounts {
    pub(super) fn new(own: OwnWrites) -> Self {
        Self { own, table: None, seen: None, held_back: None, trouble: None }
    }

    /// Why it is looked at by the slow pass only.
    pub(super) fn degraded(&self) -> Option<String> {
        self.trouble.as_ref().map(|why| format!("mounts: looked at by the slow pass only ({why})"))
    }

    pub(super) fn set(&mut self, wanted: bool) {
        self.trouble = None;
        if !wanted {
            self.table = None;
        } else if self.table.is_none() {
            match File::open(mountinfo::PATH) {
                Ok(table) => self.table = Some(table),
                Err(error) => self.trouble = Some(error.to_string()),
            }
            self.seen = hash();
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.table.as_ref().map(AsFd::as_fd)
    }

    /// When to call [`Self::read`] again, whatever the descriptor says.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.held_back.map(|_| now + AGAIN)
    }

    /// Whether others have changed it. `told` is what poll(2) said of the descriptor.
    pub(super) fn read(&mut self, told: bool, now: Instant) -> bool {
        if self.table.is_none() || (!told && self.held_back.is_none()) {
            return false;
        }
        let since = *self.held_back.get_or_insert(now);
        let patient = now < since + PATIENCE;
        let before = self.own.mounts();
        if before.under_way > 0 && patient {
            return false;
        }
        let table = hash();
        let own = self.own.mounts();
        // An act that began meanwhile may be what was read.
        if own != before && patient {
            return false;
        }
        self.held_back = None;
        let news = table != self.seen && table != own.table;
        self.seen = table;
        news
    }
}

fn hash() -> Option<u64> {
    mounting::table().ok().map(|table| own_writes::hash(&table))
}
