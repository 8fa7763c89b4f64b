//! One query, in a transaction that may only read, with the rights of a role that may do little.

use crate::postgres;
use evenkeel_core::{PgServer, Probing, chain};
use std::time::Duration;

/// The first value that a query answers.
pub(super) fn ask(
    server: &PgServer,
    (database, role): (Option<&str>, Option<&str>),
    query: &str,
    within: Duration,
) -> Probing {
    match postgres::first_value(server, (database, role), query, within) {
        Ok(value) => Probing::Value(value),
        Err(fault) => Probing::Failed(chain(&fault)),
    }
}
