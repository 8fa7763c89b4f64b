//! What roles and databases have of their own, over what the whole server says.
//!
//! Three things decide what becomes of such a value: what the spec says of that role, whether a path has promised the
//! parameter (then it is taken out), and whether it is ours to change. Anything else is told and left.

use super::parameters::Parameter;
use super::value::same;
use super::want::{self, Want};
use evenkeel_core::{Drift, Finding, ItemPlan, Layer, PgFacts, PgOverride, PgServer, Step, Verdict};

/// One server's overrides while they are planned.
pub(super) struct Roles<'a> {
    pub(super) want: &'a Want,
    pub(super) facts: &'a PgFacts,
    pub(super) server: &'a PgServer,
    pub(super) item: &'a mut ItemPlan,
    pub(super) alters: &'a mut Vec<Step>,
}

/// What an override of the spec's own making looks like: whose it is, of which parameter.
pub(super) type Whose = (Option<String>, Option<String>, String);

pub(super) fn whose(one: &PgOverride) -> Whose {
    (one.role.clone(), one.database.clone(), one.setting.clone())
}

impl Roles<'_> {
    /// Plan all of them, but for those that are planned `elsewhere`.
    pub(super) fn plan(&mut self, elsewhere: &[Whose]) {
        let want = self.want;
        for (role, said) in &want.roles {
            for (name, value) in said {
                if let Some((parameter, value)) = want::settable(name, value).filter(|_| !value.inherits()) {
                    self.own(role, &parameter, &value);
                }
            }
        }
        for one in &self.facts.overrides {
            if !elsewhere.contains(&whose(one)) {
                self.one(one);
            }
        }
    }

    fn one(&mut self, one: &PgOverride) {
        let name = &one.setting;
        let of_role = one.role.as_ref().and_then(|role| self.want.roles.get(role)?.get(name));
        let settable = |said| want::settable(name, said);
        if of_role.is_some_and(want::Value::inherits) {
            return self.take_out(one);
        }
        if let Some((parameter, value)) = of_role.and_then(settable) {
            // The role's own is planned in `own`; what it has in one database comes over that.
            let beside = one.database.is_none() || same(&parameter, &value, &one.value, None);
            return if beside {
            } else if self.want.resets(name) {
                self.take_out(one);
            } else {
                self.over_the_roles(one, &value);
            };
        }
        let server = self.want.settings.get(name).and_then(settable);
        match server {
            Some((parameter, value)) if same(&parameter, &value, &one.value, None) => {}
            _ if self.want.resets(name) => self.take_out(one),
            Some((_, value)) => self.over_the_servers(one, &value),
            None => {}
        }
    }

    /// An override that is to go.
    fn take_out(&mut self, one: &PgOverride) {
        let off = off(one, want::INHERIT);
        if one.barred && !self.facts.in_recovery {
            let (who, how) = told(one);
            let why = format!(
                "{who} has {} = {} of its own, which is not ours to take out: {how} RESET {} does",
                one.setting, one.value, one.setting
            );
            return self.find(Verdict::NonCompliant, why, off);
        }
        self.alter(off, whose(one), None, false);
    }

    fn over_the_roles(&mut self, one: &PgOverride, value: &str) {
        let (who, how) = told(one);
        let why = format!(
            "{who} has {} = {}, over the role's {value}; {how} RESET {} takes it out",
            one.setting, one.value, one.setting
        );
        let attr = format!("roles/{}/{}", one.role.as_deref().unwrap_or_default(), one.setting);
        let off = Drift { attr, ..off(one, value) };
        self.find(Verdict::NonCompliant, why, off);
    }

    fn over_the_servers(&mut self, one: &PgOverride, value: &str) {
        let (who, how) = told(one);
        let why = format!(
            "{who} has {} = {} of its own; {how} RESET {} takes it out, or say it under roles",
            one.setting, one.value, one.setting
        );
        let off = Drift { attr: one.setting.clone(), ..off(one, value) };
        self.find(Verdict::NonCompliant, why, off);
    }

    /// A role that is to have a value of its own.
    fn own(&mut self, role: &str, parameter: &Parameter, value: &str) {
        let name = parameter.name;
        let plain = |one: &&PgOverride| {
            one.role.as_deref() == Some(role) && one.setting == name && one.database.is_none()
        };
        let seen = self.facts.overrides.iter().find(plain);
        if seen.is_some_and(|seen| same(parameter, value, &seen.value, None)) {
            return;
        }
        let rights = self.facts.rights.as_ref();
        let barred = rights.is_some_and(|rights| !rights.superuser && !rights.roles.contains(role));
        let off = Drift {
            attr: format!("roles/{role}/{name}"),
            layer: Layer::Daemon,
            observed: seen.map(|seen| seen.value.clone()),
            desired: value.to_owned(),
        };
        self.alter(off, (Some(role.to_owned()), None, name.to_owned()), Some(value.to_owned()), barred);
    }

    /// Plan one statement, unless somebody else must say it.
    pub(super) fn alter(&mut self, off: Drift, whose: Whose, value: Option<String>, barred: bool) {
        if self.facts.in_recovery {
            let why = format!("{}: this is a standby; it comes from the primary", off.attr);
            return self.find(Verdict::Pending, why, off);
        }
        let (role, database, setting) = whose;
        let (server, setting) = (self.server.clone(), setting);
        let step = Step::AlterPostgres { server, role, database, setting, value };
        if barred {
            let seen = off.observed.as_deref().unwrap_or("nothing");
            let why = format!("{} is {seen} and not {}, and is not ours to change", off.attr, off.desired);
            return self.find(Verdict::NonCompliant, why, off);
        }
        self.item.drift.push(off);
        self.alters.push(step);
    }

    fn find(&mut self, verdict: Verdict, reason: String, off: Drift) {
        self.item.findings.push(Finding { verdict, reason, drift: Some(off) });
    }
}

/// An override as drift, under its own name: `roles/sahana@eden/work_mem`, `databases/eden/work_mem`.
fn off(one: &PgOverride, desired: &str) -> Drift {
    let whose = match (&one.role, &one.database) {
        (Some(role), Some(database)) => format!("roles/{role}@{database}"),
        (Some(role), None) => format!("roles/{role}"),
        (None, Some(database)) => format!("databases/{database}"),
        (None, None) => "roles/*".to_owned(),
    };
    Drift {
        attr: format!("{whose}/{}", one.setting),
        layer: Layer::Daemon,
        observed: Some(one.value.clone()),
        desired: desired.to_owned(),
    }
}

/// Who has a setting of its own, and the statement that begins to change it.
pub(super) fn told(one: &PgOverride) -> (String, String) {
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
