//! What must hold between nodes, and whether it does.

use super::view::Differs;
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::invariants::Invariant;
use crate::look::Look;
use crate::store::Result;
use askama::Template;

/// The most places of one invariant that are shown.
const MOST: usize = 100;

#[derive(Template)]
#[template(path = "invariants.html")]
struct Invariants {
    top: Top,
    title: String,
    even: bool,
    all: Vec<One>,
}

struct One {
    name: String,
    means: String,
    own: bool,
    remedy: String,
    broken: Vec<Differs>,
    more: usize,
}

/// Every invariant.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn invariants(who: &Who, look: &Look<'_>) -> Result<Page> {
    let broken = look.broken()?;
    let title = match broken.len() {
        0 => "Every invariant holds".to_owned(),
        some => format!("{} where nodes do not fit together", words::count(some, "place", "places")),
    };
    let one = |one: &Invariant| {
        let its: Vec<_> = broken.iter().filter(|broken| broken.name == one.name).collect();
        let shown = its.iter().take(MOST).map(|broken| Differs::new(broken, look.times.now)).collect();
        let more = its.len().saturating_sub(MOST);
        let (name, means, remedy) =
            (words::shown(&one.name), words::shown(&one.means), words::shown(&one.remedy));
        One { name, means, own: one.own, remedy, broken: shown, more }
    };
    let top = Top::of(who);
    // What does not hold comes first.
    let mut all: Vec<One> = look.watch.all().iter().map(one).collect();
    all.sort_by_key(|one| one.broken.is_empty());
    Ok(Invariants { top, title, even: broken.is_empty(), all }.render())
}
