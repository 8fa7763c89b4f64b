//! Where a plan for files is put together: what is off, and the steps in an order that can be cut anywhere.
//!
//! First all debts are noted, then the files are written, then each service is reloaded once and its debt settled. A service
//! that does not run needs no reload: it reads its files when it starts.

use super::want::Want;
use super::{Have, Sight, Stop, There, Units, debt, differ, reload};
use evenkeel_core::{
    Drift, Finding, Item, ItemPlan, Layer, Mode, Plan, Section, Step, SystemdVerb, Task, Verdict, Wish,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The items that a service's reload is for.
#[derive(Default)]
struct Due<'a> {
    /// Whose file is written in this pass.
    written: BTreeSet<&'a str>,
    /// Whoever names it and is enforced.
    named: BTreeSet<&'a str>,
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut plan = Plan::default();
    let (mut writes, mut due): (Vec<Task>, BTreeMap<&str, Due>) = Default::default();
    for (name, item) in &section.items {
        let Some(sight) = have.sights.get(name) else { continue };
        let mut told = one(item, sight);
        let (steps, read_again) =
            if item.enforced() { steps(Path::new(name), item, sight, &told.drift) } else { (vec![], false) };
        if let Some(unit) = reload(&item.wish) {
            told.findings.extend(note(unit, &have.units));
            let due = due.entry(unit).or_default();
            if item.enforced() {
                due.named.insert(name);
            }
            if read_again {
                due.written.insert(name);
            }
        }
        writes.extend(steps.into_iter().map(|step| Task::new(name, step)));
        // Nothing to say of what is wished away and gone.
        plan.items.insert(name.clone(), told);
    }
    for unit in &have.owed {
        due.entry(unit).or_default();
    }
    let after =
        due.iter().flat_map(|(unit, due)| pay(unit, due, section.mode, have, &mut plan)).collect::<Vec<_>>();
    let owe = due.iter().filter(|(unit, due)| !due.written.is_empty() && !have.owed.contains(**unit));
    plan.tasks.extend(owe.map(|(unit, due)| task(&due.written, Step::Owe { debt: debt(unit) })));
    plan.tasks.extend(writes);
    plan.tasks.extend(after);
    plan
}

fn task(serves: &BTreeSet<&str>, step: Step) -> Task {
    Task { serves: serves.iter().map(|name| (*name).to_owned()).collect(), step }
}

/// How one file stands.
fn one(item: &Item<Want>, sight: &Sight) -> ItemPlan {
    let mut told = ItemPlan::default();
    let drift = match &item.wish {
        Wish::Absent(_) => gone(sight),
        Wish::Keep(want) => differs(want, sight),
    };
    match &sight.stop {
        None => told.drift = drift,
        // What is wished away and cannot be there is as it should be.
        Some(Stop { waits: true, .. }) if matches!(item.wish, Wish::Absent(_)) => {}
        Some(Stop { waits, reason }) => {
            let verdict = if *waits { Verdict::Pending } else { Verdict::Error };
            told.findings.push(Finding { verdict, reason: reason.clone(), drift: drift.into_iter().next() });
        }
    }
    told
}

fn drift(sight: &Sight, attr: &str, observed: Option<String>, desired: impl Into<String>) -> Drift {
    Drift { attr: attr.into(), layer: Layer::File(sight.real.clone()), observed, desired: desired.into() }
}

fn gone(sight: &Sight) -> Vec<Drift> {
    let there = match &sight.there {
        There::Nothing => return vec![],
        There::File(_) => "there".to_owned(),
        There::Link(to) => format!("a symlink to {}", to.display()),
    };
    vec![drift(sight, "file", Some(there), "absent")]
}

fn differs(want: &Want, sight: &Sight) -> Vec<Drift> {
    let Some(meant) = &sight.meant else { return vec![] };
    let There::File(file) = &sight.there else {
        return match &sight.there {
            There::Nothing => vec![drift(sight, "file", None, "there")],
            _ => vec![],
        };
    };
    let mut off = vec![];
    if file.text != *meant {
        let (old, new) = match &sight.prints {
            Some((old, new)) => (format!("a text of fingerprint {old}"), format!("one of fingerprint {new}")),
            None => differ::tell(file.text.reveal(), meant.reveal()),
        };
        off.push(drift(sight, "content", Some(old), new));
    }
    for (attr, there, said) in [("owner", &file.owner, &want.owner), ("group", &file.group, &want.group)] {
        if let Some(said) = said.as_ref().filter(|said| *said != there) {
            off.push(drift(sight, attr, Some(there.clone()), said.clone()));
        }
    }
    if let Some(bits) = want.bits().filter(|bits| *bits != file.mode & 0o7777) {
        off.push(drift(sight, "mode", Some(format!("{:04o}", file.mode & 0o7777)), format!("{bits:04o}")));
    }
    off
}

/// What puts it right, and whether whoever reads it must read it again. The place is named as it was said: whoever writes
/// there judges every symlink on the way.
fn steps(path: &Path, item: &Item<Want>, sight: &Sight, off: &[Drift]) -> (Vec<Step>, bool) {
    if off.is_empty() {
        return (vec![], false);
    }
    let path = path.to_owned();
    let mut steps = vec![];
    if matches!(sight.there, There::File(_)) {
        steps.push(Step::KeepBefore { path: path.clone() });
    }
    match (&item.wish, &sight.meant) {
        (Wish::Keep(want), Some(text)) => {
            let (owner, group, mode) = (want.owner.clone(), want.group.clone(), want.bits());
            steps.push(Step::PutFile { path, text: text.clone(), owner, group, mode });
        }
        (Wish::Absent(_), _) => steps.push(Step::RemoveFile { path }),
        (Wish::Keep(_), None) => {}
    }
    (steps, off.iter().any(|one| matches!(one.attr.as_str(), "content" | "file")))
}

/// What is worth saying of the service that an item names.
fn note(unit: &str, units: &Units) -> Option<Finding> {
    let reason = match units {
        Units::NoSystemd => format!("no systemd runs here: nobody has {unit} read its files again"),
        Units::Seen(units) if units.get(unit).is_some_and(|unit| unit.load == "not-found") => {
            format!("systemd knows no {unit}, so nothing is reloaded: is its name right?")
        }
        _ => return None,
    };
    Some(Finding { verdict: Verdict::Note, reason, drift: None })
}

/// Whether a service runs, and has what it read once.
fn runs(unit: &str, units: &BTreeMap<String, evenkeel_core::UnitSeen>) -> bool {
    let active = |state: &str| matches!(state, "active" | "reloading" | "refreshing" | "activating");
    units.get(unit).is_some_and(|seen| active(&seen.active))
}

/// The steps that have a service read its files again, where that is due.
fn pay<'a>(unit: &'a str, due: &Due<'a>, mode: Mode, have: &Have, plan: &mut Plan) -> Vec<Task> {
    let owed = have.owed.contains(unit);
    if !owed && due.written.is_empty() {
        return vec![];
    }
    // What nobody enforces any more is told under the service's own name.
    let orphan = due.named.is_empty();
    let serves: BTreeSet<&str> = match (orphan, owed) {
        (true, _) => [unit].into(),
        (false, true) => due.named.clone(),
        (false, false) => due.written.clone(),
    };
    let runs = match &have.units {
        Units::NoSystemd => false,
        Units::Seen(units) => runs(unit, units),
        Units::Unseen(why) => {
            let reason = format!("{unit} must still read its files again: {why}");
            let finding = Finding { verdict: Verdict::Error, reason, drift: None };
            tell(&serves, plan, &|told| told.findings.push(finding.clone()));
            return vec![];
        }
    };
    if owed {
        let owed = Drift {
            attr: "reload".into(),
            layer: Layer::Daemon,
            observed: Some(format!("{unit} has not read its files again")),
            desired: "reloaded".into(),
        };
        tell(&serves, plan, &|told| told.drift.push(owed.clone()));
    }
    if orphan && mode != Mode::Enforce {
        return vec![];
    }
    let reload = runs.then(|| Step::Systemd { verb: SystemdVerb::Reload, unit: unit.to_owned() });
    let settle = Step::Settle { debt: debt(unit) };
    reload.into_iter().chain([settle]).map(|step| task(&serves, step)).collect()
}

fn tell(serves: &BTreeSet<&str>, plan: &mut Plan, say: &dyn Fn(&mut ItemPlan)) {
    for name in serves {
        say(plan.items.entry((*name).to_owned()).or_default());
    }
}
