//! What the tests of the kinds share: reading a section, and a starting node from a text.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests; each test binary uses a part")]

pub mod node;
pub mod nodes;

use evenkeel_core::{AnyKind, Goal, ItemPlan, Mode, Origin, Outcome, Plan, RawItem};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A section's text as items by name. `mode: audit|enforce` and `absent` are taken out, as the spec's reader does.
pub fn items(kind: &dyn AnyKind, text: &str, mode: Mode) -> BTreeMap<String, RawItem> {
    let section: Map<String, Value> = serde_yaml::from_str(text).unwrap();
    let items = section.into_iter().zip(1u32..).map(|((name, value), line)| {
        let raw = item(kind, value, mode, line);
        (name, raw)
    });
    items.collect()
}

fn item(kind: &dyn AnyKind, value: Value, mode: Mode, line: u32) -> RawItem {
    let mut fields = match value {
        Value::Object(fields) => fields,
        scalar => Map::from_iter([(kind.shorthand().unwrap().to_owned(), scalar)]),
    };
    let own = fields.get("mode").and_then(Value::as_str).and_then(|word| match word {
        "audit" => Some(Mode::Audit),
        "enforce" => Some(Mode::Enforce),
        _ => None,
    });
    if own.is_some() {
        fields.remove("mode");
    }
    let absent = fields.remove("absent") == Some(Value::Bool(true));
    let origin = Origin { file: "tiers/test.yaml".into(), line, path: None };
    RawItem { fields: Value::Object(fields), absent, mode: own.unwrap_or(mode), origin }
}

/// A section's text as a goal.
pub fn goal(kind: &dyn AnyKind, text: &str, mode: Mode) -> Box<dyn Goal> {
    kind.goal(mode, items(kind, text, mode)).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// A plan as people would read it.
pub fn show_plan(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, ItemPlan { drift, findings, .. }) in &plan.items {
        let _ = writeln!(text, "{name}");
        for one in drift {
            let observed = one.observed.as_deref().unwrap_or("nothing");
            let _ = writeln!(text, "  drift {} [{}]: {observed} -> {}", one.attr, one.layer, one.desired);
        }
        for one in findings {
            let _ = writeln!(text, "  {:?}: {}", one.verdict, one.reason);
            if let Some(one) = &one.drift {
                let observed = one.observed.as_deref().unwrap_or("nothing");
                let _ = writeln!(text, "    {} [{}]: {observed} -> {}", one.attr, one.layer, one.desired);
            }
        }
    }
    for task in &plan.tasks {
        let _ = writeln!(text, "step {} (for {})", task.step, task.serves.join(", "));
        if let evenkeel_core::Step::WriteFile { text: body, .. } = &task.step {
            body.lines().for_each(|line| {
                let _ = writeln!(text, "  | {line}");
            });
        }
    }
    text
}

/// Outcomes as people would read them.
pub fn show_outcomes(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for one in outcomes {
        let phase = one.phase.map(|phase| format!(" while {phase:?}")).unwrap_or_default();
        let reason = one.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(text, "{} {}{phase}{reason}", one.id, one.status);
        one.facts.iter().for_each(|(name, value)| {
            let _ = writeln!(text, "  fact {name} {value}");
        });
    }
    text
}
