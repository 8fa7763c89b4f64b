//! Texts that items have from files of the repository, and the values that stand in them.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests")]

mod common;

use common::lines;
use evenkeel_core::{Complaint, Fault, Kind, Plan, Section, Sensor};
use evenkeel_spec::{Bundle, Entry, Kinds, Problems, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KINDS: Kinds = &[&Page];

struct Page;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Want {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    substitute: Option<bool>,
}

impl Kind for Page {
    const NAME: &'static str = "page";
    const SUMMARY: &'static str = "for tests";
    const EXAMPLE: &'static str = "a: {content: b}";
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] =
        &[("from", &["content"]), ("content", &["from"])];
    const PAYLOADS: &'static [(&'static str, &'static str)] = &[("from", "content")];
    const SUBSTITUTED: &'static [&'static str] = &["content"];
    type Want = Want;
    type Have = ();
    fn check(_: &str, want: &Want) -> Vec<Complaint> {
        let lines = want.content.iter().flat_map(|text| text.lines().zip(1u32..));
        let bad = lines.filter(|(line, _)| line.contains("bad"));
        bad.map(|(_, n)| Complaint::error(["content".to_owned(), format!("[{n}]")], "a bad line", "mend it"))
            .collect()
    }
    fn observe(_: &Section<Want>, _: &dyn Sensor) -> Result<(), Fault> {
        Ok(())
    }
    fn plan(_: &Section<Want>, (): &()) -> Plan {
        Plan::default()
    }
}

const FLEET: &str = "version: 1
fleet: eden
nodes:
  n1: {tier: t, labels: {role: primary}}
  \"w*\": {tier: t, labels: {role: spare}}
  other: {tier: u}
paths:
  db:
    from: {tier: t}
    to: {tier: u, port: 5432}
    idle_timeout: 350s
    blackout_at_most: 60s
";

fn bundle(items: &str, files: &[(&str, &[u8])]) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.insert_file("fleet.yaml", FLEET);
    bundle.insert_file("tiers/t.yaml", format!("version: 1\npage:\n{items}"));
    bundle.insert_file("tiers/u.yaml", "version: 1\n");
    for (path, bytes) in files {
        bundle.insert_file(*path, *bytes);
    }
    bundle
}

fn read(bundle: &Bundle) -> (Option<Repository>, Problems) {
    match Repository::read(bundle, KINDS) {
        Ok((repository, problems)) => (Some(repository), problems),
        Err(problems) => (None, problems),
    }
}

fn told(items: &str, files: &[(&str, &[u8])]) -> Vec<String> {
    lines(&read(&bundle(items, files)).1)
}

fn content(repository: &Repository, node: &str, item: &str) -> serde_json::Value {
    repository.node(node, None).unwrap().goals[0].items()[item].fields["content"].clone()
}

#[test]
fn a_files_text_becomes_the_items_own_byte_for_byte_and_is_what_two_specs_are_compared_by() {
    let items = "  a: {from: files/a.ini}\n  b: {content: \"x\"}\n";
    let (one, problems) = read(&bundle(items, &[("files/a.ini", b"a = 1\r\n\tb")]));
    assert_eq!(lines(&problems), [""; 0]);
    let one = one.unwrap();
    assert_eq!(content(&one, "n1", "a"), "a = 1\r\n\tb");
    let other = read(&bundle(items, &[("files/a.ini", b"a = 2\n")])).0.unwrap();
    let fields =
        |of: &Repository, item: &str| of.node("n1", None).unwrap().goals[0].items()[item].fields.clone();
    assert_ne!(fields(&one, "a"), fields(&other, "a"));
    assert_eq!(fields(&one, "b"), fields(&other, "b"));
}

#[test]
fn what_is_rendered_and_explained_names_the_file_and_shows_no_text() {
    let one = read(&bundle("  a: {from: files/a.ini}\n", &[("files/a.ini", b"canary")])).0.unwrap();
    let text = one.render("n1").unwrap() + &one.explain("n1", "page/a").unwrap().to_string();
    assert!(text.contains("files/a.ini") && !text.contains("canary"), "{text}");
}

#[test]
fn a_file_that_cannot_be_had_is_an_error_at_the_line_that_names_it() {
    let big = vec![b'x'; Bundle::FILE_CAP + 1];
    let items = "  a: {from: files/uwsgi.ini}\n  b: {from: files/big}\n  c: {from: files/raw}\n  d: {from: files/../x}
  e: {from: tiers/t.yaml}\n  f: {from: files/l}\n  g: {from: files//x}\n  h: {from: /etc/passwd}\n  i: {from: files/x, content: z}
  j: {from: 5}\n";
    let mut bundle = bundle(
        items,
        &[("files/uwsgy.ini", b""), ("files/big", &big), ("files/raw", b"\xff"), ("files/x", b"\x1b[2J")],
    );
    bundle.files.insert("files/l".into(), Entry::Link("/etc/shadow".into()));
    let (none, problems) = read(&bundle);
    assert!(none.is_none());
    let told = lines(&problems);
    for (line, what) in [
        (3, "there is no `files/uwsgi.ini` in the repository (did you mean `files/uwsgy.ini`?)"),
        (4, "is too big: it has 262145 bytes, and 262144 are the most"),
        (5, "`files/raw` is no UTF-8 text"),
        (6, "is a path outside the repository"),
        (7, "does not lie below `files`"),
        (8, "is a symlink to `/etc/shadow`"),
        (9, "does not lie below `files`"),
        (10, "is a path outside the repository"),
        (11, "`from` and `content` are both said"),
        (12, "this must be a text, not the number `5`"),
    ] {
        let place = format!("tiers/t.yaml:{line}:");
        assert!(told.iter().any(|one| one.contains(&place) && one.contains(what)), "{what}\n{told:#?}");
    }
}

#[test]
fn what_hides_in_a_file_is_refused_at_its_line() {
    let told = told("  a: {from: files/x}\n", &[("files/x", "one\ntwo \u{202e}\n".as_bytes())]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("files/x:2") && told[0].contains("U+202E"), "{told:?}");
}

#[test]
fn a_file_that_nobody_names_is_a_warning() {
    let told = told("  a: {content: x}\n", &[("files/left", b"x")]);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("files/left") && told[0].contains("no item names this file"), "{told:?}");
}

#[test]
fn values_of_the_node_its_labels_and_its_paths_are_put_in() {
    let text = b"${node} ${tier} ${fleet} ${label.role} ${path.db.keepalive_time}/${path.db.idle_timeout}/${path.db.port} $${node} ${credential.pw}";
    let items =
        "  a: {from: files/a}\n  b: {from: files/a, substitute: false}\n  c: {content: \"${node}\"}\n";
    let one = read(&bundle(items, &[("files/a", text)])).0.unwrap();
    let kept = "$${node} ${credential.pw}";
    assert_eq!(content(&one, "n1", "a"), format!("n1 t eden primary 29/350s/5432 {kept}"));
    assert_eq!(content(&one, "w7", "a"), format!("w7 t eden spare 29/350s/5432 {kept}"));
    assert_eq!(content(&one, "n1", "b"), std::str::from_utf8(text).unwrap());
    assert_eq!(content(&one, "w7", "c"), "w7");
}

#[test]
fn an_unknown_word_is_an_error_at_its_line_in_the_file_or_in_the_document() {
    let items = "  a: {from: files/a}\n  b:\n    content: |\n      fine\n      x ${nodee}\n";
    let told = told(items, &[("files/a", b"fine\n  ${label.rol} ${HOME}\n")]);
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[0].contains("files/a:2: `n1` has no label `rol`"), "{told:#?}");
    assert!(told[1].contains("files/a:2: `w*` has no label `rol`"), "{told:#?}");
    assert!(told[2].contains("files/a:2: nothing is known as `${HOME}`"), "{told:#?}");
    assert!(told[2].contains("substitute: false"), "{told:#?}");
    assert!(told[3].contains("tiers/t.yaml:7:") && told[3].contains("did you mean `node`?"), "{told:#?}");
}

#[test]
fn labels_are_looked_up_for_every_line_of_the_fleet() {
    let mut bundle = bundle("  a: {content: \"${label.role}\"}\n", &[]);
    bundle.insert_file("fleet.yaml", FLEET.replace("labels: {role: spare}", "labels: {zone: a}"));
    let told = lines(&read(&bundle).1);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("`w*` has no label `role`"), "{told:?}");
}

#[test]
fn a_kind_complains_of_a_line_where_that_line_is() {
    let items = "  a: {from: files/a}\n  b:\n    content: |\n      fine\n      bad ${node}\n";
    let told = told(items, &[("files/a", b"fine\nfine\nbad ${node}\n")]);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("files/a:3") && told[1].contains("tiers/t.yaml:7"), "{told:#?}");
}

#[test]
fn what_a_later_layer_says_drops_the_other_and_what_is_wished_away_needs_no_file() {
    let mut bundle = bundle("  a: {from: files/none}\n  b: {from: files/none}\n", &[]);
    bundle.insert_file("nodes/n1.yaml", "version: 1\npage:\n  a: {content: mine}\n  b: {absent: true}\n");
    bundle.insert_file("fleet.yaml", FLEET.replace("  \"w*\": {tier: t, labels: {role: spare}}\n", ""));
    let (one, problems) = read(&bundle);
    assert_eq!(lines(&problems), [""; 0]);
    assert_eq!(content(&one.unwrap(), "n1", "a"), "mine");
}
