//! The one loop: observe, plan, act, and look again.
//!
//! It cannot fail: what went wrong is part of what it returns, and one item's trouble stays its own.

use crate::{
    Class, Drift, Fault, Finding, Goal, Mode, Node, Phase, Plan, Sensor, Spec, Status, Task, Verdict,
};
use crate::{ItemPlan, chain};
use std::collections::BTreeMap;

/// How one item stands after a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `kind/name`.
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// Where it failed, with [`Status::Error`].
    pub phase: Option<Phase>,
    /// Why it stands so.
    pub reason: Option<String>,
    /// What is off; with [`Status::Repaired`], what was before it was repaired.
    pub drift: Vec<Drift>,
    /// What was put right although the item is worse than repaired: something else of it is left.
    pub repaired: Vec<Drift>,
    /// Where the spec says it; empty for what it does not say any more.
    pub declared_at: Option<String>,
    /// [`ItemPlan::facts`], of the last look.
    pub facts: BTreeMap<String, String>,
    /// [`ItemPlan::progress`], of the last look.
    pub progress: Option<String>,
}

/// Bring the node to the spec, one kind after another.
pub fn converge(spec: &Spec, node: &mut dyn Node) -> Vec<Outcome> {
    spec.goals.iter().flat_map(|goal| converge_goal(goal.as_ref(), node)).collect()
}

/// Bring one section to what is wanted.
///
/// What acting uncovers, as the owner of a folder that can be seen only once it is mounted, is put right in the same
/// pass by one more round. A second look that asks for the same steps again gets none: somebody undoes them, or they
/// do not help, and either is for the report.
pub fn converge_goal(goal: &dyn Goal, node: &mut dyn Node) -> Vec<Outcome> {
    let mut plan = match goal.plan(node.sensor()) {
        Ok(plan) => plan,
        Err(fault) => return unseen(goal, &fault),
    };
    let mut failed = BTreeMap::new();
    act(goal, &plan, node, &mut failed);
    let mut again = acts(goal, &plan).then(|| goal.plan(node.sensor()));
    if let Some(Ok(second)) = &again
        && uncovers(goal, second, &plan, &failed)
    {
        act(goal, second, node, &mut failed);
        for (name, item) in &second.items {
            let drift = &mut plan.items.entry(name.clone()).or_default().drift;
            merge(drift, item.drift.iter().cloned());
        }
        again = Some(goal.plan(node.sensor()));
    }
    let ids = plan.items.iter().map(|(name, before)| {
        let look = Look { before, again: again.as_ref(), fault: failed.get(name), mode: mode(goal, name) };
        outcome(goal, name, &look)
    });
    ids.collect()
}

/// What a pass would do to one section, doing nothing.
///
/// # Errors
/// As [`crate::Kind::observe`].
pub fn foresee(goal: &dyn Goal, node: &dyn Sensor) -> Result<Plan, Fault> {
    let mut plan = goal.plan(node)?;
    plan.tasks.retain(|task| wanted(goal, task));
    Ok(plan)
}

fn mode(goal: &dyn Goal, name: &str) -> Mode {
    goal.items().get(name).map_or(goal.mode(), |item| item.mode)
}

/// A task runs for the sake of an enforced item only; a kind that plans one for an audited item is held back here.
fn wanted(goal: &dyn Goal, task: &Task) -> bool {
    task.serves.iter().any(|name| mode(goal, name) == Mode::Enforce)
}

fn acts(goal: &dyn Goal, plan: &Plan) -> bool {
    plan.tasks.iter().any(|task| wanted(goal, task))
}

/// Whether a second look asks for a step that the first did not, for an item that has not failed.
fn uncovers(goal: &dyn Goal, second: &Plan, first: &Plan, failed: &BTreeMap<String, Fault>) -> bool {
    let new = |task: &&Task| !first.tasks.iter().any(|old| old.step == task.step);
    let hope = |task: &Task| task.serves.iter().any(|name| !failed.contains_key(name));
    second.tasks.iter().filter(|task| wanted(goal, task)).filter(new).any(hope)
}

fn act(goal: &dyn Goal, plan: &Plan, node: &mut dyn Node, failed: &mut BTreeMap<String, Fault>) {
    for task in plan.tasks.iter().filter(|task| wanted(goal, task)) {
        if !task.step.stands_alone() && task.serves.iter().all(|name| failed.contains_key(name)) {
            continue;
        }
        if let Err(fault) = node.perform(&task.step) {
            for name in &task.serves {
                let same = Fault::new(chain(&fault)).class(fault.class);
                failed.entry(name.clone()).or_insert(same);
            }
        }
    }
}

/// Add what is not there yet.
fn merge(drift: &mut Vec<Drift>, more: impl IntoIterator<Item = Drift>) {
    for one in more {
        if !drift.contains(&one) {
            drift.push(one);
        }
    }
}

struct Look<'a> {
    before: &'a ItemPlan,
    again: Option<&'a Result<Plan, Fault>>,
    fault: Option<&'a Fault>,
    mode: Mode,
}

/// Status, phase and reason of one look, before the worst of them is told.
type Mark = (Status, Option<Phase>, Option<String>);

fn outcome(goal: &dyn Goal, name: &str, look: &Look) -> Outcome {
    let after = match look.again {
        Some(Ok(plan)) => plan.items.get(name),
        Some(Err(_)) => None,
        None => Some(look.before),
    };
    let findings = after.map_or(&look.before.findings[..], |plan| &plan.findings[..]);
    let repair = repair(look, after);
    let came_right = matches!(repair, Some((Status::Repaired, ..)));
    // What came right beside what does not apply here has not made the item compliant.
    let beside = |finding: &Finding| finding.verdict == Verdict::NotApplicable;
    let repair = repair.filter(|_| !(came_right && findings.iter().any(beside)));
    let (status, phase, reason) = worst(repair.into_iter().chain(findings.iter().map(mark)));
    let apart = came_right && status != Status::Repaired;
    // What a finding tells as off was not put right, or not for long.
    let told = |drift: &&Drift| {
        let same = |left: &Drift| left.attr == drift.attr && left.layer == drift.layer;
        findings.iter().filter_map(|finding| finding.drift.as_ref()).any(same)
    };
    let right = look.before.drift.iter().filter(|drift| !told(drift)).cloned().collect();
    let repaired: Vec<Drift> = if apart { right } else { vec![] };
    let mut drift = if apart { vec![] } else { look.before.drift.clone() };
    merge(&mut drift, after.iter().flat_map(|plan| plan.drift.iter().cloned()));
    merge(&mut drift, findings.iter().filter_map(|finding| finding.drift.clone()));
    let origin = goal.items().get(name).map(|item| item.origin.to_string());
    let id = format!("{}/{name}", goal.kind());
    let seen = after.unwrap_or(look.before);
    let (facts, progress) = (seen.facts.clone(), seen.progress.clone());
    Outcome { id, status, phase, reason, drift, repaired, declared_at: origin, facts, progress }
}

/// What became of the drift that steps were to put right; nothing where there was none.
fn repair(look: &Look, after: Option<&ItemPlan>) -> Option<Mark> {
    let still: Vec<&str> =
        after.iter().flat_map(|plan| &plan.drift).map(|drift| drift.attr.as_str()).collect();
    if look.before.drift.is_empty() && still.is_empty() {
        return None;
    }
    if look.mode == Mode::Audit {
        return Some((Status::NonCompliant, None, Some("audit mode: seen, and left as it is".to_owned())));
    }
    if let Some(fault) = look.fault {
        return Some(apply_mark(fault));
    }
    // A connection that was opened during the pass is none that was repaired in vain.
    let was = |attr: &str| look.before.drift.iter().any(|drift| drift.attr == attr);
    match (look.again, after) {
        (Some(Err(fault)), _) => Some((Status::Error, Some(Phase::Verify), Some(chain(fault)))),
        _ if !still.is_empty() && !still.iter().any(|attr| was(attr)) => {
            let why = format!("went off during the pass: {}; the next pass looks again", still.join(", "));
            Some((Status::NonCompliant, None, Some(why)))
        }
        _ if !still.is_empty() => {
            let why = format!("still off after the repair: {}", still.join(", "));
            Some((Status::Error, Some(Phase::Verify), Some(why)))
        }
        _ => Some((Status::Repaired, None, None)),
    }
}

fn apply_mark(fault: &Fault) -> Mark {
    let why = Some(chain(fault));
    match fault.class {
        Class::NotApplicable => (Status::NotApplicable, None, why),
        Class::Waiting => (Status::Pending, None, why),
        Class::Trouble => (Status::Error, Some(Phase::Apply), why),
    }
}

fn mark(finding: &Finding) -> Mark {
    let why = Some(finding.reason.clone());
    match finding.verdict {
        Verdict::NotApplicable => (Status::NotApplicable, None, why),
        Verdict::Note => (Status::Compliant, None, why),
        Verdict::Pending => (Status::Pending, None, why),
        Verdict::NonCompliant => (Status::NonCompliant, None, why),
        Verdict::Error => (Status::Error, Some(Phase::Observe), why),
    }
}

/// The worst mark; its reason, and those of equal rank, joined. A note makes an item nothing: it is compliant with notes
/// alone, and whatever else it is they may speak beside what is no trouble. Nothing at all is compliant.
fn worst(marks: impl Iterator<Item = Mark>) -> Mark {
    let marks: Vec<Mark> = marks.collect();
    let note = |mark: &&Mark| mark.0 == Status::Compliant;
    let status =
        marks.iter().filter(|mark| !note(mark)).map(|mark| mark.0).max().unwrap_or(Status::Compliant);
    let calm = matches!(status, Status::Repaired | Status::NotApplicable);
    let mut reasons: Vec<&str> = vec![];
    let speaks = |mark: &&Mark| mark.0 == status || (calm && note(mark));
    for reason in marks.iter().filter(speaks).filter_map(|mark| mark.2.as_deref()) {
        // Twenty connections may have one reason.
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let phase = marks.iter().filter(|mark| mark.0 == status).find_map(|mark| mark.1);
    (status, phase, (!reasons.is_empty()).then(|| reasons.join("; ")))
}

fn unseen(goal: &dyn Goal, fault: &Fault) -> Vec<Outcome> {
    let (status, phase) = match fault.class {
        Class::NotApplicable => (Status::NotApplicable, None),
        Class::Waiting => (Status::Pending, None),
        Class::Trouble => (Status::Error, Some(Phase::Observe)),
    };
    let one = |(name, item): (&String, &crate::GoalItem)| Outcome {
        id: format!("{}/{name}", goal.kind()),
        status,
        phase,
        reason: Some(chain(fault)),
        drift: vec![],
        repaired: vec![],
        declared_at: Some(item.origin.to_string()),
        facts: BTreeMap::new(),
        progress: None,
    };
    goal.items().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::fake::FakeNode;
    use crate::{AnyKind, Kind, Layer, Origin, RawItem, Section, Step, SysctlKey};
    use std::path::{Path, PathBuf};

    /// A kind of one file and one sysctl per item, with a folder's owner that shows only once the file is there.
    struct Toy;

    fn path(name: &str) -> PathBuf {
        Path::new("/toy").join(name)
    }

    fn folder(name: &str) -> PathBuf {
        path(name).with_extension("d")
    }

    fn key() -> SysctlKey {
        "toy.key".parse().unwrap()
    }

    fn inside(name: &str, node: &dyn Sensor) -> Option<crate::Inside> {
        let within = std::time::Duration::from_secs(1);
        let question =
            crate::FolderQuestion { folder: folder(name), sentinel: None, write: false, within, lasts: None };
        match node.folders(&[question]).pop()? {
            crate::FolderSeen::Answers(inside) => Some(inside),
            _ => None,
        }
    }

    fn off(attr: &str, layer: Layer) -> Drift {
        Drift { attr: attr.into(), layer, observed: None, desired: "so".into() }
    }

    impl Kind for Toy {
        const NAME: &'static str = "toy";
        const SUMMARY: &'static str = "for tests";
        const EXAMPLE: &'static str = "a: {}";
        type Want = BTreeMap<String, bool>;
        type Have = FakeNode;

        fn observe(section: &Section<Self::Want>, node: &dyn Sensor) -> Result<FakeNode, Fault> {
            let mut have = FakeNode::default();
            for name in section.items.keys() {
                let file = node.read(&path(name))?;
                have.files.extend(file.map(|text| (path(name), text)));
                have.insides.extend(inside(name, node).map(|inside| (folder(name), inside)));
            }
            if have.files.values().any(|text| text == "broken") {
                return Err(Fault::new("look at the toy"));
            }
            Ok(have)
        }

        fn plan(section: &Section<Self::Want>, have: &FakeNode) -> Plan {
            let mut plan = Plan::default();
            for (name, want, item) in section.kept() {
                let mut told = ItemPlan::default();
                let file = have.files.get(&path(name));
                if file.is_none() {
                    told.drift.push(off("file", Layer::File(path(name))));
                    let step = Step::WriteFile { path: path(name), text: "so".into(), mode: 0o644 };
                    plan.tasks.push(Task::new(name, step));
                    if want.contains_key("kernel") {
                        told.drift.push(off("value", Layer::Kernel));
                        plan.tasks.push(Task::new(name, Step::SetSysctl { key: key(), value: "so".into() }));
                    }
                } else if want.contains_key("owner")
                    && have.insides[&folder(name)].owner.as_deref() == Some("root")
                {
                    told.drift.push(off("owner", Layer::Mount));
                    let step =
                        Step::Own { path: folder(name), owner: Some("toy".into()), group: None, mode: None };
                    plan.tasks.push(Task::new(name, step));
                } else if want.contains_key("restless") {
                    told.drift.push(off("restless", Layer::Daemon));
                    plan.tasks.push(Task::new(name, Step::Settle { debt: "nothing".into() }));
                }
                if want.contains_key("note") {
                    let (verdict, reason) = (Verdict::Note, "by the way".to_owned());
                    told.findings.push(Finding { verdict, reason, drift: None });
                }
                if want.contains_key("restart") {
                    let (verdict, reason) = (Verdict::Pending, "waits for a restart".to_owned());
                    let drift = Some(off("restart", Layer::Daemon));
                    told.findings.push(Finding { verdict, reason, drift });
                }
                let _ = item;
                plan.items.insert(name.to_owned(), told);
            }
            plan
        }
    }

    fn goal(mode: Mode, items: &[(&str, &[&str])]) -> Box<dyn Goal> {
        let raw = items.iter().map(|(name, words)| {
            let fields = words.iter().map(|word| ((*word).to_owned(), true.into())).collect();
            let origin = Origin { file: "t.yaml".into(), line: 3, path: None };
            let raw = RawItem { fields: serde_json::Value::Object(fields), absent: false, mode, origin };
            ((*name).to_owned(), raw)
        });
        Toy.goal(mode, raw.collect()).unwrap()
    }

    fn told(outcomes: &[Outcome]) -> Vec<(&str, Status, Option<Phase>, Option<&str>)> {
        outcomes.iter().map(|one| (one.id.as_str(), one.status, one.phase, one.reason.as_deref())).collect()
    }

    #[test]
    fn a_note_never_makes_an_item_better_than_it_is() {
        let mark = |status, why: &str| (status, None, Some(why.to_owned()));
        let worst = |marks: &[Mark]| {
            let (status, _, reason) = worst(marks.iter().cloned());
            (status, reason.unwrap_or_default())
        };
        let (note, lacks) = (mark(Status::Compliant, "by the way"), mark(Status::NotApplicable, "no rights"));
        assert_eq!(worst(std::slice::from_ref(&note)), (Status::Compliant, "by the way".into()));
        assert_eq!(
            worst(&[note.clone(), lacks.clone()]),
            (Status::NotApplicable, "by the way; no rights".into())
        );
        let off = mark(Status::NonCompliant, "off");
        assert_eq!(worst(&[note, lacks, off.clone(), off]), (Status::NonCompliant, "off".into()));
        assert_eq!(worst(&[]), (Status::Compliant, String::new()));
    }

    #[test]
    fn a_repair_is_told_only_after_a_second_look_and_notes_speak_beside_it() {
        let mut node = FakeNode::default();
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["note"])]).as_ref(), &mut node);
        assert_eq!(told(&outcomes), [("toy/a", Status::Repaired, None, Some("by the way"))]);
        assert_eq!(outcomes[0].declared_at.as_deref(), Some("t.yaml:3"));
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["note"])]).as_ref(), &mut node);
        assert_eq!(told(&outcomes), [("toy/a", Status::Compliant, None, Some("by the way"))]);
    }

    #[test]
    fn what_a_repair_uncovers_is_put_right_in_the_same_pass() {
        let mut node = FakeNode::default();
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["owner"])]).as_ref(), &mut node);
        assert_eq!(told(&outcomes), [("toy/a", Status::Repaired, None, None)]);
        let attrs: Vec<&str> = outcomes[0].drift.iter().map(|drift| drift.attr.as_str()).collect();
        assert_eq!((attrs, node.done.len()), (vec!["file", "owner"], 2));
    }

    #[test]
    fn what_was_put_right_beside_something_worse_is_told_apart_from_what_is_left() {
        let mut node = FakeNode::default();
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["restart"])]).as_ref(), &mut node);
        assert_eq!(told(&outcomes), [("toy/a", Status::Pending, None, Some("waits for a restart"))]);
        let attrs = |drift: &[Drift]| drift.iter().map(|one| one.attr.clone()).collect::<Vec<_>>();
        assert_eq!(
            (attrs(&outcomes[0].repaired), attrs(&outcomes[0].drift)),
            (vec!["file".into()], vec!["restart".into()])
        );
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["restart"])]).as_ref(), &mut node);
        assert_eq!((outcomes[0].repaired.len(), outcomes[0].drift.len()), (0, 1));
    }

    #[test]
    fn the_same_step_is_not_tried_twice_in_a_pass() {
        let mut node = FakeNode::default();
        node.files.insert(path("a"), "so".into());
        let outcomes = converge_goal(goal(Mode::Enforce, &[("a", &["restless"])]).as_ref(), &mut node);
        let why = Some("still off after the repair: restless");
        assert_eq!(told(&outcomes), [("toy/a", Status::Error, Some(Phase::Verify), why)]);
        assert_eq!(node.done.len(), 1);
    }

    #[test]
    fn a_layer_of_its_own_is_put_right_though_another_failed() {
        let mut node = FakeNode::default();
        node.sysctls.insert(key(), "else".into());
        node.faults.insert("write /toy/a".into(), "Read-only file system".into());
        let outcomes =
            converge_goal(goal(Mode::Enforce, &[("a", &["kernel"]), ("b", &[])]).as_ref(), &mut node);
        let why = Some("write /toy/a: Read-only file system");
        assert_eq!(
            told(&outcomes),
            [("toy/a", Status::Error, Some(Phase::Apply), why), ("toy/b", Status::Repaired, None, None)]
        );
        assert_eq!(node.sysctls[&key()], "so");
    }

    #[test]
    fn audit_mode_tells_and_does_nothing_though_the_kind_plans_a_step() {
        let mut node = FakeNode::default();
        let outcomes = converge_goal(goal(Mode::Audit, &[("a", &[])]).as_ref(), &mut node);
        assert_eq!(outcomes[0].status, Status::NonCompliant);
        assert_eq!((outcomes[0].drift.len(), node.done.len()), (1, 0));
        assert!(foresee(goal(Mode::Audit, &[("a", &[])]).as_ref(), &node).unwrap().tasks.is_empty());
    }

    #[test]
    fn a_look_that_fails_before_or_after_is_told_as_such() {
        let mut node = FakeNode::default();
        node.files.insert(path("b"), "broken".into());
        let outcomes = converge_goal(goal(Mode::Enforce, &[("b", &[])]).as_ref(), &mut node);
        assert_eq!(
            told(&outcomes),
            [("toy/b", Status::Error, Some(Phase::Observe), Some("look at the toy"))]
        );
    }
}
