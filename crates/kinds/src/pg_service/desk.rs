//! Where a plan for libpq's service file is put together.

use super::want::{self, Want};
use super::{FILE, File, Have};
use crate::owned::MARKER;
use evenkeel_core::{Drift, Finding, ItemPlan, Layer, Mode, Plan, Section, Step, Task, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

type Lines = BTreeMap<String, String>;

/// The sections of a file that we wrote.
pub(super) fn parse(text: &str) -> BTreeMap<String, Lines> {
    let mut sections: BTreeMap<String, Lines> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.entry(name.to_owned()).or_default();
            current = Some(name.to_owned());
        } else if let (Some(name), Some((key, value))) = (&current, line.split_once('=')) {
            sections.entry(name.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    sections
}

pub(super) fn render(sections: &BTreeMap<String, Lines>) -> String {
    let mut text = format!("{MARKER}\n");
    for (name, lines) in sections {
        let _ = writeln!(text, "[{name}]");
        for (key, value) in lines {
            let _ = writeln!(text, "{key}={value}");
        }
    }
    text
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let empty = BTreeMap::new();
    let old = match &have.file {
        File::Ours(sections, _) => sections,
        File::None | File::Barred(_) => &empty,
    };
    let mut plan = Plan::default();
    let (mut new, mut stale) = (BTreeMap::new(), vec![]);
    let names: BTreeSet<&String> = section.items.keys().chain(old.keys()).collect();
    for name in names {
        let item = section.items.get(name);
        let enforced = item.map_or(section.mode, |item| item.mode) == Mode::Enforce;
        let want = item.and_then(|item| item.kept());
        let mut told = ItemPlan::default();
        let was = old.get(name);
        told.facts = want.and(was).map(facts).unwrap_or_default();
        let should = match want {
            Some(want) => Some(lines(want, have.libpq, &mut told)),
            None => left(item.is_some(), was, &mut told),
        };
        if let (File::Barred(why), Some(_)) = (&have.file, want) {
            told.findings.push(Finding { verdict: Verdict::NonCompliant, reason: why.clone(), drift: None });
        } else {
            compare(was, should.as_ref(), &mut told);
            let keep = if enforced { should } else { was.cloned() };
            new.extend(keep.map(|lines| (name.clone(), lines)));
            if enforced && !told.drift.is_empty() {
                stale.push(name.clone());
            }
        }
        plan.items.insert(name.clone(), told);
    }
    if let File::Ours(_, text) = &have.file
        && stale.is_empty()
        && !new.is_empty()
        && *text != render(&new)
    {
        stale = edited(section, &mut plan);
    }
    if !stale.is_empty() {
        plan.tasks.push(Task { serves: stale, step: step(&new) });
    }
    plan
}

/// What the file says of keepalives: the hub compares the two ends of a path.
fn facts(lines: &Lines) -> BTreeMap<String, String> {
    let told = ["keepalives_idle", "keepalives_interval", "keepalives_count"];
    let told = told.into_iter().filter_map(|name| lines.get_key_value(name));
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn step(sections: &BTreeMap<String, Lines>) -> Step {
    if sections.is_empty() {
        return Step::RemoveFile { path: FILE.into() };
    }
    Step::WriteFile { path: FILE.into(), text: render(sections), mode: 0o644 }
}

/// What a section is to say; what the library here does not know is left out, and said.
fn lines(want: &Want, libpq: Option<u32>, told: &mut ItemPlan) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in &want.settings {
        let Some((_, _, since)) = want::find(name) else { continue };
        match libpq.filter(|here| here < since) {
            Some(here) => {
                let reason = format!(
                    "{name} is left out: the libpq of PostgreSQL {here} that is installed here does not know it, and would \
                     fail every connect"
                );
                told.findings.push(Finding { verdict: Verdict::Note, reason, drift: None });
            }
            None => {
                lines.insert(name.clone(), value.text().to_owned());
            }
        }
    }
    lines
}

/// What is left of a section that nobody wants: nothing where it is wished away, and an empty one where it merely left the
/// spec, because a client that still names it would not connect any more.
fn left(absent: bool, was: Option<&Lines>, told: &mut ItemPlan) -> Option<Lines> {
    if absent || was.is_none() {
        return None;
    }
    let reason =
        "left the spec: an empty section stays, because whoever names it would not connect any more; `absent: true` \
         takes it away"
            .to_owned();
    told.findings.push(Finding { verdict: Verdict::Note, reason, drift: None });
    Some(Lines::new())
}

fn compare(was: Option<&Lines>, should: Option<&Lines>, told: &mut ItemPlan) {
    let drift = |attr: &str, observed: Option<String>, desired: &str| Drift {
        attr: attr.to_owned(),
        layer: Layer::File(FILE.into()),
        observed,
        desired: desired.to_owned(),
    };
    match (was, should) {
        (None, None) => {}
        (Some(_), None) => told.drift.push(drift("section", Some("there".into()), "absent")),
        (was, Some(should)) => {
            let before = told.drift.len();
            let seen = |key: &String| was.and_then(|was| was.get(key));
            for (key, value) in should.iter().filter(|(key, value)| seen(key) != Some(*value)) {
                told.drift.push(drift(key, seen(key).cloned(), value));
            }
            for (key, value) in was.into_iter().flatten().filter(|(key, _)| !should.contains_key(*key)) {
                told.drift.push(drift(key, Some(value.clone()), "absent"));
            }
            if was.is_none() && told.drift.len() == before {
                told.drift.push(drift("section", None, "there"));
            }
        }
    }
}

/// The file says the right things and not in our words: somebody has edited it.
fn edited(section: &Section<Want>, plan: &mut Plan) -> Vec<String> {
    let enforced =
        |(name, _, item): (&str, _, &evenkeel_core::Item<Want>)| item.enforced().then(|| name.to_owned());
    let names: Vec<String> = section.kept().filter_map(enforced).collect();
    for name in &names {
        let drift = Drift {
            attr: "file".into(),
            layer: Layer::File(FILE.into()),
            observed: Some("edited by hand".into()),
            desired: "as evenkeel writes it".into(),
        };
        plan.items.entry(name.clone()).or_default().drift.push(drift);
    }
    names
}
