//! What every kind must obey. A new kind is held to these without a line added here.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{goal, items, nodes, show_outcomes, show_plan};
use evenkeel_core::fake::FakeNode;
use evenkeel_core::{Actuator, AnyKind, Goal, Mode, Spec, Status, Step, UnitSeen, converge, converge_goal};
use evenkeel_kinds::KINDS;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a spec may have made of an item of the example: it names it, wishes it away, or says nothing of it.
#[derive(Debug, Clone, Copy)]
enum Said {
    Kept,
    Audited,
    Absent,
    Nothing,
}

/// Kinds that report and never do anything.
const ONLY_TELL: &[&str] = &["check"];

/// What is said of the first, second, … item of an example.
fn said() -> impl Strategy<Value = Vec<Said>> {
    let one = prop_oneof![
        5 => Just(Said::Kept),
        1 => Just(Said::Audited),
        1 => Just(Said::Absent),
        1 => Just(Said::Nothing),
    ];
    proptest::collection::vec(one, 12)
}

fn section(kind: &dyn AnyKind, said: &[Said]) -> Box<dyn Goal> {
    let mut raw = items(kind, kind.example(), Mode::Enforce);
    let names: Vec<String> = raw.keys().cloned().collect();
    assert!(names.len() <= said.len(), "the example of {} is too long for these laws", kind.name());
    for (name, said) in names.iter().zip(said) {
        match said {
            Said::Kept => {}
            Said::Audited => raw.get_mut(name).unwrap().mode = Mode::Audit,
            Said::Absent => raw.get_mut(name).unwrap().absent = true,
            Said::Nothing => drop(raw.remove(name)),
        }
    }
    kind.goal(Mode::Enforce, raw).unwrap()
}

/// Whether something is still to be put right.
fn drifted(goal: &dyn Goal, node: &FakeNode) -> String {
    let plan = goal.plan(node).unwrap();
    let enforced =
        |name: &String| goal.items().get(name).map_or(goal.mode(), |item| item.mode) == Mode::Enforce;
    let off = plan.items.iter().any(|(name, item)| enforced(name) && !item.drift.is_empty());
    if off { show_plan(&plan) } else { String::new() }
}

fn owned_paths(steps: &[Step]) -> BTreeSet<PathBuf> {
    let path = |step: &Step| match step {
        Step::WriteFile { path, .. } | Step::PutFile { path, .. } | Step::RemoveFile { path } => {
            Some(path.clone())
        }
        _ => None,
    };
    steps.iter().filter_map(path).collect()
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), KINDS.len());
}

#[test]
fn every_example_is_read_without_a_complaint() {
    for kind in KINDS {
        for (name, raw) in items(*kind, kind.example(), Mode::Enforce) {
            assert_eq!(kind.check(&name, &raw), [], "{}/{name}", kind.name());
        }
        assert!(!goal(*kind, kind.example(), Mode::Enforce).items().is_empty());
    }
}

#[test]
fn the_schema_knows_every_field_that_the_example_uses_and_no_other() {
    for kind in KINDS {
        let mut generator = schemars::SchemaGenerator::default();
        let mut schema = kind.schema(&mut generator).to_value();
        if let Some(name) =
            schema.get("$ref").and_then(|at| at.as_str()?.rsplit('/').next().map(str::to_owned))
        {
            schema = generator.definitions()[&name].clone();
        }
        assert_eq!(schema["additionalProperties"], false, "{}", kind.name());
        for (name, raw) in items(*kind, kind.example(), Mode::Enforce) {
            for field in raw.fields.as_object().unwrap().keys() {
                assert!(schema["properties"].get(field).is_some(), "{}/{name}: {field}", kind.name());
            }
            for needed in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    raw.fields.get(needed.as_str().unwrap()).is_some(),
                    "{}/{name}: {needed}",
                    kind.name()
                );
            }
        }
    }
}

#[test]
fn an_unknown_field_is_an_error() {
    for kind in KINDS {
        for (name, mut raw) in items(*kind, kind.example(), Mode::Enforce) {
            raw.fields.as_object_mut().unwrap().insert("no_such_field".into(), 1.into());
            let told = kind.check(&name, &raw);
            assert!(
                told.iter().any(|one| one.message.contains("no_such_field")),
                "{}: {told:?}",
                kind.name()
            );
        }
    }
}

#[test]
fn two_kinds_never_own_the_same_path() {
    let mut owners: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for kind in KINDS {
        let mut node = nodes::booted();
        converge_goal(goal(*kind, kind.example(), Mode::Enforce).as_ref(), &mut node);
        let paths = owned_paths(&node.done);
        let tells = ONLY_TELL.contains(&kind.name());
        assert_eq!(
            node.done.is_empty(),
            tells,
            "{} did nothing on a node as it was installed, or something",
            kind.name()
        );
        for path in paths {
            let other = owners.insert(path.clone(), kind.name());
            assert_eq!(
                other,
                None,
                "{} and {} both write {}",
                kind.name(),
                other.unwrap_or(""),
                path.display()
            );
        }
    }
}

#[test]
fn one_kinds_trouble_does_not_stop_the_next() {
    let goals: Vec<_> = KINDS.iter().map(|kind| goal(*kind, kind.example(), Mode::Enforce)).collect();
    let spec = |goals| Spec { identity: evenkeel_core::Identity::default(), mode: Mode::Enforce, goals };
    let mut calm = nodes::booted();
    converge(&spec(goals), &mut calm);
    for broken in KINDS.iter().filter(|kind| !ONLY_TELL.contains(&kind.name())) {
        let paths = owned_paths(&calm.done);
        let mut node = nodes::booted();
        // Everything the broken kind does fails.
        converge_goal(goal(*broken, broken.example(), Mode::Enforce).as_ref(), &mut node);
        let mut sick = nodes::booted();
        sick.faults =
            node.done.iter().map(|step| (step.to_string(), "Input/output error".to_owned())).collect();
        let goals = KINDS.iter().map(|kind| goal(*kind, kind.example(), Mode::Enforce)).collect();
        let outcomes = converge(&spec(goals), &mut sick);
        let (own, others): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|one| one.id.starts_with(&format!("{}/", broken.name())));
        assert!(own.iter().any(|one| one.status == Status::Error), "{}", show_outcomes(&own));
        assert!(others.iter().all(|one| one.status != Status::Error), "{}", show_outcomes(&others));
        assert!(owned_paths(&sick.done).is_subset(&paths));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_enforced_item_has_drift_exactly_where_a_step_serves_it(node in nodes::any_node(), said in said()) {
        for kind in KINDS {
            let goal = section(*kind, &said);
            let plan = goal.plan(&node).unwrap();
            let serves: BTreeSet<&String> = plan.tasks.iter().flat_map(|task| &task.serves).collect();
            for (name, item) in &plan.items {
                let mode = goal.items().get(name).map_or(goal.mode(), |item| item.mode);
                let due = mode == Mode::Enforce && !item.drift.is_empty();
                prop_assert_eq!(due, serves.contains(name), "{}/{}\n{}", kind.name(), name, show_plan(&plan));
            }
            prop_assert!(serves.iter().all(|name| plan.items.contains_key(*name)), "{}", show_plan(&plan));
            prop_assert!(goal.items().keys().all(|name| plan.items.contains_key(name)
                || matches!(goal.items()[name].fields, serde_json::Value::Null)));
        }
    }

    #[test]
    fn the_same_look_gives_the_same_plan(node in nodes::any_node(), said in said()) {
        for kind in KINDS {
            let goal = section(*kind, &said);
            prop_assert_eq!(goal.plan(&node).unwrap(), goal.plan(&node.clone()).unwrap());
        }
    }

    #[test]
    fn one_pass_converges_and_the_next_does_nothing(node in nodes::any_node(), said in said()) {
        for kind in KINDS {
            let goal = section(*kind, &said);
            let mut node = node.clone();
            let told = converge_goal(goal.as_ref(), &mut node);
            let left = drifted(goal.as_ref(), &node);
            prop_assert!(left.is_empty(), "{}\n{}", left, show_outcomes(&told));
            let done = node.done.len();
            let again = converge_goal(goal.as_ref(), &mut node);
            prop_assert_eq!(&node.done[done..], &[], "{} acted again", kind.name());
            prop_assert!(again.iter().all(|one| one.status != Status::Repaired), "{}", show_outcomes(&again));
        }
    }

    #[test]
    fn audit_mode_and_observing_do_nothing(node in nodes::any_node()) {
        for kind in KINDS {
            let goal = goal(*kind, kind.example(), Mode::Audit);
            let plan = goal.plan(&node).unwrap();
            prop_assert_eq!(&plan.tasks, &[], "{}", kind.name());
            let mut after = node.clone();
            let told = converge_goal(goal.as_ref(), &mut after);
            prop_assert_eq!(format!("{after:?}"), format!("{node:?}"));
            let off = plan.items.values().any(|item| !item.drift.is_empty());
            let says = told.iter().any(|one| one.status >= Status::NonCompliant);
            prop_assert!(!off || says, "{}", show_outcomes(&told));
        }
    }

    #[test]
    fn a_pass_cut_short_anywhere_is_finished_by_the_next(node in nodes::any_node(), said in said()) {
        for kind in KINDS {
            let goal = section(*kind, &said);
            let mut whole = node.clone();
            converge_goal(goal.as_ref(), &mut whole);
            for cut in 0..whole.done.len() {
                let mut node = node.clone();
                whole.done[..cut].iter().for_each(|step| node.perform(step).unwrap());
                let told = converge_goal(goal.as_ref(), &mut node);
                let left = drifted(goal.as_ref(), &node);
                prop_assert!(left.is_empty(), "cut before {}\n{left}{}", whole.done[cut], show_outcomes(&told));
                same(&node, &whole)?;
            }
        }
    }

    #[test]
    fn a_step_that_fails_once_is_made_good_by_the_next_pass(node in nodes::any_node(), said in said()) {
        for kind in KINDS {
            let goal = section(*kind, &said);
            let mut whole = node.clone();
            converge_goal(goal.as_ref(), &mut whole);
            for step in &whole.done {
                let mut node = node.clone();
                node.faults.insert(step.to_string(), "Input/output error".into());
                let told = converge_goal(goal.as_ref(), &mut node);
                prop_assert!(told.iter().any(|one| one.status == Status::Error), "{}", show_outcomes(&told));
                node.faults.clear();
                let told = converge_goal(goal.as_ref(), &mut node);
                let left = drifted(goal.as_ref(), &node);
                prop_assert!(left.is_empty(), "failed: {step}\n{left}{}", show_outcomes(&told));
                same(&node, &whole)?;
            }
        }
    }
}

/// What systemd knows of units, without when they were started.
fn timeless(node: &FakeNode) -> Vec<(&String, UnitSeen)> {
    node.units.iter().map(|(name, unit)| (name, UnitSeen { since_us: 0, ..unit.clone() })).collect()
}

/// Two nodes that nobody could tell apart, but for the order in which things were mounted.
fn same(node: &FakeNode, whole: &FakeNode) -> Result<(), TestCaseError> {
    prop_assert_eq!(&node.owed, &whole.owed);
    prop_assert_eq!(&node.files, &whole.files);
    prop_assert_eq!(&node.sysctls, &whole.sysctls);
    prop_assert_eq!(&node.loaded, &whole.loaded);
    prop_assert_eq!(&node.servers, &whole.servers);
    prop_assert_eq!(&node.insides, &whole.insides);
    prop_assert_eq!(&node.owned, &whole.owned);
    prop_assert_eq!(&node.links, &whole.links);
    prop_assert_eq!(&node.covered, &whole.covered);
    prop_assert_eq!(&node.sockets, &whole.sockets);
    prop_assert_eq!(timeless(node), timeless(whole));
    prop_assert_eq!(&node.slots, &whole.slots);
    prop_assert_eq!(&node.mirrors, &whole.mirrors);
    let at = |node: &FakeNode| node.mounts.iter().map(|one| one.target.clone()).collect::<BTreeSet<_>>();
    prop_assert_eq!(at(node), at(whole));
    prop_assert_eq!(node.mounts.len(), whole.mounts.len());
    Ok(())
}
