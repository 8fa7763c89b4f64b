//! Who may look and act: passwords, passes, how often somebody may try, and what is noted of it.
//!
//! A pass is 256 random bits; the store has its SHA-256 alone, so that nobody who reads the store comes in by it.

pub mod password;
mod tries;

use crate::ca::{self, CaError, fingerprint, hex};
use crate::store::StoreError;
use crate::store::accounts::{Account, Accounts, Change, Entry, Pass, PassKind, Role};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tries::Tries;

/// How long a session lives, used or not (ms).
pub const SESSION_LIFE: i64 = 12 * 3_600_000;
/// After how long a session that nobody uses ends (ms).
pub const SESSION_IDLE: i64 = 2 * 3_600_000;
/// How often it is noted that a pass is used (ms).
const TOUCH: i64 = 60_000;
/// For how long it is believed that there are accounts, or none: another process may make one.
const BELIEVED: Duration = Duration::from_secs(1);
/// How many passwords are hashed at once: each takes 19 MiB.
const HASHING: usize = 2;
/// How a token of the user API begins, so that it is known for what it is where it should not be.
pub const TOKEN_PREFIX: &str = "eku_";
/// The longest name of an account.
const NAME_MOST: usize = 64;

/// Why a pass or a password is not made.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] CaError),
    /// The password will not do.
    #[error(transparent)]
    Password(#[from] password::PasswordError),
}

/// Somebody whose pass is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// His account; nobody's on a hub that reads openly.
    pub name: Option<String>,
    /// What he may do.
    pub role: Role,
    /// The tiers he may act on; none means every one.
    pub tiers: Vec<String>,
    /// What the forms on his pages carry; a program's requests need none.
    pub form: Option<String>,
}

/// Who does something, from where, and when: what the log says of every act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// An account's name, or a user of the hub's own machine.
    pub who: String,
    /// An address, or `command line`.
    pub origin: String,
    /// When (unix ms).
    pub at: i64,
}

impl Actor {
    /// The line that says that he did `what` to `about`.
    #[must_use]
    pub fn entry(&self, what: &str, about: &str) -> Entry {
        let Self { who, origin, at } = self.clone();
        Entry { at, who, origin, what: what.to_owned(), about: about.to_owned(), ..Entry::default() }
    }
}

impl Who {
    /// Anybody, where no account is needed.
    #[must_use]
    pub fn anybody() -> Self {
        Self { name: None, role: Role::Viewer, tiers: vec![], form: None }
    }

    /// Whether he may act on nodes of `tier`; his role aside.
    #[must_use]
    pub fn has_tier(&self, tier: &str) -> bool {
        self.role == Role::Admin || self.tiers.is_empty() || self.tiers.iter().any(|own| own == tier)
    }
}

/// What a running hub has of it all.
pub struct Desk {
    /// Where it is kept.
    pub store: Arc<dyn Accounts>,
    /// Whether somebody else has accounts for this hub: then it is never read without one.
    pub elsewhere: bool,
    any: Mutex<Option<(Instant, bool)>>,
    tries: Tries,
    hashing: Semaphore,
}

impl Desk {
    /// On a store.
    #[must_use]
    pub fn new(store: Arc<dyn Accounts>) -> Self {
        let elsewhere = false;
        Self {
            store,
            elsewhere,
            any: Mutex::default(),
            tries: Tries::default(),
            hashing: Semaphore::new(HASHING),
        }
    }

    /// Whether there is any account, as of a second ago at most. While the store is away, what was known last holds.
    ///
    /// # Errors
    /// When the store cannot be read and nothing is known.
    pub(crate) fn any(&self) -> Result<bool, StoreError> {
        if self.elsewhere {
            return Ok(true);
        }
        let known = *self.any.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, any)) = known
            && at.elapsed() < BELIEVED
        {
            return Ok(any);
        }
        match (self.store.accounts(), known) {
            (Ok(all), _) => {
                let any = !all.is_empty();
                *self.any.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), any));
                Ok(any)
            }
            (Err(_), Some((_, any))) => Ok(any),
            (Err(why), None) => Err(why),
        }
    }

    /// Who shows the pass `secret` at `now` (unix ms), where it is one of `kind` and good.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) fn whose(&self, secret: &str, kind: PassKind, now: i64) -> Result<Option<Who>, StoreError> {
        let hash = fingerprint(secret.as_bytes());
        let Some((pass, account)) = self.store.pass(&hash)? else { return Ok(None) };
        if pass.kind != kind || !is_good(&pass, now) {
            return Ok(None);
        }
        if now - pass.seen >= TOUCH {
            self.store.touch(&hash, now)?;
        }
        let form = (kind == PassKind::Session).then(|| form_word(secret));
        Ok(Some(Who { name: Some(account.name), role: account.role, tiers: account.tiers, form }))
    }

    /// Whether another try from `origin` for the account `name` is listened to at `now` (unix ms).
    ///
    /// # Errors
    /// It is not: after how many seconds it is.
    pub(crate) fn may_try(&self, name: &str, origin: &str, now: i64) -> Result<(), u32> {
        self.tries.take(name, origin, now)
    }

    /// Checks a password and makes a session: its secret, or nothing where name and password do not go together. Both
    /// outcomes are noted in the log. It takes as long for a name that nobody has.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub(crate) fn sign_in(
        &self,
        name: &str,
        password: &str,
        origin: &str,
        now: i64,
    ) -> Result<Option<String>, AccountError> {
        let by = Actor { who: name.to_owned(), origin: origin.to_owned(), at: now };
        let entry = |what: &str| by.entry(what, name);
        let account = self.store.account(name)?;
        let good = password::verify(password, account.as_ref().map(|account| account.hash.as_str()));
        let Some(account) = account.filter(|_| good) else {
            self.store.change(&Change::None, &entry("sign_in_refused"))?;
            return Ok(None);
        };
        let (secret, pass) = new_pass(&account, PassKind::Session, now, SESSION_LIFE)?;
        let made = self.store.change(&Change::AddPass(pass), &entry("sign_in"))?;
        self.tries.forget(name, origin);
        Ok(made.then_some(secret))
    }

    /// Makes a session for somebody whom a provider vouches for: its secret, or nothing where another person has the
    /// account of that name. It is noted in the log. `tried` is what [`Desk::may_try`] was asked for.
    ///
    /// # Errors
    /// When the store fails or there is no randomness.
    pub(crate) fn enter(
        &self,
        account: Account,
        (tried, origin): (&str, &str),
        now: i64,
    ) -> Result<Option<String>, AccountError> {
        let (secret, pass) = new_pass(&account, PassKind::Session, now, SESSION_LIFE)?;
        let by = Actor { who: account.name.clone(), origin: origin.to_owned(), at: now };
        let entry = Entry { new: Some(described(&account)), ..by.entry("sign_in", &account.name) };
        let made = self.store.change(&Change::Enter(account, pass), &entry)?;
        if made {
            self.tries.forget(tried, origin);
        }
        Ok(made.then_some(secret))
    }

    /// Notes that somebody who came back from a provider is not let in, and why. An account that he had has no role any
    /// more, where that is the reason: it goes, with its sessions and tokens.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn turn_away(
        &self,
        name: &str,
        gone: Option<&str>,
        why: String,
        (origin, now): (&str, i64),
    ) -> Result<(), StoreError> {
        let by = Actor { who: name.to_owned(), origin: origin.to_owned(), at: now };
        let entry = Entry { new: Some(why), ..by.entry("sign_in_refused", name) };
        let account = if gone.is_some() { self.store.account(name)? } else { None };
        let his = account.filter(|account| Some(account.hash.as_str()) == gone);
        let change = his.map_or(Change::None, |account| Change::Remove(account.name));
        self.store.change(&change, &entry).map(drop)
    }

    /// Room to hash one more password.
    pub(crate) fn hashing(&self) -> &Semaphore {
        &self.hashing
    }
}

/// The account of somebody whom a provider vouches for: of `name` and of `subject` there, with the role and the tiers that
/// he has now. No account of the hub's own can be called so, and no password fits it.
#[must_use]
pub fn vouched(name: &str, subject: &str, (role, tiers): (Role, Vec<String>), now: i64) -> Account {
    Account { name: vouched_name(name), role, tiers, hash: vouched_hash(subject), made: now }
}

/// What the account is called of somebody whom a provider calls `name`.
#[must_use]
pub fn vouched_name(name: &str) -> String {
    format!("oidc:{name}")
}

/// How the account of `subject` is known again.
#[must_use]
pub fn vouched_hash(subject: &str) -> String {
    format!("oidc${}", fingerprint(subject.as_bytes()))
}

/// A new pass for `account` that ends `life` after `now` (ms): its secret, which is said this once, and its row.
///
/// # Errors
/// When there is no randomness.
pub fn new_pass(account: &Account, kind: PassKind, now: i64, life: i64) -> Result<(String, Pass), CaError> {
    let prefix = if kind == PassKind::Token { TOKEN_PREFIX } else { "" };
    let secret = format!("{prefix}{}", hex(&ca::random::<32>()?));
    let pass = Pass {
        id: hex(&ca::random::<4>()?),
        hash: fingerprint(secret.as_bytes()),
        account: account.name.clone(),
        kind,
        made: now,
        seen: now,
        until: now.saturating_add(life),
    };
    Ok((secret, pass))
}

/// Whether a pass is good at `now` (unix ms).
#[must_use]
pub fn is_good(pass: &Pass, now: i64) -> bool {
    let idle = pass.kind == PassKind::Session && now - pass.seen >= SESSION_IDLE;
    pass.until > now && !idle
}

/// What a form carries beside the cookie: made from the session, which it does not betray.
fn form_word(secret: &str) -> String {
    fingerprint(format!("form {secret}").as_bytes())
}

/// Whether an account may be called so: letters, digits and `.-_@`, so that it is one word in a log.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    !name.is_empty() && name.len() <= NAME_MOST && name.chars().all(fits)
}

/// Role and tiers as the log tells them.
#[must_use]
pub fn described(account: &Account) -> String {
    if account.tiers.is_empty() {
        account.role.word().to_owned()
    } else {
        format!("{} of {}", account.role.word(), account.tiers.join(", "))
    }
}
