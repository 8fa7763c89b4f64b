//! `evenkeel plan`: what a pass would find and do here, section by section, item by item, layer by layer. It looks and
//! changes nothing.

use super::load::{self, Default};
use super::{Ending, Format, OFF, SpecArgs, WRONG, paint};
use crate::run::ConfigPlace;
use evenkeel_core::{Drift, Fault, Finding, Goal, Mode, Plan, Sensor, Step, Verdict, chain, foresee};
use evenkeel_host::Host;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `evenkeel plan`.
pub(super) fn plan(place: &ConfigPlace, args: &SpecArgs, format: Format) -> Ending {
    let config = load::config(place)?;
    let (spec, commit) = load::spec(&config, args, Default::LastGood)?;
    let host = Host::new(config.run_dir.clone())
        .keeping(config.state_dir.clone())
        .mirroring(config.state_dir.clone(), config.ssh_known_hosts.clone());
    host.set_tier(&spec.identity.tier);
    let sections: Vec<Section> = spec
        .goals
        .iter()
        .map(|goal| Section { goal: goal.as_ref(), plan: foresee(goal.as_ref(), &host) })
        .collect();
    let code = sections.iter().map(Section::code).max_by_key(|code| (*code == WRONG, *code)).unwrap_or(0);
    match format {
        Format::Json => {
            let sections: Vec<Value> = sections.iter().map(Section::json).collect();
            let whole = json!({
                "node": spec.identity.name, "tier": spec.identity.tier, "commit": commit, "even": code == 0,
                "sections": sections,
            });
            paint::json(&whole, code)
        }
        Format::Text => {
            let mut text = String::new();
            let mut count = Count::default();
            for section in &sections {
                section.write(&mut text, &mut count, &host);
            }
            let at = crate::enforce::standing::short(&commit);
            let _ = writeln!(text, "{}", count.sentence(&spec.identity.name, at));
            paint::text(&text, code)
        }
    }
}

/// One section and what a pass would do to it.
struct Section<'a> {
    goal: &'a dyn Goal,
    plan: Result<Plan, Fault>,
}

#[derive(Default)]
struct Count {
    change: usize,
    off: usize,
    even: usize,
    error: usize,
    unseen: usize,
}

impl Count {
    fn sentence(&self, node: &str, commit: &str) -> String {
        if self.change + self.off + self.error + self.unseen == 0 {
            return paint::good(&format!(
                "{node} is even: {} items at {commit}, nothing would change",
                self.even
            ));
        }
        let mut parts = vec![format!("{} would change", self.change)];
        if self.off > 0 {
            parts.push(format!("{} off and left as found", self.off));
        }
        if self.error > 0 {
            parts.push(format!("{} in error", self.error));
        }
        if self.unseen > 0 {
            parts.push(format!("{} could not be looked at", self.unseen));
        }
        parts.push(format!("{} even", self.even));
        format!("{} at {commit}: {}", paint::name(node), parts.join(", "))
    }
}

fn open(finding: &Finding) -> bool {
    finding.verdict >= Verdict::Pending
}

impl Section<'_> {
    fn mode(&self, name: &str) -> Mode {
        self.goal.items().get(name).map_or(self.goal.mode(), |item| item.mode)
    }

    fn code(&self) -> u8 {
        let Ok(plan) = &self.plan else {
            let excused =
                matches!(&self.plan, Err(fault) if fault.class == evenkeel_core::Class::NotApplicable);
            return if self.goal.items().is_empty() || excused { 0 } else { WRONG };
        };
        let findings = || plan.items.values().flat_map(|item| &item.findings);
        if findings().any(|finding| finding.verdict == Verdict::Error) {
            return WRONG;
        }
        let off = findings().any(open) || plan.items.values().any(|item| !item.drift.is_empty());
        if off { OFF } else { 0 }
    }

    fn declared_at(&self, name: &str) -> Option<String> {
        self.goal.items().get(name).map(|item| item.origin.to_string())
    }

    fn json(&self) -> Value {
        let kind = self.goal.kind();
        let plan = match &self.plan {
            Ok(plan) => plan,
            Err(fault) => return json!({"kind": kind, "error": chain(fault)}),
        };
        let items: Vec<Value> = plan
            .items
            .iter()
            .map(|(name, item)| {
                let finding = |finding: &Finding| {
                    json!({"verdict": verdict(finding.verdict), "reason": finding.reason, "drift": finding.drift})
                };
                json!({
                    "id": format!("{kind}/{name}"), "mode": self.mode(name), "declared_at": self.declared_at(name),
                    "drift": item.drift, "findings": item.findings.iter().map(finding).collect::<Vec<_>>(),
                })
            })
            .collect();
        let step = |task: &evenkeel_core::Task| {
            let ids: Vec<String> = task.serves.iter().map(|name| format!("{kind}/{name}")).collect();
            json!({"step": task.step.to_string(), "items": ids})
        };
        json!({"kind": kind, "items": items, "steps": plan.tasks.iter().map(step).collect::<Vec<_>>()})
    }

    fn write(&self, text: &mut String, count: &mut Count, host: &Host) {
        let kind = self.goal.kind();
        let plan = match &self.plan {
            Ok(plan) => plan,
            Err(_) if self.goal.items().is_empty() => return,
            Err(fault) => {
                count.unseen += self.goal.items().len();
                let _ = writeln!(text, "{}  {}\n", paint::name(kind), paint::bad(&plain(&chain(fault))));
                return;
            }
        };
        for (name, item) in &plan.items {
            let off = item.findings.iter().any(open);
            let error = item.findings.iter().any(|finding| finding.verdict == Verdict::Error);
            match (item.drift.is_empty(), self.mode(name)) {
                (false, Mode::Enforce) => count.change += 1,
                (false, Mode::Audit) => count.off += 1,
                (true, _) if error => count.error += 1,
                (true, _) if off => count.off += 1,
                (true, _) => count.even += 1,
            }
            if item.drift.is_empty() && item.findings.is_empty() {
                continue;
            }
            let audit = if self.mode(name) == Mode::Audit { "  (audit: only told)" } else { "" };
            let at = self.declared_at(name).unwrap_or_else(|| "no longer in the spec".to_owned());
            let id = paint::name(&plain(&format!("{kind}/{name}")));
            let _ = writeln!(text, "{id}  {}", paint::aside(&format!("{at}{audit}")));
            item.drift.iter().for_each(|drift| write_drift(text, drift));
            item.findings.iter().for_each(|finding| write_finding(text, finding));
        }
        if !plan.tasks.is_empty() {
            let _ = writeln!(text, "{}", paint::aside(&format!("steps for {kind}:")));
        }
        let mut alike = 0;
        for task in &plan.tasks {
            // Five hundred connections are five hundred steps; nobody reads them all.
            alike += usize::from(of_a_connection(&task.step));
            if alike > CONNECTIONS && of_a_connection(&task.step) {
                continue;
            }
            let _ = writeln!(text, "  → {}", plain(&task.step.to_string()));
            write_file_diff(text, &task.step, host);
        }
        if alike > CONNECTIONS {
            let _ = writeln!(text, "  → and so on for {} more connections", alike - CONNECTIONS);
        }
        if text.ends_with('\n') && !plan.tasks.is_empty() {
            text.push('\n');
        }
    }
}

/// The most steps that are printed of those that each concern one connection.
const CONNECTIONS: usize = 5;

fn of_a_connection(step: &Step) -> bool {
    matches!(step, Step::TuneSocket { .. } | Step::FreeSocket { .. })
}

/// A verdict as programs read it: the words of a report, and `note`.
fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotApplicable => "not_applicable",
        Verdict::Note => "note",
        Verdict::Pending => "pending",
        Verdict::NonCompliant => "non_compliant",
        Verdict::Error => "error",
    }
}

fn plain(text: &str) -> String {
    crate::log::plain(text)
}

fn write_drift(text: &mut String, drift: &Drift) {
    let _ = writeln!(text, "  {} {}", plain(&drift.layer.to_string()), paint::aside(&plain(&drift.attr)));
    let observed = drift.observed.as_deref().map_or_else(|| "(nothing)".to_owned(), plain);
    let _ = writeln!(text, "    {}", paint::bad(&format!("- {observed}")));
    let _ = writeln!(text, "    {}", paint::good(&format!("+ {}", plain(&drift.desired))));
}

fn write_finding(text: &mut String, finding: &Finding) {
    let word = match finding.verdict {
        Verdict::NotApplicable => paint::aside("not applicable"),
        Verdict::Note => paint::aside("note"),
        Verdict::Pending => paint::warn("pending"),
        Verdict::NonCompliant => paint::bad("off, left as found"),
        Verdict::Error => paint::bad("error"),
    };
    let _ = writeln!(text, "  {word}: {}", plain(&finding.reason));
    finding.drift.iter().for_each(|drift| write_drift(text, drift));
}

/// What a whole file would become, line by line.
fn write_file_diff(text: &mut String, step: &Step, host: &Host) {
    let Step::WriteFile { path, text: after, .. } = step else { return };
    let before = host.read(path).ok().flatten().unwrap_or_default();
    let diff = similar::TextDiff::from_lines(before.as_str(), after.as_str());
    for group in diff.grouped_ops(1) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = plain(change.value().trim_end_matches('\n'));
            let line = match change.tag() {
                similar::ChangeTag::Delete => paint::bad(&format!("- {line}")),
                similar::ChangeTag::Insert => paint::good(&format!("+ {line}")),
                similar::ChangeTag::Equal => paint::aside(&format!("  {line}")),
            };
            let _ = writeln!(text, "      {line}");
        }
    }
}
