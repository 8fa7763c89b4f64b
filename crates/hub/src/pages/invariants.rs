//! What must be the same on every node of a tier, and whether it is.

use super::view::Differs;
use super::{Page, Top, words};
use crate::accounts::Who;
use crate::invariants::{INVARIANTS, broken};
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
    fact: &'static str,
    means: &'static str,
    broken: Vec<Differs>,
    more: usize,
}

/// Every invariant.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn invariants(who: &Who, look: &Look<'_>) -> Result<Page> {
    let broken = broken(look.view, look.roll, look.times)?;
    let title = match broken.len() {
        0 => "Every invariant holds".to_owned(),
        some => format!("{} where nodes of one tier differ", words::count(some, "place", "places")),
    };
    let one = |one: &crate::invariants::Invariant| {
        let its: Vec<_> = broken.iter().filter(|broken| broken.fact == one.fact).collect();
        let shown = its.iter().take(MOST).map(|broken| Differs::new(broken)).collect();
        One { fact: one.fact, means: one.means, broken: shown, more: its.len().saturating_sub(MOST) }
    };
    let top = Top::of(who);
    Ok(Invariants { top, title, even: broken.is_empty(), all: INVARIANTS.iter().map(one).collect() }.render())
}
