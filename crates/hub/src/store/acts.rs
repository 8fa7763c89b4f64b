//! What people do that is no change of an account, as values: each is one call of [`super::accounts::Accounts::change`],
//! which notes it in the log in the same transaction. There is no other way to do it.

use super::registry::{Mark, Token};
use super::telling::Silence;

/// What is done.
#[derive(Debug, Clone)]
pub enum Act {
    /// Keeps a new token that lets nodes in. The same token again is nothing new.
    AddToken(Token),
    /// Takes the token of this id back.
    RevokeToken(String),
    /// Shuts a name out. One that nobody was ever let in or heard of under is not taken out, but may be banned.
    Mark {
        /// The name.
        name: String,
        /// How.
        mark: Mark,
        /// When (unix ms).
        at: i64,
    },
    /// Lets a name speak again; not where it is not shut out.
    Unmark(String),
    /// Bans one certificate, or lifts that; not where there is none of that serial number.
    BanSerial {
        /// Its serial number, in hex.
        serial: String,
        /// Whether it is banned from now on.
        banned: bool,
    },
    /// Keeps a silence, unless too many are in force (`tell::silence::MOST`).
    Silence(Silence),
    /// Ends a silence that has not ended: what was held back is looked at again.
    EndSilence {
        /// Its id.
        id: String,
        /// When (unix ms).
        at: i64,
        /// Who ends it.
        by: String,
    },
    /// Takes a slot of the fleet from who has it.
    FreeSlot {
        /// Of which group.
        group: String,
        /// Who has it: `NODE/HOLDER`.
        id: String,
    },
}
