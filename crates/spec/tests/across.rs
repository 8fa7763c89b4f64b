//! What differs between the nodes of one tier, and is told where the kind minds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{lines, read};

const FLEET: &str =
    "version: 1\nfleet: eden\nnodes:\n  mw1: {tier: mw}\n  mw2: {tier: mw}\n  \"web*\": {tier: web}\n";
const MW: &str = "version: 1\nmount:\n  /srv/x: {source: 'nas:/x', type: nfs4}\n";

fn told(own: &[(&str, &str)]) -> Vec<String> {
    let files = [("fleet.yaml", FLEET), ("tiers/mw.yaml", MW), ("tiers/web.yaml", MW)];
    let files: Vec<(&str, &str)> = files.into_iter().chain(own.iter().copied()).collect();
    lines(&read(&files).unwrap().1)
}

#[test]
fn a_node_that_says_otherwise_is_named_at_its_own_line() {
    let own = "version: 1\nmount:\n  /srv/x:\n    source: 'other:/x'\n";
    let told = told(&[("nodes/mw2.yaml", own)]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("nodes/mw2.yaml:4"), "{told:?}");
    assert!(told[0].contains("not the same share on mw1, mw2"), "{told:?}");
}

#[test]
fn a_node_that_only_its_file_names_counts_beside_the_glob() {
    let own = "version: 1\nmount:\n  /srv/x: {source: 'other:/x'}\n";
    let told = told(&[("nodes/web7.yaml", own)]);
    assert!(told.len() == 1 && told[0].contains("nodes/web7.yaml:3"), "{told:?}");
    assert!(told[0].contains("web*, web7"), "{told:?}");
}

#[test]
fn what_the_kind_does_not_mind_and_other_tiers_may_differ() {
    let own = "version: 1\nmount:\n  /srv/x: {options: [ro]}\n  /srv/y: {source: 'nas:/y', type: nfs4}\n";
    assert_eq!(told(&[("nodes/mw2.yaml", own)]), [""; 0]);
    let gone = "version: 1\nmount:\n  /srv/x: {absent: true}\n";
    assert_eq!(told(&[("nodes/mw2.yaml", gone)]), [""; 0], "what is not there cannot differ");
    assert_eq!(told(&[]), [""; 0]);
}
