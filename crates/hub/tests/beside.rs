//! The registry writes beside the one thread that stores events: neither fails because of the other.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::T0;
use common::stores::{Kind, Where};
use evenkeel_hub::store::NodeDoc;
use evenkeel_hub::store::accounts::{Change, Entry};
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::registry::Mark;
use std::sync::Arc;
use std::time::Duration;

/// How many times.
const ROUNDS: usize = 10;

/// Between what a transaction of events reads and what it writes, somebody is banned.
fn store_while_the_registry_writes(kind: Kind) {
    let at = Where::new(kind);
    let mut store = at.store();
    let book = evenkeel_hub::accounts_of(&at.location()).unwrap();
    for round in 0..ROUNDS {
        let mut banning = None;
        let source = format!("urn:uuid:{round}");
        let stored = store.transaction(&mut |tx| {
            assert!(tx.node(&source)?.is_none());
            let book = Arc::clone(&book);
            let ban = Act::Mark { name: "mw1".to_owned(), mark: Mark::Banned, at: T0 };
            banning = Some(std::thread::spawn(move || book.change(&Change::Act(ban), &Entry::default())));
            std::thread::sleep(Duration::from_millis(60));
            tx.add_node(&source, &NodeDoc::default()).map(|_| ())
        });
        assert!(
            stored.is_ok(),
            "{}",
            stored.err().map_or(String::new(), |why| evenkeel_hub::writer::chain(&why))
        );
        assert!(banning.unwrap().join().unwrap().unwrap());
    }
}

#[test]
fn events_are_stored_while_the_registry_writes_on_sqlite() {
    store_while_the_registry_writes(Kind::Sqlite);
}

#[test]
fn events_are_stored_while_the_registry_writes_on_postgres() {
    store_while_the_registry_writes(Kind::Postgres);
}
