//! What administrators look at and do: members, tokens that let nodes in, accounts, slots, and the log.

use super::{Page, Top, words};
use crate::accounts::{Who, described, is_good};
use crate::admin::{standing, state, when};
use crate::slots::Slots;
use crate::store::Result;
use crate::store::accounts::{Accounts, Entry, PassKind};
use crate::store::registry::{Issued, Mark, Registry, Token};
use askama::Template;
use schemars::JsonSchema;
use serde::Serialize;

/// The most rows of a part: a large fleet has a list for programs.
const ROWS: usize = 200;

/// Something that may be done to a row, as one button.
struct Button {
    /// Where its form goes.
    to: &'static str,
    word: &'static str,
    fields: Vec<(&'static str, String)>,
    /// What somebody is asked to think of first; nothing where it is easily undone.
    think: Option<&'static str>,
}

struct Row {
    name: String,
    state: &'static str,
    tone: &'static str,
    about: Vec<(&'static str, String)>,
    buttons: Vec<Button>,
}

impl Row {
    fn new(name: &str, state: &'static str, about: Vec<(&'static str, String)>) -> Self {
        let tone = match state {
            "good" => "good",
            "banned" | "removed" | "revoked" => "bad",
            _ => "plain",
        };
        Self { name: words::shown(name), state, tone, about, buttons: vec![] }
    }

    fn with(self, buttons: Vec<Button>) -> Self {
        Self { buttons, ..self }
    }
}

struct Part {
    id: &'static str,
    title: &'static str,
    none: &'static str,
    how: &'static str,
    /// How many there are; the first [`ROWS`] are shown.
    count: usize,
    rows: Vec<Row>,
}

impl Part {
    fn new<T>(
        id: &'static str,
        title: &'static str,
        none: &'static str,
        how: &'static str,
        (all, row): (&[T], impl Fn(&T) -> Row),
    ) -> Self {
        Self { id, title, none, how, count: all.len(), rows: all.iter().take(ROWS).map(row).collect() }
    }
}

#[derive(Template)]
#[template(path = "admin.html")]
struct Admin {
    top: Top,
    title: String,
    parts: Vec<Part>,
}

/// Everything that lets somebody in.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn admin(
    who: &Who,
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
        words::count(members.count, "certificate", "certificates"),
        words::count(people.count, "account", "accounts")
    );
    Ok(Admin { top: Top::of(who), title, parts }.render())
}

/// What may be done to the node of a certificate.
fn deeds(one: &Issued) -> Vec<Button> {
    let button = |deed: &str, word, who: &str, think| Button {
        to: "/admin/nodes",
        word,
        fields: vec![("deed", deed.to_owned()), ("who", who.to_owned())],
        think,
    };
    let remove =
        "It is told that it was taken out, and only a token that is made afterwards lets it in again.";
    let remove = || button("remove", "Take out", &one.name, Some(remove));
    match one.mark {
        Some(Mark::Removed) => vec![],
        Some(Mark::Banned) => vec![button("unban", "Unban", &one.name, None), remove()],
        None if one.banned => vec![button("unban", "Unban this certificate", &one.serial, None), remove()],
        None => vec![button("ban", "Ban", &one.name, None), remove()],
    }
}

fn members(registry: &dyn Registry, now: i64) -> Result<Part> {
    let row = |one: &Issued| {
        let about = vec![
            ("certificate until", when(one.until)),
            ("serial number", one.serial.clone()),
            ("by token", one.token.clone()),
        ];
        // One certificate of a name speaks for it: the older ones have no buttons of their own.
        let buttons = if one.newest { deeds(one) } else { vec![] };
        Row::new(&one.name, standing(one, now), about).with(buttons)
    };
    Ok(Part::new(
        "members",
        "Members",
        "No node was given a certificate.",
        "evenkeel-hub node ban|unban|remove NAME",
        (&registry.certificates()?, row),
    ))
}

fn tokens(registry: &dyn Registry, now: i64) -> Result<Part> {
    let row = |token: &Token| {
        let labels: Vec<String> = token.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut about = vec![
            ("for nodes", words::shown(&token.nodes)),
            ("used", format!("{} of {}", token.used, token.uses)),
            ("until", when(token.until)),
        ];
        if !labels.is_empty() {
            about.push(("with labels", words::shown(&labels.join(", "))));
        }
        let revoke = Button {
            to: "/admin/tokens/revoke",
            word: "Revoke",
            fields: vec![("id", token.id.clone())],
            think: Some("Who was let in by it stays. It cannot be undone; another token can be made."),
        };
        let buttons = if token.revoked { vec![] } else { vec![revoke] };
        Row::new(&token.id, state(token, now), about).with(buttons)
    };
    Ok(Part::new(
        "tokens",
        "Tokens that let nodes in",
        "There is none.",
        "evenkeel-hub token create|revoke",
        (&registry.tokens()?, row),
    ))
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
    Ok(Part::new(
        "accounts",
        "Accounts",
        "There is none.",
        "evenkeel-hub user add|password|remove NAME",
        (&all, row),
    ))
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
    Ok(Part::new(
        "passes",
        "Sessions, and tokens of the API",
        "There is none.",
        "evenkeel-hub user token NAME, evenkeel-hub user revoke ID",
        (&all, row),
    ))
}

fn held(slots: &Slots) -> Result<Part> {
    let row = |slot: &crate::store::SlotRow| {
        let about = vec![("group", slot.group.clone()), ("since", when(slot.since))];
        let free = Button {
            to: "/slots/free",
            word: "Free",
            fields: vec![
                ("group", slot.group.clone()),
                ("id", slot.id.clone()),
                ("back", "/admin".to_owned()),
            ],
            think: Some("The next node of the group may be disturbed then. Look at this one first."),
        };
        Row::new(&slot.id, "held", about).with(vec![free])
    };
    let all: Vec<_> = slots.held()?.into_values().flatten().collect();
    Ok(Part::new(
        "slots",
        "Slots that are held",
        "None is held.",
        "evenkeel-hub slots free GROUP ID",
        (&all, row),
    ))
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
    top: Top,
    title: &'static str,
    lines: Vec<Line>,
    more: Option<i64>,
}

/// The log, newest first.
pub(crate) fn audit(who: &Who, lines: &[Entry], more: Option<i64>) -> Page {
    let visible = |line: &Entry| {
        let mut line = Line::new(line);
        line.who = words::shown(&line.who);
        line.about = words::shown(&line.about);
        line.old = line.old.as_deref().map(words::shown);
        line.new = line.new.as_deref().map(words::shown);
        line
    };
    let lines = lines.iter().map(visible).collect();
    Audit { top: Top::of(who), title: "Who did what", lines, more }.render()
}

#[derive(Template)]
#[template(path = "shown_once.html")]
struct ShownOnce<'a> {
    top: Top,
    title: String,
    secret: &'a str,
}

/// A token that was just made; nobody can look at it again.
pub(crate) fn shown_once(who: &Who, id: &str, secret: &str) -> Page {
    ShownOnce { top: Top::of(who), title: format!("Token {id} is made"), secret }.render()
}
