//! Who may speak to the hub, as rows and as one trait: tokens that let a node in, enrolments, certificates, and who was
//! shut out.
//!
//! What a token allows and what a certificate may say is decided here and in `who`, without SQL; a store keeps and
//! finds rows. No private key and no token is ever in a row: of a token there is its hash.

use super::Result;
use std::collections::{BTreeMap, HashMap};

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called in lists; no secret.
    pub id: String,
    /// SHA-256 of the token, in hex.
    pub hash: String,
    /// Which nodes it lets in: a glob over their names.
    pub nodes: String,
    /// What such a node must say of itself: its `tier`, or one of its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made (unix ms).
    pub made: i64,
    /// When it ends (unix ms).
    pub until: i64,
    /// How many enrolments it is good for.
    pub uses: u32,
    /// How many there were.
    pub used: u32,
    /// Whether somebody took it back.
    pub revoked: bool,
}

/// Why a node is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no such token.
    Unknown,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
    /// It is for other nodes.
    Foreign,
    /// The name is banned.
    Banned,
    /// The name was taken out after the token was made.
    Removed,
}

impl Token {
    /// Whether it lets `node` in at `now` (unix ms), uses aside.
    ///
    /// # Errors
    /// Why it does not.
    pub fn judge(&self, node: &str, now: i64) -> std::result::Result<(), Refusal> {
        let fits = glob::Pattern::new(&self.nodes).is_ok_and(|pattern| pattern.matches(node));
        match self {
            _ if self.revoked => Err(Refusal::Revoked),
            _ if self.until <= now => Err(Refusal::Expired),
            _ if !fits => Err(Refusal::Foreign),
            _ => Ok(()),
        }
    }

    /// Whether it is spent.
    #[must_use]
    pub fn used_up(&self) -> bool {
        self.used >= self.uses
    }

    /// Whether it lets a node in whose name is marked so.
    ///
    /// # Errors
    /// Why it does not. A name that was taken out comes back with a token that was made afterwards.
    pub fn passes(&self, mark: Option<(Mark, i64)>) -> std::result::Result<(), Refusal> {
        match mark {
            Some((Mark::Banned, _)) => Err(Refusal::Banned),
            Some((Mark::Removed, at)) if self.made <= at => Err(Refusal::Removed),
            _ => Ok(()),
        }
    }
}

/// How a name is shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Until somebody lifts it.
    Banned,
    /// Until a token made later lets it in again.
    Removed,
}

impl Mark {
    /// Its word in the store.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Removed => "removed",
        }
    }

    /// The mark of that word.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        [Self::Banned, Self::Removed].into_iter().find(|mark| mark.word() == word)
    }
}

/// A certificate that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Its serial number, in hex.
    pub serial: String,
    /// SHA-256 of its public key, in hex.
    pub key: String,
    /// From when it holds (unix ms).
    pub from: i64,
    /// Until when (unix ms).
    pub until: i64,
}

/// A node that asks to be let in.
#[derive(Debug, Clone)]
pub struct Enrol {
    /// SHA-256 of the token that it shows, in hex.
    pub token: String,
    /// Its name.
    pub node: String,
    /// When (unix ms).
    pub now: i64,
    /// What it would get.
    pub certificate: NewCertificate,
}

/// What is known of a certificate that speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The enrolment that it comes from; a renewed certificate keeps it.
    pub enrolment: i64,
    /// The node's name.
    pub name: String,
    /// Until when it holds (unix ms).
    pub until: i64,
    /// Whether this certificate alone is banned.
    pub banned: bool,
    /// How the name is shut out.
    pub mark: Option<Mark>,
    /// What the node must say of itself.
    pub labels: BTreeMap<String, String>,
    /// The source that this enrolment speaks as, once it has spoken.
    pub source: Option<String>,
    /// The newest enrolment of the same name.
    pub newest: i64,
    /// The source that one speaks as, once it has spoken.
    pub newest_source: Option<String>,
}

/// A certificate, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number, in hex.
    pub serial: String,
    /// The node's name.
    pub name: String,
    /// Until when it holds (unix ms).
    pub until: i64,
    /// The id of the token that let the node in.
    pub token: String,
    /// The source that it speaks as.
    pub source: Option<String>,
    /// Whether this certificate alone is banned.
    pub banned: bool,
    /// How the name is shut out.
    pub mark: Option<Mark>,
    /// Whether its enrolment is the newest of the name.
    pub newest: bool,
}

/// Who may speak. Every call is whole: it is on the disk when it returns, or nothing of it ever is. Other processes (the
/// command line) write beside a running hub.
pub trait Registry: Send + Sync {
    /// What is known of the certificate with this serial number.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn admission(&self, serial: &str) -> Result<Option<Admission>> {
        Ok(self.admissions(&[serial])?.remove(serial))
    }
    /// What is known of the certificates with these serial numbers, by them, not earlier than the call.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn admissions(&self, serials: &[&str]) -> Result<HashMap<String, Admission>>;
    /// Notes the source that an enrolment speaks as, unless it has one; `false` when that source speaks for another name.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn bind(&self, enrolment: i64, source: &str) -> Result<bool>;
    /// Lets a node in, in one transaction: the token is found by its hash and judged ([`Token::judge`]), so is the name
    /// ([`Token::passes`], which lifts [`Mark::Removed`]); where the name's newest enrolment is of the same token and key,
    /// it is that one and the token is not spent again, else one use is spent ([`Token::used_up`]) and an enrolment made;
    /// the certificate is noted.
    ///
    /// # Errors
    /// When the store cannot be read or written. Inside: why the node is not let in; then nothing was written.
    fn enrol(&self, ask: &Enrol) -> Result<std::result::Result<(), Refusal>>;
    /// Notes another certificate of an enrolment.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn renew(&self, enrolment: i64, certificate: &NewCertificate) -> Result<()>;
    /// Every token, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn tokens(&self) -> Result<Vec<Token>>;
    /// Every certificate by name, a name's newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn certificates(&self) -> Result<Vec<Issued>>;
}
