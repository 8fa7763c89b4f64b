//! What several documents come to together: order, merging, absence, modes, places.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
use common::{lines, one_tier, read};
use evenkeel_core::{Mode, Spec};
use evenkeel_spec::{NodeError, Repository, read_section};
use serde_json::{Value, json};

/// Fields of one item of `db1`.
fn fields(spec: &Spec, kind: &str, name: &str) -> Value {
    let goal = spec.goals.iter().find(|goal| goal.kind() == kind).unwrap();
    goal.items()[name].fields.clone()
}

/// A repository of four layers: two profiles, the tier, the node.
fn four(base: &str, more: &str, tier: &str, node: &str) -> Repository {
    let head = |include: &str, text: &str| format!("version: 1\n{include}{text}");
    let files = [
        ("fleet.yaml", common::FLEET.to_owned()),
        ("profiles/base.yaml", head("", base)),
        ("profiles/more.yaml", head("include: [profiles/base]\n", more)),
        ("tiers/db.yaml", head("include: [profiles/more.yaml]\n", tier)),
        ("nodes/db1.yaml", head("", node)),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    read(&files).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn spec(base: &str, more: &str, tier: &str, node: &str) -> Spec {
    four(base, more, tier, node).node("db1", None).unwrap()
}

#[test]
fn a_later_layer_wins_and_the_place_is_its_own() {
    let says = |number: u32| format!("sysctl:\n  vm.swappiness: {number}\n");
    let spec = spec(&says(1), &says(2), &says(3), &says(4));
    assert_eq!(fields(&spec, "sysctl", "vm.swappiness"), json!({"value": 4}));
    assert_eq!(spec.goals[0].items()["vm.swappiness"].origin.to_string(), "nodes/db1.yaml:3");
}

#[test]
fn items_merge_field_by_field_and_their_maps_key_by_key_and_lists_are_replaced() {
    let spec = spec(
        "mount:\n  /srv: {source: 'a:/b', type: nfs4, options: [rw, hard]}\n",
        "postgresql:\n  13/main:\n    settings: {work_mem: 4MB, jit: true}\n    roles: {a: {x: 1, y: 2}}\n",
        "mount:\n  /srv: {owner: web2py}\npostgresql:\n  13/main:\n    settings: {work_mem: 8MB}\n",
        "mount:\n  /srv: {options: [ro]}\npostgresql:\n  13/main:\n    roles: {a: {y: 3}, b: {z: 4}}\n",
    );
    let share = json!({"source": "a:/b", "type": "nfs4", "options": ["ro"], "owner": "web2py"});
    assert_eq!(fields(&spec, "mount", "/srv"), share);
    let database = json!({"settings": {"work_mem": "8MB", "jit": true}, "roles": {"a": {"x": 1, "y": 3}, "b": {"z": 4}}});
    assert_eq!(fields(&spec, "postgresql", "13/main"), database);
}

#[test]
fn a_field_displaces_from_below_what_cannot_stand_beside_it() {
    let spec = spec(
        "sysctl:\n  net.a: 5\n  net.b: {at_least: 1, at_most: 9}\n",
        "sysctl:\n  net.a: {at_least: 7}\n",
        "sysctl:\n  net.b: {value: 3}\n",
        "",
    );
    assert_eq!(fields(&spec, "sysctl", "net.a"), json!({"at_least": 7}));
    assert_eq!(fields(&spec, "sysctl", "net.b"), json!({"value": 3}));
}

#[test]
fn absent_removes_what_is_below_and_a_later_layer_that_says_fields_starts_anew() {
    let base = "mount:\n  /a: {source: s, type: t, owner: x}\n  /b: {source: s, type: t, owner: x}\n";
    let spec = spec(
        base,
        "",
        "mount:\n  /a: {absent: true}\n  /b: {absent: true}\n",
        "mount:\n  /b: {source: m, type: u}\n",
    );
    assert_eq!(fields(&spec, "mount", "/a"), Value::Null);
    assert_eq!(fields(&spec, "mount", "/b"), json!({"source": "m", "type": "u"}));
}

#[test]
fn absent_false_alone_brings_nothing_back() {
    let files = |node: &'static str| {
        read(&[
            ("fleet.yaml", common::FLEET),
            ("tiers/db.yaml", "version: 1\nmount:\n  /a: {absent: true, source: s, type: t}\n"),
            ("nodes/db1.yaml", node),
        ])
    };
    let refused = files("version: 1\nmount:\n  /a: {absent: false}\n").err().unwrap();
    assert!(lines(&refused)[0].contains("`source` is missing"), "{refused}");
    assert!(files("version: 1\nmount:\n  /a: {absent: false, source: s, type: t}\n").is_ok());
}

#[test]
fn a_mode_alone_does_not_bring_an_absent_item_back() {
    let spec = spec(
        "sysctl:\n  net.a: 1\n",
        "sysctl:\n  net.a: {absent: true}\n",
        "sysctl:\n  net.a: {mode: audit}\n",
        "",
    );
    assert_eq!(fields(&spec, "sysctl", "net.a"), Value::Null);
    assert_eq!(spec.goals[0].items()["net.a"].mode, Mode::Audit);
}

#[test]
fn audit_wins_from_any_layer_that_speaks_of_the_item() {
    let spec = spec(
        "sysctl:\n  net.a: {value: 1, mode: audit}\n  net.b: 1\n  net.c: 1\n",
        "mode: audit\nsysctl:\n  net.b: 2\n",
        "sysctl:\n  net.a: {value: 2, mode: enforce}\n",
        "mode: enforce\nsysctl:\n  net.b: {value: 3, mode: enforce}\n",
    );
    let items = spec.goals[0].items();
    assert_eq!(items["net.a"].mode, Mode::Audit);
    assert_eq!(items["net.b"].mode, Mode::Audit);
    assert_eq!(items["net.c"].mode, Mode::Enforce);
    assert_eq!(spec.mode, Mode::Audit, "and so is what nobody names any more");
}

#[test]
fn a_fleet_in_audit_is_in_audit_everywhere() {
    let fleet = "version: 1\nfleet: eden\nmode: audit\nnodes: {db1: {tier: db}}\n";
    let tier = "version: 1\nmode: enforce\nsysctl:\n  net.a: {value: 1, mode: enforce}\n";
    let (repository, _) = read(&[("fleet.yaml", fleet), ("tiers/db.yaml", tier)]).unwrap();
    let spec = repository.node("db1", None).unwrap();
    assert_eq!((spec.mode, spec.goals[0].items()["net.a"].mode), (Mode::Audit, Mode::Audit));
}

#[test]
fn a_profile_that_is_included_twice_counts_at_its_first_place() {
    let says = |include: &str, number: u32| format!("version: 1\n{include}sysctl:\n  net.a: {number}\n");
    let (a, b, base) =
        (says("include: [profiles/base]\n", 2), says("include: [profiles/base]\n", 3), says("", 1));
    let tier = "version: 1\ninclude: [profiles/a, profiles/b]\n";
    let files = [
        ("fleet.yaml", common::FLEET),
        ("profiles/a.yaml", &a),
        ("profiles/b.yaml", &b),
        ("profiles/base.yaml", &base),
        ("tiers/db.yaml", tier),
        ("nodes/db1.yaml", "version: 1\ninclude: [profiles/base]\n"),
    ];
    let spec = read(&files).unwrap().0.node("db1", None).unwrap();
    assert_eq!(fields(&spec, "sysctl", "net.a"), json!({"value": 3}));
}

#[test]
fn the_mode_of_a_folder_is_not_the_mode_of_its_item() {
    let share = "source: s, type: t";
    let spec = spec(
        &format!("mount:\n  /a: {{{share}, mode: '0750'}}\n  /b: {{{share}, mode: audit}}\n"),
        &format!("mount:\n  /c: {{{share}, mode: audit, permissions: '0700'}}\n"),
        "mount:\n  /b: {permissions: '0711'}\n",
        "mount:\n  /a: {permissions: '0755'}\n",
    );
    let items = spec.goals[1].items();
    let seen = |name: &str| (items[name].mode, items[name].fields["mode"].clone());
    assert_eq!(seen("/a"), (Mode::Enforce, json!("0755")));
    assert_eq!(seen("/b"), (Mode::Audit, json!("0711")));
    assert_eq!(seen("/c"), (Mode::Audit, json!("0700")));
}

#[test]
fn every_kind_has_a_goal_even_where_nobody_speaks_of_it() {
    let spec = one_tier("version: 1\nsysctl:\n").unwrap().0.node("db1", None).unwrap();
    let goals: Vec<(&str, usize)> = spec.goals.iter().map(|goal| (goal.kind(), goal.items().len())).collect();
    assert_eq!(goals, [("sysctl", 0), ("mount", 0), ("postgresql", 0)]);
}

const SELECT: &str = "version: 1\nfleet: eden\nnodes:\n  \"web*\": {tier: web}\n  \"*7\": {tier: web}\n  web17: {tier: db}\n  \
     mw7: {tier: web, labels: {role: spare}, machine_id: 4f0c1b6e9d8a4c0f8f1e2d3c4b5a6978}\n";

fn selecting() -> Repository {
    let doc = "version: 1\nsysctl: {net.a: 1}\n";
    read(&[("fleet.yaml", SELECT), ("tiers/web.yaml", doc), ("tiers/db.yaml", doc)]).unwrap().0
}

#[test]
fn an_exact_name_comes_before_globs_and_a_glob_stands_for_many() {
    let tier = |node: &str| selecting().node(node, None).map(|spec| spec.identity.tier);
    assert_eq!(tier("web1").unwrap(), "web");
    assert_eq!(tier("web17").unwrap(), "db");
}

#[test]
fn two_globs_are_an_error_for_that_node_alone_and_both_are_named_with_their_lines() {
    let error = selecting().node("web27", None).err().unwrap();
    assert!(matches!(error, NodeError::TwoGlobs { .. }));
    let text = error.to_string();
    assert!(text.contains("`web*` (fleet.yaml:4)") && text.contains("`*7` (fleet.yaml:5)"), "{text}");
    assert!(selecting().node("web1", None).is_ok());
}

#[test]
fn a_node_that_nothing_matches_is_told_so() {
    let error = selecting().node("wbe18", None).err().unwrap().to_string();
    assert!(error.contains("no name and no glob in fleet.yaml matches node `wbe18`"), "{error}");
    let error = selecting().node("web1X7", None).err().unwrap().to_string();
    assert!(error.starts_with("two globs"), "{error}");
    let error = selecting().node("mw8", None).err().unwrap().to_string();
    assert!(error.ends_with("did you mean `mw7`?"), "{error}");
    let error = selecting().node("db9", None).err().unwrap();
    assert!(matches!(error, NodeError::Nobody { .. }), "{error}");
}

#[test]
fn a_pinned_node_is_that_machine_and_no_other() {
    let id = "4f0c1b6e9d8a4c0f8f1e2d3c4b5a6978";
    let spec = selecting().node("mw7", Some(id)).unwrap();
    assert_eq!(spec.identity.labels["role"], "spare");
    for other in [None, Some("00000000000000000000000000000000")] {
        let error = selecting().node("mw7", other).err().unwrap();
        assert!(error.to_string().contains("pinned to machine-id 4f0c"), "{error}");
        assert!(error.to_string().contains("fleet.yaml:7"), "{error}");
    }
}

#[test]
fn a_section_can_be_read_on_its_own() {
    for kind in common::KINDS {
        let goal = read_section(*kind, kind.example(), Mode::Audit).unwrap();
        assert!(!goal.items().is_empty());
        assert!(goal.items().values().all(|item| item.mode == Mode::Audit));
        assert!(read_section(*kind, "# nothing\n", Mode::Enforce).unwrap().items().is_empty());
    }
    let refused =
        read_section(common::KINDS[0], "vm.swappiness: yes\nnet.a: {value: 1, mode: x}\n", Mode::Enforce);
    let refused = lines(&refused.err().unwrap());
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[1].starts_with("sysctl:2: "), "{refused:?}");
}

#[test]
fn what_only_one_nodes_own_file_makes_wrong_is_found_and_told_at_its_line() {
    let fleet = "version: 1\nfleet: eden\nnodes:\n  db1: {tier: db}\n  \"db*\": {tier: db}\n";
    let refused = read(&[
        ("fleet.yaml", fleet),
        ("tiers/db.yaml", "version: 1\nsysctl:\n  a.b: {at_least: 1}\n"),
        ("nodes/db7.yaml", "version: 1\nsysctl:\n  a.b: {at_least: -1}\n"),
    ]);
    let told = lines(&refused.err().unwrap());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("nodes/db7.yaml:3: "), "{told:?}");
}
