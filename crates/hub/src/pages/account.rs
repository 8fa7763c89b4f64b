//! Signing in, who somebody is, and what he is told who may not or whose act came to nothing.

use super::{Page, Top};
use crate::accounts::Who;
use crate::http::address;
use crate::store::accounts::Role;
use askama::Template;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    top: Top,
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
    SignIn { top: Top::nobody(), title: "Sign in", next, name, wrong, any, provider }.render()
}

#[derive(Template)]
#[template(path = "account.html")]
struct Own<'a> {
    top: Top,
    title: String,
    who: &'a Who,
    role: &'static str,
    tiers: String,
}

/// Who somebody is, and the way out.
pub(crate) fn account(who: &Who) -> Page {
    let title = who
        .name
        .as_ref()
        .map_or_else(|| "Nobody needs to sign in here".to_owned(), |name| format!("You are {name}"));
    let tiers = if who.tiers.is_empty() { "every tier".to_owned() } else { who.tiers.join(", ") };
    Own { top: Top::of(who), title, who, role: who.role.word(), tiers }.render()
}

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused<'a> {
    top: Top,
    title: &'static str,
    name: &'a str,
    own: &'static str,
    needed: &'static str,
}

/// What somebody is told who may not.
pub(crate) fn refused(who: &Who, needed: Role) -> Page {
    let name = who.name.as_deref().unwrap_or("nobody");
    let (title, own, needed) = ("You may not do this", who.role.word(), needed.word());
    Refused { top: Top::of(who), title, name, own, needed }.render()
}

#[derive(Template)]
#[template(path = "undone.html")]
struct Undone<'a> {
    top: Top,
    title: &'static str,
    why: &'a str,
    back: &'a str,
}

/// What somebody is told whose act came to nothing: why, and where he came from.
pub(crate) fn undone(who: &Who, why: &str, back: &str) -> Page {
    Undone { top: Top::of(who), title: "Nothing was changed", why, back }.render()
}
