//! Slots of the fleet: who may be disturbed just now. So many of a group at once, one where nothing else is said.
//!
//! The hub grants and takes back; it never frees a slot by itself, because a node that went silent in the middle of a
//! restart is just the one that nobody else should follow. A person frees what no node will give back.

use crate::accounts::Actor;
use crate::store::accounts::{Accounts, Change, Entry};
use crate::store::acts::Act;
use crate::store::{Result, SlotBook, SlotRow, StoreError, Taken, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many slots a group has of which the configuration says nothing.
pub const DEFAULT_SLOTS: u32 = 1;
/// The longest id, in bytes: a node's name and who asks there.
const LONGEST_ID: usize = 320;

/// Why a slot is not freed.
#[derive(Debug, thiserror::Error)]
pub enum FreeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its node may be in the middle of what it took the slot for.
    #[error(
        "{0} was heard of just now and may be in the middle of what it took the slot for: look at it, or say that the slot \
         is to be freed although the node is alive"
    )]
    Alive(String),
    /// Nobody has it.
    #[error("{id} has no slot of {group}")]
    NotHeld {
        /// The group.
        group: String,
        /// Who was said to have it.
        id: String,
    },
}

/// Takes the slot of `group` from `id`. Not while its node is heard of, unless that is meant.
///
/// # Errors
/// When its node is heard of, `id` has no such slot, or the store cannot be read or written.
pub fn free(
    book: &dyn Accounts,
    view: &dyn View,
    (group, id): (&str, &str),
    although_alive: bool,
    by: &Actor,
) -> std::result::Result<(), FreeError> {
    let not_held = || FreeError::NotHeld { group: group.to_owned(), id: id.to_owned() };
    if !is_group(group) || !is_id(id) {
        return Err(not_held());
    }
    let node = node_of(id);
    if !although_alive && is_alive(view, node, by.at)? {
        return Err(FreeError::Alive(node.to_owned()));
    }
    let act = Act::FreeSlot { group: group.to_owned(), id: id.to_owned() };
    let line = Entry { new: Some(format!("of {group}")), ..by.entry("slot_free", id) };
    if book.change(&Change::Act(act), &line)? { Ok(()) } else { Err(not_held()) }
}

/// Whether a node was heard of within three of its intervals before `now` (unix ms).
fn is_alive(view: &dyn View, node: &str, now: i64) -> Result<bool> {
    let Some(row) = view.node(node)? else { return Ok(false) };
    let within = i64::try_from(row.doc.interval_s()).unwrap_or(i64::MAX).saturating_mul(3_000);
    Ok(now.saturating_sub(row.doc.last_seen) < within)
}

/// The slots of every group.
#[derive(Clone)]
pub struct Slots {
    /// Who holds what.
    pub book: Arc<dyn SlotBook>,
    /// How many slots each group has, where it is not [`DEFAULT_SLOTS`].
    pub sizes: BTreeMap<String, u32>,
}

impl Slots {
    /// How many may hold a slot of this group at once.
    #[must_use]
    pub fn size(&self, group: &str) -> u32 {
        self.sizes.get(group).copied().unwrap_or(DEFAULT_SLOTS)
    }

    /// A slot of `group` for `id`; the same id has it already where it has it.
    ///
    /// # Errors
    /// The store failed: nothing is granted then.
    pub fn take(&self, group: &str, id: &str, now: i64) -> Result<Taken> {
        self.book.take(group, id, self.size(group), now)
    }

    /// Every slot that is held, by group.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn held(&self) -> Result<BTreeMap<String, Vec<SlotRow>>> {
        let mut groups: BTreeMap<String, Vec<SlotRow>> =
            self.sizes.keys().map(|group| (group.clone(), vec![])).collect();
        for row in self.book.all()? {
            groups.entry(row.group.clone()).or_default().push(row);
        }
        Ok(groups)
    }
}

/// Whether a text may name a group: up to 64 of `[A-Za-z0-9._-]`.
#[must_use]
pub fn is_group(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether a text may be who asks: something printable, without blanks.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// The node in `NODE/HOLDER`.
#[must_use]
pub fn node_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(node, _)| node)
}
