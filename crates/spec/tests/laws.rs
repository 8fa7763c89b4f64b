//! Laws of the language, tried on random repositories and random bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
use common::{KINDS, bundle};
use evenkeel_core::{Mode, Spec};
use evenkeel_spec::{Bundle, Repository, read_section};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A document as JSON, which is YAML too.
fn text(document: &Value) -> String {
    document.to_string()
}

/// A repository of one node: profile, tier, the node's own file.
fn spec(layers: &[Value]) -> Spec {
    repository(layers).node("db1", None).unwrap()
}

fn repository(layers: &[Value]) -> Repository {
    let mut files = vec![("fleet.yaml".to_owned(), common::FLEET.to_owned())];
    let mut below: Vec<String> = vec![];
    for (index, layer) in layers.iter().enumerate() {
        let mut document = layer.clone();
        document["version"] = json!(1);
        let path = match index {
            0 => "tiers/db.yaml".to_owned(),
            index => format!("profiles/p{index}.yaml"),
        };
        if index > 0 {
            below.push(format!("profiles/p{index}"));
        }
        files.push((path, text(&document)));
    }
    // The first layer of the list is the tier, which is laid over the profiles in their order.
    let mut tier: Value = serde_json::from_str(&files[1].1).unwrap();
    tier["include"] = json!(below);
    files[1].1 = text(&tier);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    Repository::read(&bundle(&files), KINDS).unwrap_or_else(|problems| panic!("{problems}\n{files:?}")).0
}

/// Everything that a node keeps, without places.
fn kept(spec: &Spec) -> BTreeMap<String, (Mode, Value)> {
    let goals = spec.goals.iter().flat_map(|goal| {
        goal.items()
            .iter()
            .map(|(name, item)| (format!("{}/{name}", goal.kind()), (item.mode, item.fields.clone())))
    });
    goals.collect()
}

/// Texts that a renderer could get wrong.
fn word() -> impl Strategy<Value = String> {
    let hard = "yes|no|on|off|null|~|true|0750|0x1f|1_000|1e3|-|- a|a: b|a #b|#a|'a'|\"a\"|\\[a\\]|\\{a\\}|&a|\\*a|!a|%a|@a|`a|a,b| a |a:|:a|\\.\\.\\.|---|<<|=|\\?|\\| a|> a";
    prop_oneof!["[a-z]{1,8}", "[a-z/._:-]{1,12}", "[\\PC--[\u{2028}\u{2029}]]{1,12}", hard, "[0-9.]{1,6}"]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        word().prop_map(Value::from),
    ]
}

fn with_mode(mut item: Map<String, Value>, mode: u8) -> Value {
    match mode {
        0 => item.insert("mode".into(), json!("audit")),
        1 => item.insert("mode".into(), json!("enforce")),
        2 => item.insert("absent".into(), json!(true)),
        _ => None,
    };
    Value::Object(item)
}

fn knob() -> impl Strategy<Value = Value> {
    let full = (scalar(), 0..6u8)
        .prop_map(|(value, mode)| with_mode(Map::from_iter([("value".to_owned(), value)]), mode));
    let least = (0..1000i64, 0..6u8)
        .prop_map(|(least, mode)| with_mode(Map::from_iter([("at_least".to_owned(), json!(least))]), mode));
    prop_oneof![scalar(), full, least]
}

fn share() -> impl Strategy<Value = Value> {
    let options = prop::collection::vec("[a-z0-9.=_-]{1,8}", 0..4);
    (word(), word(), options, 0..6u8, any::<bool>()).prop_map(|(source, fstype, options, mode, bits)| {
        let mut share = Map::new();
        share.insert("source".into(), json!(source));
        share.insert("type".into(), json!(fstype));
        share.insert("options".into(), json!(options));
        if bits {
            share.insert("permissions".into(), json!("0750"));
        }
        with_mode(share, mode)
    })
}

fn database() -> impl Strategy<Value = Value> {
    let settings = || prop::collection::btree_map(word(), scalar(), 0..4);
    let roles = prop::collection::btree_map(word(), settings(), 0..3);
    (settings(), roles, 0..6u8).prop_map(|(settings, roles, mode)| {
        let mut item = Map::new();
        item.insert("settings".into(), json!(settings));
        item.insert("roles".into(), json!(roles));
        with_mode(item, mode)
    })
}

fn document() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["net.a", "net.b", "vm.c", "net.ipv4.conf.eth0/100.d"]);
    let knobs = prop::collection::btree_map(key, knob(), 0..4);
    let place = prop::sample::select(vec!["/srv", "/srv/a b", "/home/prod/ä", "/x: y"]);
    let shares = prop::collection::btree_map(place, share(), 0..3);
    let cluster = prop::sample::select(vec!["13/main", "15/main"]);
    let databases = prop::collection::btree_map(cluster, database(), 0..2);
    (knobs, shares, databases, prop::option::weighted(0.2, Just("audit"))).prop_map(
        |(knobs, shares, databases, mode)| {
            let mut document = json!({"sysctl": knobs, "mount": shares, "postgresql": databases});
            if let Some(mode) = mode {
                document["mode"] = json!(mode);
            }
            document
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_comes_to_the_same_when_it_is_read_again(layers in prop::collection::vec(document(), 1..4)) {
        let repository = repository(&layers);
        let before = repository.node("db1", None).unwrap();
        let page = repository.render("db1").unwrap();
        let again = Repository::read(&bundle(&[("fleet.yaml", common::FLEET), ("tiers/db.yaml", &page)]), KINDS);
        let (again, _) = again.unwrap_or_else(|problems| panic!("{problems}\n{page}"));
        prop_assert_eq!(kept(&again.node("db1", None).unwrap()), kept(&before), "{}", page);
    }

    #[test]
    fn a_layer_that_says_nothing_changes_nothing(document in document()) {
        let nothing = json!({"sysctl": null, "mount": {}});
        prop_assert_eq!(kept(&spec(&[nothing, document.clone()])), kept(&spec(&[document])));
    }

    #[test]
    fn a_document_over_itself_changes_nothing(document in document()) {
        prop_assert_eq!(kept(&spec(&[document.clone(), document.clone()])), kept(&spec(&[document])));
    }

    #[test]
    fn the_later_layer_wins(below in document(), above in document()) {
        let both = kept(&spec(&[above.clone(), below.clone()]));
        for (id, (mode, fields)) in kept(&spec(&[above])) {
            let (merged_mode, merged) = &both[&id];
            prop_assert!(*merged_mode >= mode, "{}: audit wins", id);
            prop_assert!(contains(merged, &fields), "{}: {} within {}", id, fields, merged);
        }
        let lower = kept(&spec(&[below]));
        prop_assert!(lower.keys().all(|id| both.contains_key(id)), "nothing from below is lost");
    }

    #[test]
    fn the_order_of_sections_and_items_in_a_file_means_nothing(document in document()) {
        let mut turned = Map::new();
        for (key, value) in document.as_object().unwrap().iter().rev() {
            let value = match value {
                Value::Object(items) => Value::Object(items.clone().into_iter().rev().collect()),
                other => other.clone(),
            };
            turned.insert(key.clone(), value);
        }
        prop_assert_eq!(kept(&spec(&[Value::Object(turned)])), kept(&spec(&[document])));
    }

    #[test]
    fn every_kept_value_can_be_explained_and_somebody_won(layers in prop::collection::vec(document(), 1..3)) {
        let repository = repository(&layers);
        for (id, (mode, fields)) in kept(&repository.node("db1", None).unwrap()) {
            let told = repository.explain("db1", &id).unwrap();
            prop_assert_eq!((told.absent, told.mode), (fields.is_null(), mode));
            for value in told.values.iter().filter(|value| value.value.is_some()) {
                prop_assert_eq!(value.said.iter().filter(|said| said.won).count(), 1, "{} in {}", value.path, told);
            }
        }
    }
}

/// Maps within maps; anything else must be equal.
fn contains(outer: &Value, inner: &Value) -> bool {
    match (outer, inner) {
        (Value::Object(outer), Value::Object(inner)) => {
            inner.iter().all(|(key, value)| outer.get(key).is_some_and(|outer| contains(outer, value)))
        }
        (outer, inner) => outer == inner,
    }
}

/// Reading must end, and all that is told must be fit to be shown.
fn read_anything(bytes: &[u8]) -> Result<(), TestCaseError> {
    for path in ["fleet.yaml", "tiers/db.yaml"] {
        let mut files = bundle(&[("fleet.yaml", common::FLEET), ("tiers/db.yaml", "version: 1\n")]);
        files.insert_file(path, bytes);
        if let Err(problems) = Repository::read(&files, KINDS) {
            prop_assert!(problems.has_errors());
            let text = problems.text(false) + &problems.sarif() + &problems.json();
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{}", text.escape_debug());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = read_section(KINDS[2], text, Mode::Enforce);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_anything(&bytes)?;
    }

    #[test]
    fn no_text_that_looks_like_a_spec_makes_it_panic(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..40)
    ) {
        read_anything(parts.concat().as_bytes())?;
    }

    #[test]
    fn a_good_file_with_one_byte_changed_does_not_make_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        read_anything(&bytes)?;
    }
}

const PARTS: [&str; 48] = [
    "version: 1\n",
    "fleet: eden\n",
    "nodes:\n",
    "include: [profiles/a]\n",
    "mode: audit\n",
    "sysctl:\n",
    "mount:\n",
    "postgresql:\n",
    "  ",
    "    ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    ": ",
    ":",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "#",
    " #x",
    "'",
    "\"",
    "\\",
    "&a ",
    "*a ",
    "!t ",
    "<<",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "0750",
    "yes",
    "null",
    "~",
    "1e999",
    "vm.swappiness",
    "/srv",
    "13/main",
    "settings",
    "\u{feff}",
    "\u{85}",
];

const GOOD: &str = "version: 1\nsysctl:\n  vm.swappiness: 1\n  net.a: {at_least: 4, mode: audit}\nmount:\n  /srv:\n    \
     source: 'a:/b'\n    type: \"nfs4\"\n    options: [rw, hard]\npostgresql:\n  13/main:\n    settings:\n      work_mem: 8MB\n";

#[test]
fn a_bundle_that_was_sent_on_reads_the_same() {
    let files = bundle(&[("fleet.yaml", common::FLEET), ("tiers/db.yaml", GOOD)]);
    let sent: Bundle = serde_json::from_str(&serde_json::to_string(&files).unwrap()).unwrap();
    let read = |files: &Bundle| kept(&Repository::read(files, KINDS).unwrap().0.node("db1", None).unwrap());
    assert_eq!(read(&files), read(&sent));
}
