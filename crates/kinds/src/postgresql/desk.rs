//! Where a plan for the clusters is put together.

use super::conf::quote;
use super::judge::{self, Stand};
use super::parameters::Parameter;
use super::value::same;
use super::want::{self, Want};
use super::{DropIn, Have, Seen, There, debt};
use crate::owned::MARKER;
use evenkeel_core::{
    Drift, Finding, ItemPlan, Layer, Mode, PgFacts, PgOverride, PgServer, Plan, Section, Step, Task, Verdict,
};
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
    ItemPlan { drift: vec![], findings: vec![Finding { verdict, reason, drift: None }] }
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
            if let Some(why) = judge::unfit(self.there, &parameter, &value) {
                self.find(Verdict::Error, why, None);
                continue;
            }
            self.setting(&parameter, &value);
            lines.insert(parameter.name, value);
        }
        self.drop_in(&lines);
        if let Ok(facts) = &self.there.facts {
            self.roles(want, facts);
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
        self.overrides(parameter, value);
    }

    /// Settings of roles and databases that come after what the whole server has.
    fn overrides(&mut self, parameter: &Parameter, value: &str) {
        let Ok(facts) = &self.there.facts else { return };
        let other =
            |one: &&PgOverride| one.setting == parameter.name && !same(parameter, value, &one.value, None);
        for one in facts.overrides.iter().filter(other) {
            let (who, how) = whose(one);
            let why = format!(
                "{who} has {} = {} of its own; {how} RESET {} takes it out, or say it under roles",
                one.setting, one.value, one.setting
            );
            self.item.findings.push(Finding {
                verdict: Verdict::NonCompliant,
                reason: why,
                drift: Some(drift(&one.setting, Layer::Daemon, Some(one.value.clone()), value)),
            });
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
            .partition::<Vec<_>, _>(|one| one.layer == Layer::Daemon && !one.attr.starts_with("roles/"));
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

    fn roles(&mut self, want: &Want, facts: &PgFacts) {
        let Ok(server) = &self.there.cluster.server else { return };
        for (role, said) in &want.roles {
            for (name, value) in said {
                if value.inherits() {
                    self.inherit(role, name, facts, server);
                } else if let Some((parameter, value)) = want::settable(name, value) {
                    self.own(role, &parameter, &value, facts, server);
                }
            }
        }
    }

    /// A role that is to have nothing of its own.
    fn inherit(&mut self, role: &str, name: &str, facts: &PgFacts, server: &PgServer) {
        let mine = |one: &&PgOverride| one.role.as_deref() == Some(role) && one.setting == name;
        for one in facts.overrides.iter().filter(mine) {
            let at = one.database.as_ref().map(|database| format!("@{database}")).unwrap_or_default();
            let off = drift(
                format!("roles/{role}{at}/{name}"),
                Layer::Daemon,
                Some(one.value.clone()),
                want::INHERIT,
            );
            self.alter(off, facts, server, (role, one.database.clone()), name, None);
        }
        // The drift says it; the same once more as a finding would be noise.
        let told = |finding: &Finding| {
            finding.drift.as_ref().is_some_and(|one| {
                let whose = format!("role {role} ");
                one.attr == name && finding.reason.starts_with(&whose)
            })
        };
        self.item.findings.retain(|finding| !told(finding));
    }

    /// A role that is to have a value of its own.
    fn own(&mut self, role: &str, parameter: &Parameter, value: &str, facts: &PgFacts, server: &PgServer) {
        let name = parameter.name;
        let mine =
            facts.overrides.iter().filter(|one| one.role.as_deref() == Some(role) && one.setting == name);
        let (plain, within): (Vec<_>, Vec<_>) = mine.partition(|one| one.database.is_none());
        let seen = plain.first().map(|one| one.value.clone());
        if !seen.as_ref().is_some_and(|seen| same(parameter, value, seen, None)) {
            let off = drift(format!("roles/{role}/{name}"), Layer::Daemon, seen, value);
            self.alter(off, facts, server, (role, None), name, Some(value.to_owned()));
        }
        let whose = format!("role {role} ");
        let own = |finding: &Finding| {
            finding.drift.as_ref().is_some_and(|one| one.attr == name && finding.reason.starts_with(&whose))
        };
        self.item.findings.retain(|finding| !own(finding));
        for one in within.into_iter().filter(|one| !same(parameter, value, &one.value, None)) {
            let (who, how) = self::whose(one);
            let why = format!(
                "{who} has {name} = {}, over the role's {value}; {how} RESET {name} takes it out",
                one.value
            );
            let off = drift(format!("roles/{role}/{name}"), Layer::Daemon, Some(one.value.clone()), value);
            self.find(Verdict::NonCompliant, why, Some(off));
        }
    }

    fn alter(
        &mut self,
        off: Drift,
        facts: &PgFacts,
        server: &PgServer,
        (role, database): (&str, Option<String>),
        setting: &str,
        value: Option<String>,
    ) {
        if facts.in_recovery {
            let why = format!("{}: this is a standby; it comes from the primary", off.attr);
            return self.find(Verdict::Pending, why, Some(off));
        }
        self.item.drift.push(off);
        let (server, role, setting) = (server.clone(), Some(role.to_owned()), setting.to_owned());
        self.alters.push(Step::AlterPostgres { server, role, database, setting, value });
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

/// Who has a setting of its own, and the statement that begins to change it.
fn whose(one: &PgOverride) -> (String, String) {
    match (&one.role, &one.database) {
        (Some(role), Some(database)) => (
            format!("role {role} in database {database}"),
            format!("ALTER ROLE {role} IN DATABASE {database}"),
        ),
        (Some(role), None) => (format!("role {role}"), format!("ALTER ROLE {role}")),
        (None, Some(database)) => (format!("database {database}"), format!("ALTER DATABASE {database}")),
        (None, None) => ("every role".to_owned(), "ALTER ROLE ALL".to_owned()),
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
