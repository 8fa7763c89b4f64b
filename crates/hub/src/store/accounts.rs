//! Who may look and act, as rows and as one trait: accounts, passes (sessions and tokens of the user API), and the audit
//! log. No password and no pass is ever in a row: of each there is its hash.
//!
//! Every change is one call that names what is changed and the line of the log that tells of it; both are on the disk
//! when it returns, or neither ever is.

use super::Result;
use super::acts::Act;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an account may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read.
    Viewer,
    /// And decide what is told to people, within his tiers.
    Operator,
    /// And everything else: tokens, bans, accounts, the log.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that word.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// Somebody who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The tiers he may act on; none means every one.
    pub tiers: Vec<String>,
    /// The hash of his password (`password::hash`); of somebody whom a provider vouches for, of who he is there
    /// (`accounts::vouched`), which no password is.
    pub hash: String,
    /// When it was made (unix ms).
    pub made: i64,
}

/// What a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassKind {
    /// A browser's, by a cookie; it also ends when it is not used.
    Session,
    /// A program's, by a header.
    Token,
}

impl PassKind {
    /// Its word in the store.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    /// The kind of that word; what is unknown is the one that ends sooner.
    #[must_use]
    pub fn read(word: &str) -> Self {
        if word == Self::Token.word() { Self::Token } else { Self::Session }
    }
}

/// What somebody shows instead of his password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// What it is called in lists; no secret.
    pub id: String,
    /// SHA-256 of it, in hex.
    pub hash: String,
    /// Whose it is.
    pub account: String,
    /// What it is.
    pub kind: PassKind,
    /// When it was made (unix ms).
    pub made: i64,
    /// When it was last shown, within a minute (unix ms).
    pub seen: i64,
    /// When it ends (unix ms).
    pub until: i64,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its number; a store gives it.
    pub id: i64,
    /// When (unix ms, the hub's clock).
    pub at: i64,
    /// Who: an account's name, or a user of the hub's own machine.
    pub who: String,
    /// From where: an address, or `command line`.
    pub origin: String,
    /// What was done, as a word.
    pub what: String,
    /// To what.
    pub about: String,
    /// How it was before.
    pub old: Option<String>,
    /// How it is now.
    pub new: Option<String>,
}

/// What is changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// Nothing here: the line alone is kept.
    None,
    /// A new account; not where there is one of the name.
    Add(Account),
    /// Another password; every pass of the account ends.
    Password {
        /// Whose.
        name: String,
        /// Its hash.
        hash: String,
    },
    /// An account goes, and every pass of it.
    Remove(String),
    /// Somebody whom a provider vouches for comes in: his account is made, or gets the role and the tiers that he has now,
    /// and a new pass. Not where the account of his name is another's. An account of his under another name goes.
    Enter(Account, Pass),
    /// A new pass.
    AddPass(Pass),
    /// The pass of this hash goes.
    DropPass(String),
    /// The token of this id goes.
    DropToken(String),
    /// Something that is no account's.
    Act(Act),
}

/// Accounts, passes and the log. Other processes (the command line) write beside a running hub.
pub trait Accounts: Send + Sync {
    /// Makes a change and notes `entry`, in one transaction. `false` when there was nothing to change: then no line is
    /// kept either.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn change(&self, change: &Change, entry: &Entry) -> Result<bool>;
    /// The account of a name.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn account(&self, name: &str) -> Result<Option<Account>>;
    /// Every account by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn accounts(&self) -> Result<Vec<Account>>;
    /// The pass of a hash, and whose it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn pass(&self, hash: &str) -> Result<Option<(Pass, Account)>>;
    /// Every pass, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn passes(&self) -> Result<Vec<Pass>>;
    /// Notes that a pass was shown at `now` (unix ms), and forgets those that ended before.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn touch(&self, hash: &str, now: i64) -> Result<()>;
    /// Up to `limit` lines of the log, newest first, those before the line `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn log(&self, before: Option<i64>, limit: usize) -> Result<Vec<Entry>>;
}
