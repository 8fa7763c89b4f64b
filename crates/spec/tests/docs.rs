//! The page about the language: what it shows is what is read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the page lies on disk")]

mod common;
use common::{KINDS, root};
use evenkeel_core::{DurationWord, FileMode, SizeWord};
use evenkeel_spec::{Bundle, Repository};

fn page() -> String {
    std::fs::read_to_string(root().join("docs/spec.md")).unwrap()
}

/// The YAML blocks of the page, in order.
fn blocks() -> Vec<String> {
    page().split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_fleet_and_the_document_of_the_page_are_good() {
    let blocks = blocks();
    let mut bundle = Bundle::default();
    bundle.insert_file("fleet.yaml", blocks[0].as_str());
    bundle.insert_file("trust/allowed_signers", "ops@eden ssh-ed25519 AAAA\n");
    bundle.insert_file("profiles/keepalive.yaml", "version: 1\n");
    bundle.insert_file("tiers/db.yaml", blocks[1].as_str());
    bundle.insert_file("tiers/middleware.yaml", "version: 1\n");
    let read = Repository::read(&bundle, KINDS);
    let (repository, problems) = read.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(problems.0.len(), 0, "{problems}");
    assert_eq!(repository.signers(), Some("trust/allowed_signers"));
    assert_eq!(repository.node("db1", None).unwrap().goals[0].items().len(), 4);
}

#[test]
fn the_words_in_the_table_of_values_are_read() {
    let page = page();
    let row =
        |name: &str| page.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap().to_owned();
    let words = |name: &str| row(name).split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    assert!(words("duration").iter().all(|word| word.parse::<DurationWord>().is_ok()));
    assert!(words("size").iter().all(|word| word.parse::<SizeWord>().is_ok()));
    assert!(words("file mode").iter().all(|word| word.trim_matches('"').parse::<FileMode>().is_ok()));
}

#[test]
fn every_word_that_the_page_says_is_refused_is_refused() {
    let page = page();
    let table = page.split("| written | why not |").nth(1).unwrap().split("\n\n").next().unwrap();
    let words: Vec<&str> = table
        .lines()
        .skip(2)
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert!(words.len() > 15, "{words:?}");
    for word in words {
        let told = common::one_tier(&format!("version: 1\nsysctl:\n  a.b: {word}\n")).err();
        assert!(told.is_some_and(|told| told.0[0].code == "bare-word"), "{word}");
    }
}

#[test]
fn the_problem_on_the_page_is_what_is_told() {
    let expect = std::fs::read_to_string(root().join("tests/bad/unknown-key/expect.txt")).unwrap();
    let shown =
        page().split("```\nerror[unknown-key]").nth(1).unwrap().split("```").next().unwrap().to_owned();
    assert!(expect.contains(&format!("error[unknown-key]{shown}")), "{shown}");
}
