//! PostgreSQL servers, asked and told: those of this node through their Unix socket, others over TCP.
//!
//! Never a restart, never a `setting` (over a Unix socket it tells the asking session's own), and never a wait without
//! an end. What a reload did is asked of new sessions, because a session that is there already says what it has read.

mod conninfo;
mod facts;
mod remote;
pub(crate) mod secret;
mod session;
mod tls;
mod wary;

use evenkeel_core::{Fault, PgFacts, PgQuestion, PgReach, PgServer};
use std::time::{Duration, Instant};
pub(crate) use tls::Anybody;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row, SimpleQueryMessage};

/// How long the server may take to read its files again.
const RELOAD: Duration = Duration::from_secs(5);

/// Where a line is bad enough, the server applies none of its files; then no row of the view is applied.
const ALL_REFUSED: &str = "
    SELECT coalesce(sourcefile, ''), coalesce(sourceline, 0), error FROM pg_file_settings
    WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_file_settings WHERE applied)
    ORDER BY seqno LIMIT 1";

const LOADED: &str = "SELECT pg_conf_load_time()::text";

/// Ask a server.
pub(crate) fn ask(server: &PgServer, question: &PgQuestion) -> Result<PgFacts, Fault> {
    let doing = format!("ask PostgreSQL {server}");
    session::run(server, &doing, async |client: &Client| facts::ask(client, question).await)
}

/// The first value that a query answers, as a text, in a transaction that may only read. `None` for NULL, or no row.
///
/// With the rights of `role`, where one is said. The query is one statement: the server takes no more than one where a
/// statement is prepared.
pub(crate) fn first_value(
    server: &PgServer,
    (database, role): (Option<&str>, Option<&str>),
    query: &str,
    within: Duration,
) -> Result<Option<String>, Fault> {
    let mut server = server.clone();
    if let (PgReach::Remote(remote), Some(database)) = (&mut server.reach, database) {
        database.clone_into(&mut remote.database);
    }
    let doing = format!("ask PostgreSQL {server}");
    session::run_in(&server, (database, within), &doing, async |client: &Client| {
        client.batch_execute("BEGIN READ ONLY").await?;
        if let Some(role) = role {
            client.batch_execute(&format!("SET LOCAL ROLE {}", name(role))).await?;
        }
        client.prepare(query).await?;
        let told = client.simple_query(query).await?;
        let rows = told.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let first = rows.take(1).find_map(|row| row.try_get(0).ok().flatten().map(str::to_owned));
        client.batch_execute("ROLLBACK").await?;
        Ok(first)
    })
}

/// Have a server read its files again, and come back when it has.
pub(crate) fn reload(server: &PgServer) -> Result<(), Fault> {
    let doing = format!("reload PostgreSQL {server}");
    let started = session::run(server, &doing, async |client: &Client| {
        match client.query_opt(ALL_REFUSED, &[]).await {
            Ok(Some(bad)) => return Ok(Err(bad_line(&bad)?)),
            // Whoever may have it read its files need not be one who may see them.
            Err(error) if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Err(error),
            _ => {}
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

/// `ALTER SYSTEM SET`, which writes a file that only the server has.
pub(crate) fn alter_system(server: &PgServer, setting: &str, value: &str) -> Result<(), Fault> {
    let statement = format!("ALTER SYSTEM SET {} TO {}", dotted(setting), literal(value));
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
    let setting = dotted(setting);
    match value {
        Some(value) => format!("ALTER {whose} SET {setting} TO {}", literal(value)),
        None => format!("ALTER {whose} RESET {setting}"),
    }
}

/// The name of a parameter; `custom.setting` is two names.
fn dotted(setting: &str) -> String {
    setting.split('.').map(name).collect::<Vec<_>>().join(".")
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
