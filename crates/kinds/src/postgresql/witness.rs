//! One answer per parameter: every layer that speaks of it, weakest first, and which one a new session gets.
//!
//! Files in the order the server reads them, what `ALTER SYSTEM` left, the command line, databases, roles, roles in
//! databases; then the sessions that are open. A session's own `SET` shows nowhere but in the timers of its socket.

use super::conf::{Setting, parse_line};
use super::judge::{session, tell as shown};
use super::parameters::{self, Parameter};
use super::paths::{CHECK, KEEPING};
use super::value::same;
use super::want::Want;
use super::{cluster, live, question, roles};
use evenkeel_core::{
    Fault, Item, PgFacts, PgOverride, PgQuestion, PgServer, PgSetting, Section, Sensor, Witness, chain,
};
use std::collections::BTreeMap;

/// Everybody who says something of one item, or of one parameter in it.
pub(super) fn tell(
    section: &Section<Want>,
    item: &str,
    path: &str,
    node: &dyn Sensor,
) -> Result<Vec<Witness>, Fault> {
    let Some(want) = section.items.get(item).and_then(Item::kept) else { return Ok(vec![]) };
    let names = names(want, path);
    if names.is_empty() {
        return Ok(vec![]);
    }
    let open = names.iter().any(|name| KEEPING.contains(&name.as_str()) && name != CHECK);
    // What is asked besides tells what is wanted of a connection.
    let mut asked = PgQuestion { backends: open, replication: false, ..question(want) };
    asked.settings.extend(names.iter().cloned());
    asked.settings.sort();
    asked.settings.dedup();
    let ask = |server: &PgServer| node.postgres(server, &asked).map_err(|fault| chain(&fault));
    let (lines, command, server, facts) = if let Some(server) = &want.server {
        let server = server.reach(item);
        let facts = ask(&server);
        (vec![], BTreeMap::new(), Ok(server), facts)
    } else {
        let Some(found) = cluster::find(item, Some(want), node)? else { return Ok(vec![]) };
        let drop_in = node.read(&found.drop_in)?.unwrap_or_default();
        let facts = found.server.as_ref().map_err(Clone::clone).and_then(ask);
        (lines(&found, &drop_in), found.command, found.server, facts)
    };
    let mut told = vec![];
    for name in &names {
        let Some(parameter) = parameters::find(name) else { continue };
        let lines = lines.iter().filter(|line| line.name == *name).collect();
        let facts = facts.as_ref().map_err(String::as_str);
        let command = command.get(name).map(String::as_str);
        let mut rows = Layers { item, parameter, lines, command, facts }.rows();
        if names.len() > 1 {
            for row in &mut rows {
                row.value = format!("{name} = {}", row.value);
            }
        }
        told.append(&mut rows);
    }
    if let (true, None, Ok(facts), Ok(server)) = (open, &want.server, &facts, &server) {
        told.extend(live::connections(want, facts, server.port(), node));
    }
    Ok(told)
}

/// The parameters that are asked for: the one that a path names, or all that decide how connections are kept.
fn names(want: &Want, path: &str) -> Vec<String> {
    if let Some(last) = path.rsplit(['/', '.']).next().filter(|last| !last.is_empty()) {
        return parameters::find(last).map(|known| vec![known.name.to_owned()]).unwrap_or_default();
    }
    let mut names: Vec<String> = KEEPING.map(str::to_owned).to_vec();
    names.extend(want.promised.keys().filter(|name| !KEEPING.contains(&name.as_str())).cloned());
    names.retain(|name| want.settings.contains_key(name) || want.promised.contains_key(name));
    names
}

/// Every line of the files, our own drop-in among them, in the server's order.
fn lines(cluster: &cluster::Cluster, drop_in: &str) -> Vec<Setting> {
    let mut lines = cluster.conf.settings.clone();
    if let Some(at) = cluster.conf.ours {
        let own = (1u32..).zip(drop_in.lines()).filter_map(|(line, text)| {
            let (name, value) = parse_line(text).ok().flatten()?;
            Some(Setting { name, value, file: cluster.drop_in.clone(), line })
        });
        let own: Vec<Setting> = own.collect();
        lines.splice(at..at, own);
    }
    lines.extend(cluster.auto.settings.iter().cloned());
    lines
}

struct Layers<'a> {
    item: &'a str,
    parameter: Parameter,
    lines: Vec<&'a Setting>,
    /// What the command line says, where that could be read.
    command: Option<&'a str>,
    facts: Result<&'a PgFacts, &'a str>,
}

impl Layers<'_> {
    fn setting(&self) -> Option<&PgSetting> {
        self.facts.ok()?.settings.get(self.parameter.name)
    }

    fn server(&self) -> String {
        format!("PostgreSQL {}", self.item)
    }

    fn rows(&self) -> Vec<Witness> {
        let mut rows: Vec<Witness> = self.lines.iter().map(|line| of_line(line)).collect();
        let files = rows.len();
        rows.extend(self.held());
        let global = rows.len();
        rows.extend(self.overrides());
        // `ALTER ROLE ALL` is for everybody; the last before it counts otherwise.
        let everybody = rows.get(global).is_some_and(|row| row.layer == "every role");
        let winner = if everybody { Some(global) } else { global.checked_sub(1) };
        let Some(winner) = winner else { return rows };
        rows[winner].won = true;
        let place = rows[winner].place.clone();
        for (at, row) in rows[..global].iter_mut().enumerate().filter(|(at, _)| *at != winner) {
            let last = at + 1 == files && !everybody;
            let why = self.unread().filter(|_| last);
            row.note = Some(why.unwrap_or_else(|| format!("loses to {place}")));
        }
        if rows[winner].note.is_none() {
            rows[winner].note = Some("wins".to_owned());
        }
        rows
    }

    /// What the server holds, where it is not what the last line of its files says.
    fn held(&self) -> Option<Witness> {
        let row = |layer: &str, value: String, note: Option<String>| Witness {
            layer: layer.to_owned(),
            place: self.server(),
            value,
            note,
            won: false,
        };
        let Some(setting) = self.setting() else {
            let why = match self.facts {
                Err(why) => why.to_owned(),
                Ok(facts) => {
                    format!("PostgreSQL {} knows no {}", facts.version / 10_000, self.parameter.name)
                }
            };
            return self.lines.is_empty().then(|| row("server", "unknown".to_owned(), Some(why)));
        };
        // What our own role or database has hides it from us.
        let hidden = self.command.filter(|_| session(&setting.source)).map(str::to_owned);
        if let Some(value) = hidden.or_else(|| (setting.source == "command line").then(|| shown(setting))) {
            let note = "wins: it comes after every file, and changes with a restart only";
            return Some(row("command line", value, Some(note.to_owned())));
        }
        let read = |line: &&Setting| {
            let unit = setting.unit.as_deref();
            session(&setting.source) || same(&self.parameter, &line.value, &setting.reset_val, unit)
        };
        if self.lines.last().is_some_and(read) {
            return None;
        }
        if let (true, Some(file)) = (self.lines.is_empty(), &setting.sourcefile) {
            let place = setting.sourceline.map_or(String::new(), |line| format!(":{line}"));
            let place = format!("{}{place}", file.display());
            return Some(Witness { place, ..row("file", shown(setting), None) });
        }
        if session(&setting.source) {
            let note = format!("unknown: our own session has it from its {}", setting.source);
            return Some(row("server", "unknown".to_owned(), Some(note)));
        }
        let layer = if self.lines.is_empty() { setting.source.as_str() } else { "server" };
        Some(row(layer, shown(setting), None))
    }

    /// Why the last line of the files is not what the server holds.
    fn unread(&self) -> Option<String> {
        let setting = self.setting()?;
        let last = self.lines.last()?;
        if setting.source == "command line" {
            return None;
        }
        if setting.pending_restart {
            return Some("needs a restart".to_owned());
        }
        let rows = &self.facts.ok()?.file_settings;
        let refused = rows.iter().find(|row| row.file == last.file && row.line == last.line)?.error.clone();
        Some(refused.map_or_else(|| "not read yet".to_owned(), |why| format!("refused by the server: {why}")))
    }

    fn overrides(&self) -> Vec<Witness> {
        let Ok(facts) = self.facts else { return vec![] };
        let mut all: Vec<&PgOverride> =
            facts.overrides.iter().filter(|one| one.setting == self.parameter.name).collect();
        // As the server applies them: each over those before it.
        all.sort_by_key(|one| {
            (one.role.is_some(), one.role.is_some() && one.database.is_some(), one.database.is_some())
        });
        let row = |one: &&PgOverride| {
            let (who, how) = roles::told(one);
            let everybody = one.role.is_none() && one.database.is_none();
            let note = if everybody {
                "wins in every new session".to_owned()
            } else {
                format!("wins in new sessions of {who}")
            };
            let place = format!("{how} SET {}", one.setting);
            Witness { layer: who, place, value: one.value.clone(), note: Some(note), won: false }
        };
        all.iter().map(row).collect()
    }
}

fn of_line(line: &Setting) -> Witness {
    let layer = line.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let place = format!("{}:{}", line.file.display(), line.line);
    Witness { layer, place, value: line.value.clone(), note: None, won: false }
}
