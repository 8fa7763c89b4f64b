//! Who holds which slot, as rows and as a trait. Apart from the store of what nodes tell: a slot is granted between two
//! questions of one node, and waits for nobody's reports.

use super::Result;

/// One slot that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRow {
    /// Whose slot it is.
    pub group: String,
    /// Who has it: `NODE/HOLDER`.
    pub id: String,
    /// Since when (unix ms, the hub's clock).
    pub since: i64,
}

/// What became of a question for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is theirs.
    Granted,
    /// Others have all there are: who.
    Full(Vec<String>),
}

/// What keeps slots over a restart of the hub.
pub trait SlotBook: Send + Sync {
    /// A slot of `group` for `id`, where fewer than `size` others hold one. Committed when this returns.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn take(&self, group: &str, id: &str, size: u32, now: i64) -> Result<Taken>;
    /// Gives it back; whether it was held.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn leave(&self, group: &str, id: &str) -> Result<bool>;
    /// Every slot that is held, by group and id.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn all(&self) -> Result<Vec<SlotRow>>;
}
