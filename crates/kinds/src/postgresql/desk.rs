//! Where a plan for the clusters is put together.

use super::conf::quote;
use super::judge::{self, Stand};
use super::parameters::Parameter;
use super::roles::Roles;
use super::want::{self, Want};
use super::{DropIn, Have, Seen, There, debt, remote, standby, told};
use crate::owned::MARKER;
use evenkeel_core::{Drift, Finding, ItemPlan, Layer, Mode, Plan, Section, Step, Task, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// One cluster while it is being planned.
struct Bench<'a> {
    name: &'a str,
    there: &'a There,
    item: ItemPlan,
    /// What becomes of the drop-in.
    file: Option<Step>,
    /// The running server holds something else than its files say.
    unread: bool,
    alters: Vec<Step>,
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut plan = Plan::default();
    let mut taken: BTreeMap<&PathBuf, &str> = BTreeMap::new();
    for (name, seen) in &have.seen {
        let item = section.items.get(name);
        let mode = item.map_or(section.mode, |item| item.mode);
        let want = item.and_then(|item| item.kept());
        let (item, tasks) = match seen {
            Seen::There(there) => match *taken.entry(&there.cluster.drop_in).or_insert(name) {
                first if first != name => {
                    let why = format!(
                        "{first} is the same cluster, {}: keep one of the two",
                        there.cluster.main.display()
                    );
                    (only(Verdict::Error, why), vec![])
                }
                _ => cluster(name, want, there),
            },
            Seen::Remote(seen) => want.map(|want| remote::plan(want, seen)).unwrap_or_default(),
            Seen::Trouble(why) => (only(Verdict::Error, why.clone()), vec![]),
            Seen::None if want.is_some() => {
                let why =
                    format!("there is no cluster {name} on this node: no postgresql.conf was found for it");
                (only(Verdict::Error, why), vec![])
            }
            Seen::None => (ItemPlan::default(), vec![]),
        };
        if mode == Mode::Enforce {
            plan.tasks.extend(tasks.into_iter().map(|step| Task::new(name, step)));
        }
        plan.items.insert(name.clone(), item);
    }
    plan
}

fn only(verdict: Verdict, reason: String) -> ItemPlan {
    ItemPlan { findings: vec![Finding { verdict, reason, drift: None }], ..ItemPlan::default() }
}

fn cluster(name: &str, want: Option<&Want>, there: &There) -> (ItemPlan, Vec<Step>) {
    let (file, alters) = (None, vec![]);
    let mut bench = Bench { name, there, item: ItemPlan::default(), file, unread: false, alters };
    match want {
        Some(want) => bench.keep(want),
        None => bench.leave(),
    }
    bench.finish()
}

fn drift(
    attr: impl Into<String>,
    layer: Layer,
    observed: Option<String>,
    desired: impl Into<String>,
) -> Drift {
    Drift { attr: attr.into(), layer, observed, desired: desired.into() }
}

impl Bench<'_> {
    fn find(&mut self, verdict: Verdict, reason: String, drift: Option<Drift>) {
        self.item.findings.push(Finding { verdict, reason, drift });
    }

    fn layer(&self) -> Layer {
        Layer::File(self.there.cluster.drop_in.clone())
    }

    fn keep(&mut self, want: &Want) {
        let mut lines: BTreeMap<&str, String> = BTreeMap::new();
        for (parameter, value) in want::settings(want) {
            if let Some(unfit) = judge::unfit(self.there, &parameter, &value) {
                let known = want.promised.contains_key(parameter.name);
                let (verdict, why) = unfit.told(known);
                self.find(verdict, why, None);
                continue;
            }
            self.setting(&parameter, &value);
            lines.insert(parameter.name, value);
        }
        self.drop_in(&lines);
        if let (Ok(facts), Ok(server)) = (&self.there.facts, &self.there.cluster.server) {
            self.item.facts = told::facts(server, facts);
            let (item, alters) = (&mut self.item, &mut self.alters);
            Roles { want, facts, server, item, alters }.plan(&[]);
            self.item.findings.extend(standby::findings(want, facts));
        } else if !want.settings.is_empty() || !want.roles.is_empty() {
            self.silent();
        }
    }

    fn setting(&mut self, parameter: &Parameter, value: &str) {
        let stand = match &self.there.facts {
            Ok(facts) => judge::stand(self.there, facts, parameter, value),
            Err(_) => judge::file_shadow(self.there, parameter, value).unwrap_or(Stand::Met),
        };
        let name = parameter.name;
        match stand {
            Stand::Met => {}
            Stand::Unread(seen) => {
                self.item.drift.push(drift(name, Layer::Daemon, Some(seen), value));
                self.unread = true;
            }
            Stand::Restart(seen) => {
                let why = format!(
                    "{name} is {seen} and {value} is written: it takes a restart of {}, which evenkeel leaves to you",
                    self.name
                );
                self.find(Verdict::Pending, why, Some(drift(name, Layer::Daemon, Some(seen), value)));
            }
            Stand::Shadowed { value: seen, by } => {
                let why = format!("{name} is {seen} and not {value}: so says {by}");
                self.find(Verdict::NonCompliant, why, Some(drift(name, Layer::Daemon, Some(seen), value)));
            }
            Stand::Refused(why) => self.find(Verdict::Error, why, None),
        }
    }

    fn drop_in(&mut self, lines: &BTreeMap<&str, String>) {
        let path = self.there.cluster.drop_in.clone();
        let old = match &self.there.drop_in {
            DropIn::Barred(why) => {
                self.find(Verdict::Error, why.clone(), None);
                return self.yield_unread();
            }
            DropIn::None => None,
            DropIn::Ours(text) => Some(text.as_str()),
        };
        if lines.is_empty() {
            if old.is_some() {
                self.item.drift.push(drift("drop-in", self.layer(), Some("there".into()), "absent"));
                self.file = Some(Step::RemoveFile { path });
            }
            return;
        }
        if self.there.cluster.conf.ours.is_none() {
            let main = self.there.cluster.main.display();
            let why = format!(
                "{main} reads no conf.d, so nothing is written there: add the line `include_dir = 'conf.d'` at the end of \
                 {main}"
            );
            self.find(Verdict::Error, why, None);
            // What cannot be written is not to be reloaded for.
            self.yield_unread();
            return;
        }
        let text = render(lines);
        if old == Some(text.as_str()) {
            return;
        }
        let said = parsed(old.unwrap_or_default());
        let layer = self.layer();
        let before = self.item.drift.len();
        for (name, value) in lines {
            let observed = said.get(*name).cloned();
            if observed.as_ref() != Some(value) {
                self.item.drift.push(drift(*name, layer.clone(), observed, value));
            }
        }
        for (name, value) in said.iter().filter(|(name, _)| !lines.contains_key(name.as_str())) {
            self.item.drift.push(drift(name, layer.clone(), Some(value.clone()), "absent"));
        }
        if self.item.drift.len() == before {
            let observed = Some("edited by hand".to_owned());
            self.item.drift.push(drift("drop-in", layer, observed, "as evenkeel writes it"));
        }
        self.file = Some(Step::WriteFile { path, text, mode: 0o644 });
    }

    /// What the server has not read it will not read now: told, and no step.
    fn yield_unread(&mut self) {
        self.unread = false;
        let (unread, rest) = self
            .item
            .drift
            .drain(..)
            // What is a role's or a database's has a path for its name, and does not wait for a reload.
            .partition::<Vec<_>, _>(|one| one.layer == Layer::Daemon && !one.attr.contains('/'));
        self.item.drift = rest;
        for one in unread {
            let seen = one.observed.clone().unwrap_or_default();
            let why = format!("{} is {seen} and not {}", one.attr, one.desired);
            self.find(Verdict::NonCompliant, why, Some(one));
        }
    }

    fn silent(&mut self) {
        if let Err(why) = &self.there.facts {
            let why = format!("daemon layer unknown: {why}");
            self.find(Verdict::Pending, why, None);
        }
    }

    /// A cluster that the spec wishes away or does not name any more.
    fn leave(&mut self) {
        if let DropIn::Ours(_) = &self.there.drop_in {
            self.item.drift.push(drift("drop-in", self.layer(), Some("there".into()), "absent"));
            self.file = Some(Step::RemoveFile { path: self.there.cluster.drop_in.clone() });
        }
        if self.there.owed || self.file.is_some() {
            self.silent();
        }
    }

    fn finish(mut self) -> (ItemPlan, Vec<Step>) {
        let blocking = judge::blocking(self.there);
        for line in &blocking {
            let why = format!(
                "{line}: the server applies nothing at a reload, and would not start, until that is right"
            );
            self.find(Verdict::Error, why, None);
        }
        let up = self.there.facts.is_ok();
        let reload = up && blocking.is_empty();
        if self.unread && !reload {
            self.yield_unread();
        }
        if self.there.owed && reload && self.file.is_none() {
            self.item.drift.push(drift("reload", Layer::Daemon, Some("owed".into()), "done"));
        }
        let mut steps = vec![];
        let owes = self.file.is_some();
        if let Some(file) = self.file.take() {
            steps.extend([Step::Owe { debt: debt(self.name) }, file]);
        }
        let due = owes || self.unread || self.there.owed;
        if let (true, true, Ok(server)) = (reload, due, &self.there.cluster.server) {
            steps.push(Step::ReloadPostgres { server: server.clone() });
            if owes || self.there.owed {
                steps.push(Step::Settle { debt: debt(self.name) });
            }
        }
        steps.append(&mut self.alters);
        (self.item, steps)
    }
}

fn render(lines: &BTreeMap<&str, String>) -> String {
    let mut text = format!("{MARKER}\n");
    for (name, value) in lines {
        let _ = writeln!(text, "{name} = {}", quote(value));
    }
    text
}

/// What an old drop-in says.
fn parsed(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| super::conf::parse_line(line).ok().flatten()).collect()
}
