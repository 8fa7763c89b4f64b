//! Signing in, who somebody is, and what administrators look at: members, tokens, accounts, slots, and the log.

use super::{Page, words};
use crate::accounts::{Who, described, is_good};
use crate::admin::{standing, state, when};
use crate::http::address;
use crate::slots::Slots;
use crate::store::Result;
use crate::store::accounts::{Accounts, Entry, PassKind, Role};
use crate::store::registry::Registry;
use askama::Template;
use schemars::JsonSchema;
use serde::Serialize;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    title: &'static str,
    next: &'a str,
    name: &'a str,
    wrong: Option<&'a str>,
    any: bool,
    provider: Option<(&'a str, String)>,
}

/// The form: where to go afterwards, the name that was tried, what was wrong, whether there is any account, and what the
/// provider is called that has others.
pub(crate) fn sign_in(
    next: &str,
    name: &str,
    wrong: Option<&str>,
    any: bool,
    provider: Option<&str>,
) -> Page {
    let provider = provider.map(|label| (label, address("/sign-in/provider", &[("next", next.to_owned())])));
    SignIn { title: "Sign in", next, name, wrong, any, provider }.render()
}

#[derive(Template)]
#[template(path = "account.html")]
struct Own<'a> {
    title: String,
    who: &'a Who,
    role: &'static str,
    tiers: String,
    is_admin: bool,
}

/// Who somebody is, and the way out.
pub(crate) fn account(who: &Who) -> Page {
    let title = who
        .name
        .as_ref()
        .map_or_else(|| "Nobody needs to sign in here".to_owned(), |name| format!("You are {name}"));
    let tiers = if who.tiers.is_empty() { "every tier".to_owned() } else { who.tiers.join(", ") };
    Own { title, who, role: who.role.word(), tiers, is_admin: who.role == Role::Admin }.render()
}

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused<'a> {
    title: &'static str,
    name: &'a str,
    own: &'static str,
    needed: &'static str,
}

/// What somebody is told who may not.
pub(crate) fn refused(who: &Who, needed: Role) -> Page {
    let name = who.name.as_deref().unwrap_or("nobody");
    Refused { title: "You may not see this page", name, own: who.role.word(), needed: needed.word() }.render()
}

struct Row {
    name: String,
    state: &'static str,
    tone: &'static str,
    about: Vec<(&'static str, String)>,
}

impl Row {
    fn new(name: &str, state: &'static str, about: Vec<(&'static str, String)>) -> Self {
        let tone = match state {
            "good" => "good",
            "banned" | "removed" | "revoked" => "bad",
            _ => "plain",
        };
        Self { name: words::shown(name), state, tone, about }
    }
}

struct Part {
    id: &'static str,
    title: &'static str,
    none: &'static str,
    how: &'static str,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "admin.html")]
struct Admin {
    title: String,
    parts: Vec<Part>,
}

/// Everything that lets somebody in.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn admin(
    accounts: &dyn Accounts,
    registry: &dyn Registry,
    slots: &Slots,
    now: i64,
) -> Result<Page> {
    let parts = vec![
        members(registry, now)?,
        tokens(registry, now)?,
        people(accounts)?,
        passes(accounts, now)?,
        held(slots)?,
    ];
    let [members, _, people, ..] = parts.as_slice() else { return Ok(Ok(String::new())) };
    let title = format!(
        "{} and {} let in",
        words::count(members.rows.len(), "certificate", "certificates"),
        words::count(people.rows.len(), "account", "accounts")
    );
    Ok(Admin { title, parts }.render())
}

fn members(registry: &dyn Registry, now: i64) -> Result<Part> {
    let row = |one: &crate::store::registry::Issued| {
        let about = vec![
            ("certificate until", when(one.until)),
            ("serial number", one.serial.clone()),
            ("by token", one.token.clone()),
        ];
        Row::new(&one.name, standing(one, now), about)
    };
    Ok(Part {
        id: "members",
        title: "Members",
        none: "No node was given a certificate.",
        how: "evenkeel-hub node ban|unban|remove NAME",
        rows: registry.certificates()?.iter().map(row).collect(),
    })
}

fn tokens(registry: &dyn Registry, now: i64) -> Result<Part> {
    let row = |token: &crate::store::registry::Token| {
        let labels: Vec<String> = token.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut about = vec![
            ("for nodes", token.nodes.clone()),
            ("used", format!("{} of {}", token.used, token.uses)),
            ("until", when(token.until)),
        ];
        if !labels.is_empty() {
            about.push(("with labels", labels.join(", ")));
        }
        Row::new(&token.id, state(token, now), about)
    };
    Ok(Part {
        id: "tokens",
        title: "Tokens that let nodes in",
        none: "There is none.",
        how: "evenkeel-hub token create|revoke",
        rows: registry.tokens()?.iter().map(row).collect(),
    })
}

fn people(accounts: &dyn Accounts) -> Result<Part> {
    let all = accounts.accounts()?;
    let row = |account: &crate::store::accounts::Account| {
        Row::new(
            &account.name,
            account.role.word(),
            vec![("may", described(account)), ("since", when(account.made))],
        )
    };
    Ok(Part {
        id: "accounts",
        title: "Accounts",
        none: "There is none.",
        how: "evenkeel-hub user add|password|remove NAME",
        rows: all.iter().map(row).collect(),
    })
}

fn passes(accounts: &dyn Accounts, now: i64) -> Result<Part> {
    let row = |pass: &crate::store::accounts::Pass| {
        let about = vec![
            ("what", pass.kind.word().to_owned()),
            ("id", pass.id.clone()),
            ("last used", when(pass.seen)),
            ("until", when(pass.until)),
        ];
        Row::new(&pass.account, if is_good(pass, now) { "good" } else { "expired" }, about)
    };
    let mut all = accounts.passes()?;
    all.retain(|pass| pass.kind == PassKind::Token || is_good(pass, now));
    Ok(Part {
        id: "passes",
        title: "Sessions, and tokens of the API",
        none: "There is none.",
        how: "evenkeel-hub user token NAME, evenkeel-hub user revoke ID",
        rows: all.iter().map(row).collect(),
    })
}

fn held(slots: &Slots) -> Result<Part> {
    let row = |slot: &crate::store::SlotRow| {
        Row::new(&slot.id, "held", vec![("group", slot.group.clone()), ("since", when(slot.since))])
    };
    Ok(Part {
        id: "slots",
        title: "Slots that are held",
        none: "None is held.",
        how: "evenkeel-hub slots free GROUP ID",
        rows: slots.held()?.values().flatten().map(row).collect(),
    })
}

/// A line of the log as it is shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub(crate) struct Line {
    /// Its number.
    id: i64,
    /// When.
    at: String,
    /// An account's name, or a user of the hub's own machine.
    who: String,
    /// An address, or `command line`.
    from: String,
    /// What was done, as a word.
    what: String,
    /// To what.
    about: String,
    /// How it was before.
    old: Option<String>,
    /// How it is now.
    new: Option<String>,
}

impl Line {
    pub(crate) fn new(entry: &Entry) -> Self {
        let Entry { id, at, who, origin, what, about, old, new } = entry.clone();
        Self { id, at: when(at), who, from: origin, what, about, old, new }
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    title: &'static str,
    lines: Vec<Line>,
    more: Option<i64>,
}

/// The log, newest first.
pub(crate) fn audit(lines: &[Entry], more: Option<i64>) -> Page {
    let visible = |line: &Entry| {
        let mut line = Line::new(line);
        line.who = words::shown(&line.who);
        line.about = words::shown(&line.about);
        line
    };
    Audit { title: "Who did what", lines: lines.iter().map(visible).collect(), more }.render()
}
