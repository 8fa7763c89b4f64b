//! A PostgreSQL server on this node, asked and told through its Unix socket.
//!
//! Never a restart, never a `setting` (over a Unix socket it tells the asking session's own), and never a wait without
//! an end. What a reload did is asked of new sessions, because a session that is there already says what it has read.

mod session;

use evenkeel_core::{Fault, PgFacts, PgFileSetting, PgOverride, PgQuestion, PgServer, PgSetting};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, Row};

/// How long the server may take to read its files again.
const RELOAD: Duration = Duration::from_secs(5);

const SETTINGS: &str = "
    SELECT asked, coalesce(reset_val, ''), vartype, unit, context, source, sourcefile, sourceline, pending_restart,
           min_val, max_val, coalesce(enumvals, '{}')
    FROM unnest($1::text[]) AS a(asked) JOIN pg_settings AS s ON lower(s.name) = lower(a.asked)";

const FILE_SETTINGS: &str = "
    SELECT coalesce(sourcefile, ''), coalesce(sourceline, 0), name, setting, coalesce(applied, false), error
    FROM pg_file_settings
    WHERE error IS NOT NULL OR lower(name) IN (SELECT lower(asked) FROM unnest($1::text[]) AS a(asked))
    ORDER BY seqno";

const OVERRIDES: &str = "
    SELECT r.rolname::text, d.datname::text, split_part(c.line, '=', 1), substr(c.line, strpos(c.line, '=') + 1)
    FROM pg_db_role_setting AS s
    LEFT JOIN pg_roles AS r ON r.oid = s.setrole
    LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
    CROSS JOIN unnest(s.setconfig) AS c(line)
    WHERE lower(split_part(c.line, '=', 1)) IN (SELECT lower(asked) FROM unnest($1::text[]) AS a(asked))
    ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3";

/// Where a line is bad enough, the server applies none of its files; then no row of the view is applied.
const ALL_REFUSED: &str = "
    SELECT coalesce(sourcefile, ''), coalesce(sourceline, 0), error FROM pg_file_settings
    WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_file_settings WHERE applied)
    ORDER BY seqno LIMIT 1";

const LOADED: &str = "SELECT pg_conf_load_time()::text";

/// Ask a server.
pub(crate) fn ask(server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault> {
    let doing = format!("ask PostgreSQL {server}");
    session::run(server, &doing, async |client: &Client| facts(client, &question.settings).await)
}

async fn facts(client: &Client, names: &Vec<String>) -> Result<PgFacts, Error> {
    let about = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()";
    let about = client.query_one(about, &[]).await?;
    let version = u32::try_from(about.try_get::<_, i32>(0)?).unwrap_or(0);
    let mut facts = PgFacts { version, in_recovery: about.try_get(1)?, ..PgFacts::default() };
    for row in client.query(SETTINGS, &[names]).await? {
        facts.settings.insert(row.try_get(0)?, setting(&row)?);
    }
    for row in client.query(FILE_SETTINGS, &[names]).await? {
        facts.file_settings.push(file_setting(&row)?);
    }
    for row in client.query(OVERRIDES, &[names]).await? {
        let (role, database) = (row.try_get(0)?, row.try_get(1)?);
        facts.overrides.push(PgOverride { role, database, setting: row.try_get(2)?, value: row.try_get(3)? });
    }
    Ok(facts)
}

fn setting(row: &Row) -> Result<PgSetting, Error> {
    Ok(PgSetting {
        reset_val: row.try_get(1)?,
        vartype: row.try_get(2)?,
        unit: row.try_get(3)?,
        context: row.try_get(4)?,
        source: row.try_get(5)?,
        sourcefile: row.try_get::<_, Option<String>>(6)?.map(Into::into),
        sourceline: row.try_get::<_, Option<i32>>(7)?.and_then(|line| u32::try_from(line).ok()),
        pending_restart: row.try_get(8)?,
        min_val: row.try_get(9)?,
        max_val: row.try_get(10)?,
        enumvals: row.try_get(11)?,
    })
}

fn file_setting(row: &Row) -> Result<PgFileSetting, Error> {
    Ok(PgFileSetting {
        file: row.try_get::<_, String>(0)?.into(),
        line: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0),
        name: row.try_get(2)?,
        setting: row.try_get(3)?,
        applied: row.try_get(4)?,
        error: row.try_get(5)?,
    })
}

/// Have a server read its files again, and come back when it has.
pub(crate) fn reload(server: &PgServer) -> Result<(), Fault> {
    let doing = format!("reload PostgreSQL {server}");
    let started = session::run(server, &doing, async |client: &Client| {
        if let Some(bad) = client.query_opt(ALL_REFUSED, &[]).await? {
            return Ok(Err(bad_line(&bad)?));
        }
        let before: Option<String> = client.query_one(LOADED, &[]).await?.try_get(0)?;
        client.execute("SELECT pg_reload_conf()", &[]).await?;
        Ok(Ok(before))
    })?;
    let before = started.map_err(|bad| {
        Fault::new(format!(
            "{doing}: {bad}; until that line is put right the server takes nothing from its files"
        ))
    })?;
    await_reload(server, &doing, before.as_ref())
}

fn bad_line(row: &Row) -> Result<String, Error> {
    let (file, line, error): (String, i32, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(format!("{file}:{line}: {error}"))
}

/// `pg_reload_conf()` only sends a signal, and says `t` whatever comes of it. A new session inherits from the
/// postmaster when that last read its files.
fn await_reload(server: &PgServer, doing: &str, before: Option<&String>) -> Result<(), Fault> {
    let (end, mut pause) = (Instant::now() + RELOAD, Duration::from_millis(2));
    loop {
        let now = session::run(server, doing, async |client: &Client| {
            client.query_one(LOADED, &[]).await?.try_get::<_, Option<String>>(0)
        })?;
        if now.as_ref() != before {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Fault::new(format!(
                "{doing}: it was asked to, and has not read its files again; see its log"
            )));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// A setting of a role, of a database, of a role in a database, or of every role.
pub(crate) fn alter(
    server: &PgServer,
    (role, database): (Option<&str>, Option<&str>),
    setting: &str,
    value: Option<&str>,
) -> Result<(), Fault> {
    let statement = statement((role, database), setting, value);
    let doing = format!("PostgreSQL {server}: {statement}");
    session::run(server, &doing, async |client: &Client| client.batch_execute(&statement).await)
}

fn statement((role, database): (Option<&str>, Option<&str>), setting: &str, value: Option<&str>) -> String {
    let whose = match (role, database) {
        (Some(role), Some(database)) => format!("ROLE {} IN DATABASE {}", name(role), name(database)),
        (Some(role), None) => format!("ROLE {}", name(role)),
        (None, Some(database)) => format!("DATABASE {}", name(database)),
        (None, None) => "ROLE ALL".to_owned(),
    };
    // `custom.setting` is two names.
    let setting: Vec<String> = setting.split('.').map(name).collect();
    let setting = setting.join(".");
    match value {
        Some(value) => format!("ALTER {whose} SET {setting} TO {}", literal(value)),
        None => format!("ALTER {whose} RESET {setting}"),
    }
}

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// An escape string, which means the same whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_quoted_so_that_nothing_gets_out_of_them() {
        let whose = (Some("a\"; DROP ROLE b; --"), Some("d"));
        assert_eq!(
            statement(whose, "work_mem", Some("1'; DROP\\")),
            "ALTER ROLE \"a\"\"; DROP ROLE b; --\" IN DATABASE \"d\" SET \"work_mem\" TO E'1\\'; DROP\\\\'"
        );
        assert_eq!(statement((None, Some("d")), "my.own", None), "ALTER DATABASE \"d\" RESET \"my\".\"own\"");
        assert_eq!(statement((None, None), "x", None), "ALTER ROLE ALL RESET \"x\"");
    }
}
