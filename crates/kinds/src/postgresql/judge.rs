//! Whether a parameter is in force, and who is in the way where it is not.

use super::There;
use super::parameters::{Context, Parameter};
use super::value::same;
use evenkeel_core::{PgFacts, PgSetting, Verdict};

/// How a parameter stands in the running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// In force.
    Met,
    /// The server has not read it yet: a reload.
    Unread(String),
    /// It waits for a restart.
    Restart(String),
    /// Something else wins: what it says, and who says it.
    Shadowed { value: String, by: String },
    /// The server has something against our line.
    Refused(String),
}

/// What wins over our drop-in among the files, whatever the server does.
pub(super) fn file_shadow(there: &There, parameter: &Parameter, value: &str) -> Option<Stand> {
    let said =
        there.cluster.auto.last(parameter.name).or_else(|| there.cluster.conf.after_us(parameter.name))?;
    if same(parameter, value, &said.value, None) {
        return None;
    }
    let hint = if there.cluster.auto.last(parameter.name).is_some() {
        format!("; ALTER SYSTEM RESET {} takes it out", parameter.name)
    } else {
        String::new()
    };
    let by = format!("{}:{}, which is read after ours{hint}", said.file.display(), said.line);
    Some(Stand::Shadowed { value: said.value.clone(), by })
}

/// How a parameter stands in a server that answered.
pub(super) fn stand(there: &There, facts: &PgFacts, parameter: &Parameter, value: &str) -> Stand {
    // What the server does not know is never asked about: see `unfit`.
    let Some(setting) = facts.settings.get(parameter.name) else { return Stand::Met };
    if let Some(shadow) = file_shadow(there, parameter, value) {
        return shadow;
    }
    let met = same(parameter, value, &setting.reset_val, setting.unit.as_deref());
    let seen = tell(setting);
    // What our own role or database has hides it from us.
    let hidden = there.cluster.command.get(parameter.name).filter(|_| session(&setting.source));
    if let Some(said) = hidden.filter(|said| !same(parameter, value, said, None)) {
        return Stand::Shadowed { value: said.clone(), by: "the server's command line".to_owned() };
    }
    if setting.source == "command line" && !met {
        return Stand::Shadowed { value: seen, by: "the server's command line".to_owned() };
    }
    if setting.pending_restart && !met {
        return Stand::Restart(seen);
    }
    // What a session gets from its own role or database says nothing of the files.
    if met || session(&setting.source) {
        return Stand::Met;
    }
    let ours = facts.file_settings.iter().rfind(|row| row.name.as_deref() == Some(parameter.name));
    match ours.filter(|row| row.file == there.cluster.drop_in).and_then(|row| row.error.clone()) {
        Some(_) if parameter.context == Context::Restart => Stand::Unread(seen),
        Some(why) => Stand::Refused(format!("{}: {why}", parameter.name)),
        None => Stand::Unread(seen),
    }
}

/// What a parameter is at the moment, in its unit; 16384 of 8kB are told as 131072kB.
pub(super) fn tell(setting: &PgSetting) -> String {
    let unit = setting.unit.as_deref().unwrap_or_default();
    let (count, plain) = unit.split_at(unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(unit.len()));
    match (count.parse::<i64>(), setting.reset_val.parse::<i64>()) {
        (Ok(count), Ok(n)) if n >= 0 => format!("{}{plain}", n.saturating_mul(count)),
        _ => format!("{}{plain}", setting.reset_val),
    }
}

/// Whether a value is a session's own, by its role or its database, and says nothing of the whole server.
pub(super) fn session(source: &str) -> bool {
    matches!(source, "database" | "user" | "database user" | "global" | "client" | "session")
}

/// Why a value must not be written for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// This major version does not know the parameter.
    Unknown(u32, &'static str),
    /// Its range is another one.
    Outside(String),
}

impl Unfit {
    /// What it makes of the item. What a path has promised goes without what an old server cannot do.
    pub(super) fn told(self, promised: bool) -> (Verdict, String) {
        match self {
            Self::Unknown(version, name) if promised => (
                Verdict::Note,
                format!("PostgreSQL {version} knows no {name}: what the path promises is kept without it"),
            ),
            Self::Unknown(version, name) => (
                Verdict::Error,
                format!("PostgreSQL {version} knows no {name}: take it out of the spec for this node"),
            ),
            Self::Outside(why) => (Verdict::Error, why),
        }
    }
}

/// Why a value must not be written for this server: a name that it does not know keeps it from reading any of its
/// files and from starting again, and the ranges of versions differ.
pub(super) fn unfit(there: &There, parameter: &Parameter, value: &str) -> Option<Unfit> {
    match (&there.facts, there.cluster.major) {
        (Ok(facts), _) => unfit_for(facts, parameter, value),
        (Err(_), Some(major)) => (parameter.since > major).then_some(Unfit::Unknown(major, parameter.name)),
        (Err(_), None) => None,
    }
}

/// The same for a server that answered.
pub(super) fn unfit_for(facts: &PgFacts, parameter: &Parameter, value: &str) -> Option<Unfit> {
    match facts.settings.get(parameter.name) {
        None => Some(Unfit::Unknown(facts.version / 10_000, parameter.name)),
        Some(setting) => outside(setting, parameter.name, value).map(Unfit::Outside),
    }
}

fn outside(setting: &PgSetting, name: &str, value: &str) -> Option<String> {
    if !setting.enumvals.is_empty() && !setting.enumvals.iter().any(|one| one == value) {
        return Some(format!("this server takes {} for {name}", setting.enumvals.join(", ")));
    }
    let (min, max): (f64, f64) =
        (setting.min_val.as_ref()?.parse().ok()?, setting.max_val.as_ref()?.parse().ok()?);
    let unit = setting.unit.as_deref().unwrap_or_default();
    let within = (min..=max).contains(&super::value::amount(value, unit)?);
    (!within).then(|| format!("this server takes {min} to {max} {unit} for {name}"))
}

/// Lines, ours apart, for which the server would apply nothing at all at a reload.
pub(super) fn blocking(there: &There) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for bad in there.cluster.conf.bad.iter().chain(&there.cluster.auto.bad) {
        lines.push(format!("{}:{}: {}", bad.file.display(), bad.line, bad.why));
    }
    let rows = there.facts.iter().flat_map(|facts| &facts.file_settings);
    for row in rows.filter(|row| row.file != there.cluster.drop_in) {
        // This one keeps only its own line from being applied.
        let Some(why) = row.error.as_deref().filter(|why| *why != "setting could not be applied") else {
            continue;
        };
        let place = format!("{}:{}: ", row.file.display(), row.line);
        if !lines.iter().any(|line| line.starts_with(&place)) {
            lines.push(format!("{place}{why}"));
        }
    }
    lines
}
