//! Where a plan for the kernel's parameters is put together.
//!
//! The order of the steps is what a pass that is cut short rests on: a key that left the spec is put back in the kernel
//! before its line leaves the drop-in, because the line is all that is remembered of it. Where one such key cannot be put
//! back, the lines of all of them stay for the next pass.

use super::want::{Goal, Want, number, same};
use super::{DropIn, Have, Live, rules};
use crate::owned::MARKER;
use crate::sysctl_d::{DROP_IN, Said};
use evenkeel_core::{
    Class, Drift, Finding, ItemPlan, Layer, Plan, Step, SysctlKey, SysctlSeen, Task, Verdict,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Whose value in the kernel is told as a fact: the hub compares the two ends of a path.
const KEEPALIVE: [&str; 3] =
    ["net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"];

pub(super) struct Desk<'a> {
    have: &'a Have,
    plan: Plan,
    /// What the drop-in is to say.
    lines: BTreeMap<SysctlKey, String>,
    /// Lines that go once the kernel is put back to what others say.
    leaving: BTreeMap<SysctlKey, String>,
    /// Enforced items, and those of them whose line is off.
    enforced: Vec<String>,
    stale: Vec<String>,
    /// Items that left: those whose line may go at once, and those that wait for the kernel.
    left: Vec<String>,
    restored: Vec<String>,
    /// Parameters to put back before those lines go, and parameters to set after all.
    before: Vec<Step>,
    after: Vec<Task>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(have: &'a Have) -> Self {
        let (plan, lines, leaving) = (Plan::default(), BTreeMap::new(), BTreeMap::new());
        let (enforced, stale, left, restored) = (vec![], vec![], vec![], vec![]);
        let (before, after) = (vec![], vec![]);
        Self { have, plan, lines, leaving, enforced, stale, left, restored, before, after }
    }

    /// An item of the section.
    pub(super) fn keep(&mut self, name: &str, want: &Want, enforced: bool) {
        let mut item = ItemPlan::default();
        let key = name.parse::<SysctlKey>().ok().filter(|key| rules::refused(key).is_none());
        let lacks = |key| matches!(self.have.live[key], Live::Seen(SysctlSeen::Absent));
        if let Some(key) = key.as_ref().filter(|key| want.optional && lacks(key)) {
            let why = format!("this kernel has no {key}, and the spec can do without it");
            item.findings.push(finding(Verdict::NotApplicable, why));
            // A line from a kernel that had it is of use to nobody.
            if let Some(old) = self.have.drop_in.entries().and_then(|entries| entries.get(key)) {
                self.lines.insert(key.clone(), old.clone());
            }
        } else if let (Some(key), Some(goal)) = (&key, want.goal()) {
            if enforced {
                self.enforced.push(name.to_owned());
            }
            self.kernel(name, key, &goal, enforced, &mut item);
            self.file(name, key, &goal, enforced, &mut item);
            self.rivals(key, &goal, &mut item);
        } else {
            let why = format!("{name}: nothing that a spec can ask for; `evenkeel validate` says why");
            item.findings.push(finding(Verdict::Error, why));
        }
        self.plan.items.insert(name.to_owned(), item);
    }

    fn kernel(&mut self, name: &str, key: &SysctlKey, goal: &Goal, enforced: bool, item: &mut ItemPlan) {
        let value = match &self.have.live[key] {
            Live::Seen(SysctlSeen::Value(value)) => value,
            Live::Frozen(value) => {
                let reason =
                    format!("{key} cannot be set here: its tree is mounted read-only, as in a container");
                let drift = Some(drift(Layer::Kernel, Some(spaced(value)), goal.to_string()));
                return item.findings.push(Finding { verdict: Verdict::NotApplicable, reason, drift });
            }
            Live::Seen(SysctlSeen::Absent) => {
                let why =
                    format!("waiting: this kernel has no {key} (yet); it is in {DROP_IN} for when it has");
                return item.findings.push(finding(Verdict::Pending, why));
            }
            Live::Seen(SysctlSeen::Unreadable(why)) => {
                let why = format!("{key} cannot be read back ({why}); only {DROP_IN} is kept");
                return item.findings.push(finding(Verdict::NotApplicable, why));
            }
            Live::Trouble(class, why) => return item.findings.push(finding(verdict(*class), why.clone())),
        };
        if KEEPALIVE.contains(&name) {
            item.facts.insert("kernel".to_owned(), spaced(value));
        }
        if goal.met_by(value) {
            return;
        }
        let Some(target) = target(goal, value) else {
            let why =
                format!("{key} is `{value}`: a range is for a parameter that is one number; say a value");
            return item.findings.push(finding(Verdict::Error, why));
        };
        item.drift.push(drift(Layer::Kernel, Some(spaced(value)), goal.to_string()));
        if enforced {
            self.after.push(Task::new(name, Step::SetSysctl { key: key.clone(), value: target }));
        }
    }

    fn file(&mut self, name: &str, key: &SysctlKey, goal: &Goal, enforced: bool, item: &mut ItemPlan) {
        if let DropIn::Barred(why) = &self.have.drop_in {
            return item.findings.push(finding(Verdict::Error, why.clone()));
        }
        let old = self.have.drop_in.entries().and_then(|entries| entries.get(key));
        let Some(new) = self.boot_value(key, goal, old) else {
            self.lines.extend(old.map(|old| (key.clone(), old.clone())));
            return;
        };
        let right = old.is_some_and(|old| same(old, &new));
        if !right {
            item.drift.push(drift(Layer::File(DROP_IN.into()), old.cloned(), new.clone()));
        }
        if !right && enforced {
            self.stale.push(name.to_owned());
            self.lines.insert(key.clone(), new);
        } else {
            self.lines.extend(old.map(|old| (key.clone(), old.clone())));
        }
    }

    /// What the drop-in should say of a key. A range must not cut down what others set, or what the kernel comes up
    /// with: theirs counts first, then what we wrote before, then what is in force, each brought into the range.
    fn boot_value(&self, key: &SysctlKey, goal: &Goal, old: Option<&String>) -> Option<String> {
        let range = match goal {
            Goal::Exactly(value) => return Some((*value).to_owned()),
            Goal::Within(range) => range,
        };
        let live = match self.have.live[key].value() {
            Some(value) => Some(number(value)?),
            None => None,
        };
        let others = self.have.boot.others(key).and_then(|said| number(said.value?));
        let ours = old.and_then(|old| number(old)).filter(|&n| range.clamp(n) == n);
        let base = others.or(ours).or(live).unwrap_or_else(|| range.bound());
        Some(range.clamp(base).to_string())
    }

    /// Who else would win, and what to do about it.
    fn rivals(&self, key: &SysctlKey, goal: &Goal, item: &mut ItemPlan) {
        let off = |said: &Said| !said.value.is_some_and(|value| goal.met_by(value));
        if let Some(said) = self.have.boot.over_us(key).filter(off) {
            let what = said.value.map_or_else(|| "leaves it out".to_owned(), |value| format!("says {value}"));
            let reason = format!(
                "{said} {what} and is read after {DROP_IN}: so the next boot starts, until evenkeel puts it right; \
                 change or remove that line"
            );
            let drift = drift(Layer::File(said.path.into()), said.value.map(str::to_owned), goal.to_string());
            item.findings.push(Finding { verdict: Verdict::NonCompliant, reason, drift: Some(drift) });
        }
        if let Some(said) = self.have.boot.procps(key).filter(off) {
            let (verdict, who) = if self.have.systemd {
                (
                    Verdict::Note,
                    "`sysctl --system` and `sysctl -p` would set it, systemd does not read that file",
                )
            } else {
                (Verdict::NonCompliant, "`sysctl --system` reads that file last, at boot too")
            };
            let value = said.value.unwrap_or_default();
            item.findings
                .push(finding(verdict, format!("{said} says {value}: {who}; change or remove that line")));
        }
        for why in &self.have.boot.blind {
            let why = format!("who wins at the next boot is not wholly known: {why}");
            item.findings.push(finding(Verdict::Note, why));
        }
    }

    /// A key that the drop-in still says and the section does not.
    pub(super) fn leave(&mut self, name: &str, key: &SysctlKey, line: &str, enforced: bool) {
        let mut item = ItemPlan::default();
        item.drift.push(drift(Layer::File(DROP_IN.into()), Some(line.to_owned()), "absent".into()));
        let others = self.have.boot.others(key).and_then(|said| said.value);
        if let Some(live) = self.have.live[key].value() {
            match others {
                Some(value) if same(value, live) || rules::refused(key).is_some() => {}
                Some(value) => {
                    item.drift.push(drift(Layer::Kernel, Some(spaced(live)), value.to_owned()));
                    if enforced {
                        let step = Step::SetSysctl { key: key.clone(), value: value.to_owned() };
                        self.before.push(step);
                        self.restored.push(name.to_owned());
                        self.leaving.insert(key.clone(), line.to_owned());
                    }
                }
                None => item.findings.push(finding(
                    Verdict::Note,
                    format!(
                        "left the spec, and no other file in sysctl.d says anything: {} until the next boot",
                        spaced(live)
                    ),
                )),
            }
        }
        if enforced && !self.leaving.contains_key(key) {
            self.left.push(name.to_owned());
        } else if !enforced {
            self.lines.insert(key.clone(), line.to_owned());
        }
        self.plan.items.insert(name.to_owned(), item);
    }

    pub(super) fn finish(mut self) -> Plan {
        self.edited();
        let mut first = self.stale;
        first.append(&mut self.left);
        if !first.is_empty() {
            let mut lines = self.lines.clone();
            lines.append(&mut self.leaving.clone());
            self.plan.tasks.push(Task { serves: first, step: write(&lines) });
        }
        let serves = || self.restored.clone();
        self.plan.tasks.extend(self.before.drain(..).map(|step| Task { serves: serves(), step }));
        if !self.restored.is_empty() {
            self.plan.tasks.push(Task { serves: serves(), step: write(&self.lines) });
        }
        self.plan.tasks.append(&mut self.after);
        self.plan
    }

    /// The drop-in says the right things and not in our words: somebody has edited it.
    fn edited(&mut self) {
        let DropIn::Ours(_, text) = &self.have.drop_in else { return };
        let settled = self.stale.is_empty() && self.left.is_empty() && self.restored.is_empty();
        if !settled || self.lines.is_empty() || *text == render(&self.lines) {
            return;
        }
        for name in &self.enforced {
            let attr = "drop-in".to_owned();
            let observed = Some("edited by hand".to_owned());
            let layer = Layer::File(DROP_IN.into());
            let drift = Drift { attr, layer, observed, desired: "as evenkeel writes it".into() };
            self.plan.items.entry(name.clone()).or_default().drift.push(drift);
        }
        self.stale.clone_from(&self.enforced);
    }
}

/// What to set in the kernel; `None` where a range meets a value that is no number.
fn target(goal: &Goal, live: &str) -> Option<String> {
    match goal {
        Goal::Exactly(value) => Some((*value).to_owned()),
        Goal::Within(range) => number(live).map(|n| range.clamp(n).to_string()),
    }
}

/// The drop-in with these lines; without any there is none.
fn write(lines: &BTreeMap<SysctlKey, String>) -> Step {
    if lines.is_empty() {
        return Step::RemoveFile { path: DROP_IN.into() };
    }
    Step::WriteFile { path: DROP_IN.into(), text: render(lines), mode: 0o644 }
}

fn render(lines: &BTreeMap<SysctlKey, String>) -> String {
    let mut text = format!("{MARKER}\n");
    for (key, value) in lines {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

/// A value with one blank between its words, where the kernel has tabs.
fn spaced(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn drift(layer: Layer, observed: Option<String>, desired: String) -> Drift {
    Drift { attr: "value".into(), layer, observed, desired }
}

fn finding(verdict: Verdict, reason: String) -> Finding {
    Finding { verdict, reason, drift: None }
}

fn verdict(class: Class) -> Verdict {
    match class {
        Class::NotApplicable => Verdict::NotApplicable,
        Class::Waiting => Verdict::Pending,
        Class::Trouble => Verdict::Error,
    }
}
