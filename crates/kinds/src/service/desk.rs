//! Where a plan for the units is put together.
//!
//! The order of the steps: what systemd has not read, what starts at boot, what stops, what starts, and last of all what
//! is restarted, with a slot of the fleet taken before and given back only after a second look has seen all of it run.

use super::want::{Restart, Want, When};
use super::{HOLDER, Have, Owed, restart_debt, rules, slot_debt};
use evenkeel_core::{
    Drift, Finding, ItemPlan, Layer, Plan, Section, Step, SystemdVerb, Task, UnitSeen, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// Steps, by when they come.
#[derive(Default)]
struct Desk {
    plan: Plan,
    before_reload: Vec<Step>,
    /// Units whose files systemd has to read again.
    stale: Vec<String>,
    boot: Vec<Task>,
    stop: Vec<Task>,
    start: Vec<Task>,
    /// Restarts by the group whose slot they take.
    restart: BTreeMap<Option<String>, Vec<Task>>,
    settle: Vec<Task>,
    /// Groups whose slot is still needed.
    needed: BTreeSet<String>,
}

/// One item while it is being planned.
struct Bench<'a> {
    name: &'a str,
    want: &'a Want,
    unit: &'a UnitSeen,
    enforced: bool,
    item: ItemPlan,
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut desk = Desk::default();
    for (name, want, item) in section.kept() {
        let planned = match have.units.as_ref().map(|units| units.get(name)) {
            None => not_here(),
            Some(None) => ItemPlan::default(),
            Some(Some(unit)) => {
                let item_plan = ItemPlan::default();
                let mut bench = Bench { name, want, unit, enforced: item.enforced(), item: item_plan };
                desk.keep(&mut bench, have);
                bench.item
            }
        };
        desk.plan.items.insert(name.to_owned(), planned);
    }
    desk.leave(section, have);
    desk.finish()
}

fn not_here() -> ItemPlan {
    let reason = "systemd is not the service manager here".to_owned();
    let finding = Finding { verdict: Verdict::NotApplicable, reason, drift: None };
    ItemPlan { findings: vec![finding], ..ItemPlan::default() }
}

fn drift(attr: &str, observed: impl Into<String>, desired: &str) -> Drift {
    Drift {
        attr: attr.to_owned(),
        layer: Layer::Unit,
        observed: Some(observed.into()),
        desired: desired.to_owned(),
    }
}

fn systemd(verb: SystemdVerb, unit: &str) -> Step {
    Step::Systemd { verb, unit: unit.to_owned() }
}

impl Bench<'_> {
    fn find(&mut self, verdict: Verdict, reason: String) {
        self.item.findings.push(Finding { verdict, reason, drift: None });
    }

    /// It does not run as it should, and starting it now would be of no use.
    fn tell(&mut self, reason: String, observed: &str) {
        let drift = Some(drift("active", observed, "active"));
        self.item.findings.push(Finding { verdict: Verdict::NonCompliant, reason, drift });
    }

    /// Something is off, and steps would put it right.
    fn off(&mut self, drift: Drift, to: &mut Vec<Task>, steps: impl IntoIterator<Item = Step>) {
        self.item.drift.push(drift);
        if self.enforced {
            to.extend(steps.into_iter().map(|step| Task::new(self.name, step)));
        }
    }

    fn runs(&self) -> bool {
        matches!(self.unit.active.as_str(), "active" | "reloading")
    }

    fn flaps(&self) -> bool {
        self.unit.sub == "auto-restart" || (self.runs() && self.unit.restarts > 0 && self.unit.fresh)
    }

    /// Whether it should run, and does not or not for long.
    fn broken(&self) -> bool {
        self.want.active == Some(true) && (!self.runs() || self.flaps())
    }

    /// What it said last, for the end of a sentence.
    fn last_words(&self) -> String {
        if self.unit.last_lines.is_empty() {
            return String::new();
        }
        format!("; it said last: {}", self.unit.last_lines.join(" | "))
    }

    /// Whether it may be stopped. An alias may lead to a unit that bears another name in its file.
    fn is_protected(&self) -> bool {
        let file = self.unit.fragment.rsplit('/').next().unwrap_or_default();
        [self.name, file].iter().any(|name| rules::is_barred(name) || rules::is_way_in(name))
    }
}

impl Desk {
    fn keep(&mut self, bench: &mut Bench, have: &Have) {
        let name = bench.name;
        match bench.unit.load.as_str() {
            "not-found" => bench.find(Verdict::Pending, format!("waiting: systemd knows no unit {name}")),
            "masked" => self.masked(bench),
            "loaded" => self.loaded(bench, have),
            word => {
                let why = format!(
                    "systemd cannot use the unit's file {} ({word}); `systemd-analyze verify {name}` says why",
                    bench.unit.fragment
                );
                bench.find(Verdict::NonCompliant, why);
            }
        }
    }

    fn masked(&mut self, bench: &mut Bench) {
        if bench.want.active == Some(true) || bench.want.enabled == Some(true) {
            let why = format!(
                "{0} is masked: somebody has said that it must not start; `systemctl unmask {0}` takes that back",
                bench.name
            );
            bench.find(Verdict::NonCompliant, why);
        }
        self.stopped(bench);
    }

    fn loaded(&mut self, bench: &mut Bench, have: &Have) {
        let stale = bench.unit.need_daemon_reload;
        if stale {
            self.read_again(bench);
        }
        self.boot(bench);
        self.started(bench);
        self.stopped(bench);
        let owed = have.restarts.get(bench.name);
        let due = owed == Some(&Owed::Due) || (stale && bench.enforced);
        if due && bench.runs() && bench.want.active != Some(false) {
            self.restart(bench, have);
        } else if owed.is_some() {
            // It was started since, is about to be, or does not run at all.
            let step = Step::Settle { debt: restart_debt(bench.name) };
            bench.off(drift("restart", "owed", "done"), &mut self.settle, [step]);
        } else if have.reloads.contains(bench.name) {
            bench.find(Verdict::Note, "files that it reads have changed, and it is owed a reload".to_owned());
        }
        self.need(bench, have);
    }

    /// systemd has not read what the unit's files say by now. One that runs was started by what they said before.
    fn read_again(&mut self, bench: &mut Bench) {
        bench.item.drift.push(drift(
            "daemon-reload",
            "its files are newer than what systemd has read",
            "read",
        ));
        if !bench.enforced {
            return;
        }
        if bench.runs() {
            self.before_reload.push(Step::Owe { debt: restart_debt(bench.name) });
        }
        self.stale.push(bench.name.to_owned());
    }

    fn boot(&mut self, bench: &mut Bench) {
        let state = bench.unit.file_state.as_str();
        let (verb, desired) = match bench.want.enabled {
            Some(true) if state != "enabled" => (SystemdVerb::Enable, "enabled"),
            Some(false) if state.starts_with("enabled") => (SystemdVerb::Disable, "disabled"),
            _ => return,
        };
        match state {
            "disabled" | "enabled" | "enabled-runtime" | "linked"
                if verb == SystemdVerb::Disable && bench.is_protected() => {}
            "disabled" | "enabled" | "enabled-runtime" | "linked" => {
                let step = systemd(verb, bench.name);
                bench.off(drift("enabled", state, desired), &mut self.boot, [step]);
            }
            "generated" | "transient" => {
                let why = format!("whether it starts at boot is not systemd's to say: its unit is {state}");
                bench.find(Verdict::Note, why);
            }
            _ => {
                let why = format!(
                    "{} cannot be enabled: its unit is {state}, and is started by others; leave `enabled` out, or name \
                     the unit that can be",
                    bench.name
                );
                bench.find(Verdict::NonCompliant, why);
            }
        }
    }

    fn started(&mut self, bench: &mut Bench) {
        if bench.want.active == Some(false) {
            return;
        }
        if bench.flaps() {
            let why = format!(
                "{} ends again and again, and systemd starts it again{}",
                bench.name,
                bench.last_words()
            );
            return bench.tell(why, "ends again and again");
        }
        if bench.want.active != Some(true) {
            return;
        }
        let (name, result) = (bench.name, bench.unit.result.as_str());
        let last_words = bench.last_words();
        match bench.unit.active.as_str() {
            "active" | "reloading" => {}
            "activating" => bench.find(Verdict::Pending, format!("{name} is being started")),
            "deactivating" => bench.find(Verdict::Pending, format!("{name} is being stopped")),
            "failed" if result == "start-limit-hit" => {
                let why = format!(
                    "{name} failed so often that systemd starts it no more; once it is mended, `systemctl reset-failed \
                     {name}` lets it start again{last_words}"
                );
                bench.tell(why, &format!("failed ({result})"));
            }
            "failed" if bench.unit.hold_off => {
                let why = format!(
                    "{name} failed ({result}) shortly after it was started; it is started again after a pause{last_words}"
                );
                bench.tell(why, &format!("failed ({result})"));
            }
            state => {
                let observed = if state == "failed" {
                    format!("failed ({result}){last_words}")
                } else {
                    state.to_owned()
                };
                bench.off(
                    drift("active", observed, "active"),
                    &mut self.start,
                    [systemd(SystemdVerb::Start, name)],
                );
            }
        }
    }

    fn stopped(&mut self, bench: &mut Bench) {
        if bench.want.active != Some(false) {
            return;
        }
        match bench.unit.active.as_str() {
            "inactive" | "failed" => {}
            "deactivating" => bench.find(Verdict::Pending, format!("{} is being stopped", bench.name)),
            _ if bench.is_protected() => {
                let why = format!("{} is {}, which is never stopped", bench.name, bench.unit.fragment);
                bench.find(Verdict::NonCompliant, why);
            }
            state => {
                let step = systemd(SystemdVerb::Stop, bench.name);
                bench.off(drift("active", state, "inactive"), &mut self.stop, [step]);
            }
        }
    }

    /// It runs and owes a restart: now, later, or by a person's hand.
    fn restart(&mut self, bench: &mut Bench, have: &Have) {
        let name = bench.name;
        let none = When::default();
        let when = match &bench.want.restart {
            _ if bench.is_protected() => return bench.find(Verdict::Pending, by_hand(name)),
            Restart::Never => return bench.find(Verdict::Pending, by_hand(name)),
            Restart::Allowed => &none,
            Restart::When(when) => when,
        };
        if let Some(window) = when.window.as_ref().filter(|window| !window.contains(have.now)) {
            let why = format!("{name} owes a restart, which waits for its window {window} (UTC)");
            return bench.find(Verdict::Pending, why);
        }
        let group = bench.want.group(have.tier.as_deref()).map(str::to_owned);
        if group.is_none() && when.slot.as_ref().is_some_and(|slot| *slot != super::Slot::Tier(false)) {
            let why = format!("{name} owes a restart, and nobody has said which tier's slot it takes");
            return bench.find(Verdict::Pending, why);
        }
        if let Some(group) = group.as_ref().filter(|_| bench.enforced) {
            self.needed.insert(group.clone());
        }
        let steps = [systemd(SystemdVerb::Restart, name), Step::Settle { debt: restart_debt(name) }];
        bench.off(drift("restart", "owed", "done"), self.restart.entry(group).or_default(), steps);
    }

    /// A node whose unit does not come up again keeps its slot on purpose: nobody else goes down too.
    fn need(&mut self, bench: &mut Bench, have: &Have) {
        let Some(group) = bench.want.group(have.tier.as_deref()).filter(|_| bench.enforced) else { return };
        let granted = have.slots.get(group) == Some(&true);
        let undone =
            bench.item.drift.iter().any(|drift| drift.attr == "restart") && self.needed.contains(group);
        if granted && (bench.broken() || undone) {
            let why = format!(
                "this node keeps the slot of {group} until {} runs again, so that no other node goes down too",
                bench.name
            );
            bench.find(Verdict::Error, why);
            self.needed.insert(group.to_owned());
        }
    }

    /// Give back every slot that nothing needs any more.
    fn leave(&mut self, section: &Section<Want>, have: &Have) {
        for group in have.slots.keys().filter(|group| !self.needed.contains(*group)) {
            let its = |want: &Want| want.group(have.tier.as_deref()) == Some(group);
            let mut all = section.kept().filter(|(_, want, item)| its(want) && item.enforced());
            let Some((name, ..)) = all.next() else { continue };
            let Some(item) = self.plan.items.get_mut(name) else { continue };
            item.drift.push(drift("slot", format!("noted for {group}"), "given back"));
            let steps = [
                Step::LeaveSlot { group: group.clone(), holder: HOLDER.into() },
                Step::Settle { debt: super::granted_debt(group) },
                Step::Settle { debt: slot_debt(group) },
            ];
            self.settle.extend(steps.map(|step| Task::new(name, step)));
        }
    }

    fn finish(mut self) -> Plan {
        let tasks = &mut self.plan.tasks;
        // Where one note cannot be made nothing is read again: what it would have noted could not be known any more.
        let stale = || self.stale.clone();
        tasks.extend(self.before_reload.drain(..).map(|step| Task { serves: stale(), step }));
        if !self.stale.is_empty() {
            tasks.push(Task { serves: self.stale, step: systemd(SystemdVerb::DaemonReload, "") });
        }
        for some in [&mut self.boot, &mut self.stop, &mut self.start] {
            tasks.append(some);
        }
        for (group, mut restarts) in self.restart {
            if let Some(group) = group.filter(|_| !restarts.is_empty()) {
                let serves: BTreeSet<String> = restarts.iter().flat_map(|task| task.serves.clone()).collect();
                let serves: Vec<String> = serves.into_iter().collect();
                let steps = [
                    Step::Owe { debt: slot_debt(&group) },
                    Step::TakeSlot { group: group.clone(), holder: HOLDER.into() },
                    Step::Owe { debt: super::granted_debt(&group) },
                ];
                tasks.extend(steps.map(|step| Task { serves: serves.clone(), step }));
            }
            tasks.append(&mut restarts);
        }
        tasks.append(&mut self.settle);
        self.plan
    }
}

fn by_hand(name: &str) -> String {
    format!(
        "{name} runs with what it read before its files changed, and owes a restart: `systemctl restart {name}` when \
         that suits, or let the spec do it with `restart:`"
    )
}
