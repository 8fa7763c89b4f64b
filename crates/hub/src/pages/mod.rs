//! The pages: made on the server, whole without a script. What nodes wrote is text: escaped by the templates, and
//! control and direction characters are made visible before, so that no value can pass for another.

mod account;
mod admin;
mod drift;
mod fleet;
mod git;
mod incident;
mod invariants;
mod node;
mod nodes;
mod past;
mod plot;
mod rollout;
mod silences;
mod top;
mod view;
mod wall;
mod words;
pub(crate) use words::shown;

pub(crate) use account::{account, refused, sign_in, undone};
pub(crate) use admin::{Line, admin, audit, shown_once};
pub(crate) use drift::drift;
pub(crate) use fleet::fleet;
pub(crate) use incident::{Span, incident, moment};
pub(crate) use invariants::invariants;
pub(crate) use node::{nobody, node};
pub(crate) use nodes::nodes;
pub(crate) use past::past;
pub(crate) use plot::hours;
pub(crate) use rollout::{no_commit, rollout, rollouts};
pub(crate) use silences::{Filled, silences};
pub(crate) use top::Top;
pub(crate) use wall::wall;

/// A page as text.
pub(crate) type Page = std::result::Result<String, askama::Error>;
