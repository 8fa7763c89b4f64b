//! A server that is reached through SQL alone: what may be said there is decided by what the server lets us do.
//!
//! In this order, and always the same for the same rights: the whole server (`ALTER SYSTEM` and a reload), the databases
//! that are ours, our own role. What none of them can do is told, with where it is to be done: in the provider's
//! parameter group. Nothing is ever restarted.

use super::judge::{self, session, tell};
use super::parameters::Parameter;
use super::roles::{Roles, Whose, whose};
use super::told;
use super::value::same;
use super::want::{self, Want};
use evenkeel_core::{
    Class, Drift, Finding, ItemPlan, Layer, PgFacts, PgOverride, PgRights, PgServer, PgSetting, Step, Verdict,
};

/// What was seen of it.
pub(super) struct Remote {
    pub(super) server: PgServer,
    /// What it answered, or why it did not.
    pub(super) facts: Result<PgFacts, (Class, String)>,
}

pub(super) fn plan(want: &Want, seen: &Remote) -> (ItemPlan, Vec<Step>) {
    let mut item = ItemPlan::default();
    match &seen.facts {
        Err((class, why)) => {
            let verdict = match class {
                Class::Waiting => Verdict::Pending,
                Class::NotApplicable => Verdict::NotApplicable,
                Class::Trouble => Verdict::Error,
            };
            let reason = format!("daemon layer unknown: {why}");
            item.findings.push(Finding { verdict, reason, drift: None });
            (item, vec![])
        }
        Ok(facts) => {
            item.facts = told::facts(&seen.server, facts);
            let none = PgRights::default();
            let rights = facts.rights.as_ref().unwrap_or(&none);
            let mut bench =
                Bench { want, facts, rights, server: &seen.server, item, system: vec![], alters: vec![] };
            let elsewhere = bench.settings();
            bench.finish(&elsewhere)
        }
    }
}

fn off(attr: String, observed: Option<String>, value: &str) -> Drift {
    Drift { attr, layer: Layer::Daemon, observed, desired: value.to_owned() }
}

struct Bench<'a> {
    want: &'a Want,
    facts: &'a PgFacts,
    rights: &'a PgRights,
    server: &'a PgServer,
    item: ItemPlan,
    system: Vec<Step>,
    alters: Vec<Step>,
}

/// Where a parameter can be said.
enum Route {
    System,
    Databases,
    OwnRole,
    Nowhere,
}

impl Bench<'_> {
    fn find(&mut self, verdict: Verdict, reason: String, drift: Option<Drift>) {
        self.item.findings.push(Finding { verdict, reason, drift });
    }

    /// Plan every parameter; the overrides through which some of them are said.
    fn settings(&mut self) -> Vec<Whose> {
        let mut elsewhere = vec![];
        for (parameter, value) in want::settings(self.want) {
            if let Some(unfit) = judge::unfit_for(self.facts, &parameter, &value) {
                let (verdict, why) = unfit.told(self.want.promised.contains_key(parameter.name));
                self.find(verdict, why, None);
            } else if let Some(setting) = self.facts.settings.get(parameter.name) {
                self.setting(&parameter, &value, setting, &mut elsewhere);
            }
        }
        elsewhere
    }

    /// What the whole server has, where that can be seen behind what our own role or database has.
    fn whole<'b>(&'b self, name: &str, setting: &'b PgSetting) -> Option<&'b str> {
        if !session(&setting.source) {
            return Some(&setting.reset_val);
        }
        let mut rows = self.facts.file_settings.iter();
        rows.rfind(|row| row.name.as_deref() == Some(name) && row.applied)?.setting.as_deref()
    }

    fn setting(
        &mut self,
        parameter: &Parameter,
        value: &str,
        setting: &PgSetting,
        elsewhere: &mut Vec<Whose>,
    ) {
        let name = parameter.name;
        let whole = self.whole(name, setting);
        let unit = setting.unit.as_deref();
        if whole.is_some_and(|whole| same(parameter, value, whole, unit)) {
            return;
        }
        let (known, seen) = (whole.is_some(), tell(setting));
        if setting.pending_restart {
            let why = format!(
                "{name} is {seen} and {value} is written: it takes a restart, which evenkeel leaves to you"
            );
            let off = off(name.to_owned(), Some(seen), value);
            return self.find(Verdict::Pending, why, Some(off));
        }
        // Once what hides it is gone, the next look knows more.
        if !known && self.hidden_by(name, parameter, value) {
            return;
        }
        match self.route(name, known, setting) {
            Route::System => {
                self.item.drift.push(off(name.to_owned(), Some(seen), value));
                let (server, setting) = (self.server.clone(), name.to_owned());
                self.system.push(Step::AlterSystem { server, setting, value: value.to_owned() });
            }
            Route::Databases => {
                let ours: Vec<Whose> = self
                    .rights
                    .databases
                    .iter()
                    .map(|one| (None, Some(one.clone()), name.to_owned()))
                    .collect();
                self.say(parameter, value, &ours);
                elsewhere.extend(ours);
                let ours: Vec<&str> = self.rights.databases.iter().map(String::as_str).collect();
                let why = format!(
                    "{name}: the whole server's is not ours to change, so the sessions of {} have {value} of their own; set \
                     it in the provider's parameter group for all others",
                    ours.join(", ")
                );
                // On a replica they have it only once the primary says so.
                if !self.facts.in_recovery {
                    self.find(Verdict::Note, why, None);
                }
            }
            Route::OwnRole => {
                let role = self.rights.role.clone();
                let ours = (Some(role.clone()), None, name.to_owned());
                self.say(parameter, value, std::slice::from_ref(&ours));
                elsewhere.push(ours);
                let uncovered = self.uncovered(parameter, value);
                let why = format!(
                    "{name}: the whole server's is not ours to change, so the sessions of role {role} have {value} of their \
                     own; set it in the provider's parameter group"
                );
                if uncovered.is_empty() {
                    return self.find(Verdict::Note, why, None);
                }
                let why = format!("{why} for {}", uncovered.join(", "));
                self.find(Verdict::NonCompliant, why, None);
            }
            Route::Nowhere => {
                let why = format!(
                    "{name} is {seen} and not {value}, and is not ours to change: set it in the provider's parameter group"
                );
                let off = off(name.to_owned(), Some(seen), value);
                self.find(Verdict::NonCompliant, why, Some(off));
            }
        }
    }

    /// Whether an override that is about to be taken out hides what the whole server has.
    fn hidden_by(&self, name: &str, parameter: &Parameter, value: &str) -> bool {
        let goes = |one: &PgOverride| {
            one.setting == name
                && self.want.resets(name)
                && !one.barred
                && !self.facts.in_recovery
                && one.role.as_ref().is_none_or(|role| *role == self.rights.role)
                && !one
                    .role
                    .as_ref()
                    .is_some_and(|role| self.want.roles.get(role).is_some_and(|said| said.contains_key(name)))
                && !same(parameter, value, &one.value, None)
        };
        self.facts.overrides.iter().any(goes)
    }

    fn route(&self, name: &str, known: bool, setting: &PgSetting) -> Route {
        let plain = setting.context == "user" || (self.rights.superuser && setting.context == "superuser");
        let restart = matches!(setting.context.as_str(), "postmaster" | "internal");
        // What the command line says, no `ALTER SYSTEM` changes.
        let system = known && self.rights.reload && !restart && setting.source != "command line";
        let own = !self.want.roles.get(&self.rights.role).is_some_and(|said| said.contains_key(name));
        if system && self.rights.alter_system.contains(name) {
            Route::System
        } else if plain && !self.rights.databases.is_empty() {
            Route::Databases
        } else if plain && own && !self.rights.role.is_empty() {
            Route::OwnRole
        } else {
            Route::Nowhere
        }
    }

    /// Have these say the value.
    fn say(&mut self, parameter: &Parameter, value: &str, ours: &[Whose]) {
        for one in ours {
            let seen = self.facts.overrides.iter().find(|seen| whose(seen) == *one);
            if seen.is_some_and(|seen| same(parameter, value, &seen.value, None)) {
                continue;
            }
            let attr = match one {
                (Some(role), ..) => format!("roles/{role}/{}", one.2),
                (None, database, _) => format!("databases/{}/{}", database.as_deref().unwrap_or("*"), one.2),
            };
            let off = off(attr, seen.map(|seen| seen.value.clone()), value);
            self.roles().alter(off, one.clone(), Some(value.to_owned()), false);
        }
    }

    /// Other roles that may log in and do not have the value.
    fn uncovered(&self, parameter: &Parameter, value: &str) -> Vec<String> {
        let has = |role: &String| {
            let own = |one: &&PgOverride| {
                one.role.as_ref() == Some(role) && one.database.is_none() && one.setting == parameter.name
            };
            self.facts.overrides.iter().find(own).is_some_and(|one| same(parameter, value, &one.value, None))
        };
        self.rights.others.iter().filter(|role| !has(role)).map(|role| format!("role {role}")).collect()
    }

    fn roles(&mut self) -> Roles<'_> {
        let (item, alters) = (&mut self.item, &mut self.alters);
        Roles { want: self.want, facts: self.facts, server: self.server, item, alters }
    }

    fn finish(mut self, elsewhere: &[Whose]) -> (ItemPlan, Vec<Step>) {
        self.roles().plan(elsewhere);
        let mut steps = self.system;
        if !steps.is_empty() {
            steps.push(Step::ReloadPostgres { server: self.server.clone() });
        }
        steps.append(&mut self.alters);
        (self.item, steps)
    }
}
