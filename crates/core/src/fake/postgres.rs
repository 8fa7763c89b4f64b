//! As much of a PostgreSQL as the laws need: it reads its files only when it is told to reload, says what it has
//! against them at any time, holds back what needs a restart, and refuses the whole reload for a syntax error.

use super::FakeNode;
use crate::{Fault, PgFacts, PgFileSetting, PgOverride, PgQuestion, PgReach, PgServer, PgSetting, Sensor};
use std::path::{Path, PathBuf};

impl FakeNode {
    pub(super) fn ask_postgres(&self, server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault> {
        let held =
            self.servers.get(&server.name).ok_or_else(|| Fault::new(format!("connect to {server}")))?;
        let asked = |name: &String| question.settings.contains(name);
        let mut facts = held.clone();
        facts.settings.retain(|name, _| asked(name));
        facts.overrides.retain(|one| asked(&one.setting));
        if let Some(rights) = facts.rights.as_mut().filter(|_| question.rights) {
            rights.alter_system.retain(|name| asked(name));
            rights.roles.retain(|name| question.roles.contains(name));
        } else {
            facts.rights = None;
        }
        facts.replication = facts.replication.filter(|_| question.replication);
        facts.backends.retain(|_| question.backends);
        if facts.refused.contains("pg_file_settings") {
            return Ok(facts);
        }
        facts.file_settings = self.file_rows(server, held);
        facts.file_settings.retain(|row| row.error.is_some() || row.name.as_ref().is_some_and(asked));
        Ok(facts)
    }

    pub(super) fn reload_postgres(&mut self, server: &PgServer) -> Result<(), Fault> {
        let Some(held) = self.servers.get(&server.name) else {
            return Err(Fault::new(format!("connect to {server}")));
        };
        if matches!(server.reach, PgReach::Remote(_)) {
            self.take_system(server);
            return Ok(());
        }
        let rows = self.file_rows(server, held);
        let fatal = |row: &PgFileSetting| row.error.as_ref().is_some_and(|why| !why.contains("applied"));
        // pg_reload_conf() says t even then.
        if rows.iter().any(fatal) {
            return Ok(());
        }
        let boot = self.pg_boot.clone();
        let Some(held) = self.servers.get_mut(&server.name) else { return Ok(()) };
        for (name, setting) in &mut held.settings {
            let row = rows.iter().rev().find(|row| row.name.as_ref() == Some(name));
            take(setting, row, boot.get(name));
        }
        Ok(())
    }

    pub(super) fn alter_postgres(
        &mut self,
        server: &PgServer,
        (role, database, setting): (&Option<String>, &Option<String>, &String),
        value: Option<&str>,
    ) -> Result<(), Fault> {
        let held = self.servers.get_mut(&server.name);
        let held = held.ok_or_else(|| Fault::new(format!("connect to {server}")))?;
        if held.in_recovery {
            return Err(Fault::new("cannot execute ALTER ROLE in a read-only transaction"));
        }
        let same =
            |one: &PgOverride| one.role == *role && one.database == *database && one.setting == *setting;
        held.overrides.retain(|one| !same(one));
        held.overrides.extend(value.map(|value| PgOverride {
            role: role.clone(),
            database: database.clone(),
            setting: setting.clone(),
            value: value.to_owned(),
            barred: false,
        }));
        // As the host asks for them.
        let whose = |one: &PgOverride| (one.role.clone(), one.database.clone(), one.setting.clone());
        held.overrides.sort_by_key(whose);
        Ok(())
    }

    pub(super) fn alter_postgres_system(
        &mut self,
        server: &PgServer,
        setting: &str,
        value: &str,
    ) -> Result<(), Fault> {
        let held = self.servers.get(&server.name);
        let held = held.ok_or_else(|| Fault::new(format!("connect to {server}")))?;
        let may = held.rights.as_ref().is_some_and(|rights| rights.alter_system.contains(setting));
        if !may {
            return Err(Fault::new(format!("permission denied to set parameter {setting}")));
        }
        self.pg_system.insert((server.name.clone(), setting.to_owned()), value.to_owned());
        Ok(())
    }

    /// A server whose files nobody sees takes up what `ALTER SYSTEM` has said.
    fn take_system(&mut self, server: &PgServer) {
        let (own, rest) = std::mem::take(&mut self.pg_system)
            .into_iter()
            .partition::<Vec<_>, _>(|((name, _), _)| *name == server.name);
        self.pg_system = rest.into_iter().collect();
        let Some(held) = self.servers.get_mut(&server.name) else { return };
        for ((_, name), value) in own {
            if let Some(setting) = held.settings.get_mut(&name) {
                setting.reset_val = normal(&value, setting);
                "configuration file".clone_into(&mut setting.source);
            }
        }
    }

    /// `pg_file_settings`, which reads the files whenever it is asked.
    fn file_rows(&self, server: &PgServer, held: &PgFacts) -> Vec<PgFileSetting> {
        let PgReach::Local { data_directory, .. } = &server.reach else { return vec![] };
        let mut rows = vec![];
        let debian = Path::new("/etc/postgresql").join(&server.name).join("postgresql.conf");
        let data = data_directory.join("postgresql.conf");
        self.parse(if self.files.contains_key(&debian) { &debian } else { &data }, &mut rows);
        self.parse(&data_directory.join("postgresql.auto.conf"), &mut rows);
        let names: Vec<Option<String>> = rows.iter().map(|row| row.name.clone()).collect();
        for (at, row) in rows.iter_mut().enumerate() {
            let Some(name) = &row.name else { continue };
            let last = !names[at + 1..].contains(&row.name);
            match held.settings.get(name) {
                None if name.contains('.') || row.error.is_some() => {}
                // The catalogue of a test names only some parameters; these are the ones no server knows.
                None if name.starts_with("no_such") => {
                    row.error = Some("unrecognized configuration parameter".into());
                }
                None => {}
                Some(setting) => {
                    let value = row.setting.as_deref().map(|value| normal(value, setting));
                    let moved = value.as_deref() != Some(setting.reset_val.as_str());
                    if last && setting.context == "postmaster" && moved {
                        row.error = Some("setting could not be applied".into());
                    }
                }
            }
            row.applied = last && row.error.is_none();
        }
        rows
    }

    fn parse(&self, file: &Path, rows: &mut Vec<PgFileSetting>) {
        let Ok(Some(text)) = self.read(file) else { return };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, rest) = line.split_once([' ', '=', '\t']).unwrap_or((line, ""));
            let rest = rest.trim_start_matches([' ', '=', '\t']);
            let (value, tail) = match rest.strip_prefix('\'') {
                Some(quoted) => quoted.rsplit_once('\'').unwrap_or((quoted, "")),
                None => rest.split_once([' ', '\t', '#']).unwrap_or((rest, "")),
            };
            let value = value.replace("''", "'");
            let near = file.parent().unwrap_or(file);
            match name {
                "include" | "include_if_exists" => self.parse(&near.join(&value), rows),
                "include_dir" => self.parse_folder(&near.join(&value), rows),
                _ => {
                    let tail = tail.trim();
                    let bare = rest.is_empty()
                        || (!rest.starts_with('\'')
                            && (value.contains([',', '/']) || value.matches('.').count() > 1));
                    let bad = bare || !(tail.is_empty() || tail.starts_with('#'));
                    rows.push(PgFileSetting {
                        file: file.to_owned(),
                        line: u32::try_from(number + 1).unwrap_or(u32::MAX),
                        name: (!bad).then(|| name.to_lowercase()),
                        setting: (!bad).then_some(value),
                        applied: false,
                        error: bad.then(|| "syntax error".to_owned()),
                    });
                }
            }
        }
    }

    fn parse_folder(&self, folder: &Path, rows: &mut Vec<PgFileSetting>) {
        let names = self.list(folder).ok().flatten().unwrap_or_default();
        for name in names.iter().filter(|name| name.as_bytes().ends_with(b".conf") && !name.starts_with('.'))
        {
            self.parse(&folder.join(name), rows);
        }
    }
}

fn take(setting: &mut PgSetting, row: Option<&PgFileSetting>, boot: Option<&String>) {
    let fixed = setting.source == "command line";
    let value = match row.and_then(|row| row.setting.as_deref()) {
        Some(value) => normal(value, setting),
        None => boot.map_or_else(|| setting.reset_val.clone(), |boot| normal(boot, setting)),
    };
    if fixed {
        return;
    }
    if setting.context == "postmaster" {
        setting.pending_restart = value != setting.reset_val;
        return;
    }
    setting.reset_val = value;
    setting.source = String::from(if row.is_some() { "configuration file" } else { "default" });
    setting.sourcefile = row.map(|row: &PgFileSetting| PathBuf::from(&row.file));
    setting.sourceline = row.map(|row| row.line);
}

/// A value in the parameter's own unit.
fn normal(value: &str, setting: &PgSetting) -> String {
    if setting.vartype == "bool" {
        return if ["on", "true", "yes", "1"].contains(&value) { "on" } else { "off" }.to_owned();
    }
    let digits = value.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &value.trim()[digits.len()..];
    let (Ok(number), Some(base)) = (digits.trim().parse::<i64>(), setting.unit.as_deref()) else {
        return value.to_owned();
    };
    match (scale(unit), scale(base.trim_start_matches(|c: char| c.is_ascii_digit()))) {
        (Some(given), Some(own)) if !unit.is_empty() => {
            let own = own * base.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap_or(1);
            (number * given / own).to_string()
        }
        _ => number.to_string(),
    }
}

fn scale(unit: &str) -> Option<i64> {
    Some(match unit {
        "us" | "B" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    })
}
